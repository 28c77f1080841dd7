"""How many streams are open."""

from collections.abc import Iterator
from contextlib import contextmanager


class OpenStreams:
    """Counts open streams."""

    def __init__(self) -> None:
        self.open = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count a stream while the context is open."""
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1
