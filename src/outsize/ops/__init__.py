"""Numerics as free functions, a plain reference beside the fast one."""
