"""What must be set in the process before the first import of torch."""


def prepare_process() -> None:
    """Prepare this process for a verb that computes; called before anything heavy is imported."""
