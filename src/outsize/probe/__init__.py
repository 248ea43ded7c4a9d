"""Measures a machine through the stores."""
