"""The one executor loop and what a run tells its watchers."""
