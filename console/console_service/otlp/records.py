"""What OTLP messages are decoded into, and the limits of what is taken from them.

Senders are our own processes, but a mistake in one must not fill the console's memory: texts are cut, and a resource
has bounded numbers of attributes.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

Attributes = Mapping[str, Any]

NAME_CHARACTERS: Final = 200
TEXT_CHARACTERS: Final = 8_192
TRACEBACK_CHARACTERS: Final = 32_768
MAX_ATTRIBUTES: Final = 64
# Lists and maps within a value, one inside the other.
MAX_DEPTH: Final = 4


class Malformed(ValueError):
    """The message is not OTLP. The text says what is wrong with it, and quotes nothing."""


class Source(NamedTuple):
    """The process that sent something. `replica` and `pid` are the two parts of `service.instance.id`."""

    service: str
    replica: str
    pid: str
    version: str


class SpanRecord(NamedTuple):
    """A span. Ids are hexadecimal; times are nanoseconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: str
    started: int
    ended: int
    failed: bool
    attributes: dict[str, Any]


class LogRecord(NamedTuple):
    """A line of a log. `at` is in milliseconds since the epoch."""

    at: int
    level: str
    event: str
    message: str
    trace_id: str | None
    attributes: dict[str, Any]


class NumberPoint(NamedTuple):
    """The value of a counter or a gauge."""

    name: str
    labels: Mapping[str, str]
    value: float


class HistogramPoint(NamedTuple):
    """A cumulative histogram: `counts` has one more element than `bounds`, and is not cumulative over buckets."""

    name: str
    labels: Mapping[str, str]
    counts: tuple[int, ...]
    bounds: tuple[float, ...]


Point = NumberPoint | HistogramPoint

# Names of the span kinds 0 to 5.
KINDS: Final = ("internal", "internal", "server", "client", "producer", "consumer")
FAILED_STATUS: Final = 2


def source_of(attributes: Attributes) -> Source:
    """Return the sender that a resource's attributes describe."""
    service = name(attributes.get("service.name")) or "unknown"
    replica, _, pid = name(attributes.get("service.instance.id")).rpartition("/")
    # The exporter of OpenTelemetry's SDK makes a UUID of its own.
    return Source(service, replica or service, pid, name(attributes.get("service.version")))


def name(value: Any) -> str:
    """Return a short text."""
    return value[:NAME_CHARACTERS] if isinstance(value, str) else ""


def labels_of(attributes: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Return the labels of a data point."""
    return {key[:NAME_CHARACTERS]: str(value)[:NAME_CHARACTERS] for key, value in attributes}


def cut(value: Any, limit: int = TEXT_CHARACTERS) -> Any:
    """Return a text within its limit, and any other value as it is."""
    return value[:limit] if isinstance(value, str) and len(value) > limit else value
