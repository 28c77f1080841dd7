"""What is logged during a test."""

from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger


@contextmanager
def logged_lines(level: str = "DEBUG") -> Iterator[list[str]]:
    """Yield the list of messages, with their tracebacks, that this process logs meanwhile.

    An application that is built meanwhile ends it, because it replaces all sinks.
    """
    lines: list[str] = []
    sink = logger.add(
        lambda message: lines.append(message.removesuffix("\n")), level=level, format="{message}", diagnose=False
    )
    try:
        yield lines
    finally:
        logger.remove(sink)
