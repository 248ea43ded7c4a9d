"""Machines as files: the profile that was measured here, read and written without torch."""
