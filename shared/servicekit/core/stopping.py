"""Whether this process is about to stop, for responses that would never end by themselves."""

_stopping = False


def begin() -> None:
    """Say that the process stops. The server calls it before it waits for the responses in progress."""
    global _stopping
    _stopping = True


def is_stopping() -> bool:
    """Return whether a response without an end must come to one now."""
    return _stopping
