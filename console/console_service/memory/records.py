"""The records as they are kept, and their sizes.

They are tuples of texts and numbers: the smallest form that Python has for them, apart from packed bytes. What few
values share, such as a route, is one object (`Names`), which counts for the record that brought it.
"""

from sys import getsizeof
from typing import Any, Final, NamedTuple

MAX_NAMES: Final = 5_000


class Origin(NamedTuple):
    """The replica that a record is from. All records of a replica share it."""

    service: str
    replica: str


class RequestRecord(NamedTuple):
    """A request that a service or the gateway has served. `at` is in milliseconds since the epoch."""

    number: int
    at: int
    origin: Origin
    method: str
    route: str
    path: str
    status: int
    ms: float
    request_id: str
    trace_id: str | None
    user_id: str | None
    caller: str | None

    @property
    def size(self) -> int:
        """The bytes that this record alone needs."""
        return (
            _REQUEST_BYTES + getsizeof(self.path) + getsizeof(self.request_id) + _optional(self.trace_id, self.user_id)
        )


class LogLine(NamedTuple):
    """A line of a log. `fields` is JSON."""

    number: int
    at: int
    origin: Origin
    level: str
    logger: str
    message: str
    request_id: str | None
    trace_id: str | None
    traceback: str | None
    fields: bytes

    @property
    def size(self) -> int:
        """The bytes that this record alone needs."""
        owned = _optional(self.request_id, self.trace_id, self.traceback)
        return _LINE_BYTES + getsizeof(self.message) + getsizeof(self.fields) + owned


class Span(NamedTuple):
    """A span of a trace. Times are in nanoseconds; `attributes` is JSON."""

    trace_id: str
    span_id: str
    parent_id: str | None
    origin: Origin
    name: str
    kind: str
    started: int
    duration: int
    failed: bool
    attributes: bytes

    @property
    def size(self) -> int:
        """The bytes that this record alone needs."""
        owned = _optional(self.parent_id) + getsizeof(self.attributes)
        return _SPAN_BYTES + getsizeof(self.trace_id) + getsizeof(self.span_id) + owned


class Names:
    """Makes equal names one object."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._new_bytes = 0

    def shared(self, name: str) -> str:
        """Return the one object for this name."""
        known = self._names.get(name)
        if known is None:
            if len(self._names) >= MAX_NAMES:
                # Records keep their names. Those that come back are counted anew.
                self._names.clear()
            self._names[name] = known = name
            self._new_bytes += getsizeof(name) + _ENTRY_BYTES
        return known

    def take_new_bytes(self) -> int:
        """Return the bytes of the names that are new since the last call."""
        new, self._new_bytes = self._new_bytes, 0
        return new


def _optional(*values: Any) -> int:
    return sum(getsizeof(value) for value in values if value is not None)


_ENTRY_BYTES: Final = 100
_NUMBERS: Final = 1 << 40
_ORIGIN: Final = Origin("", "")
# Each with its own numbers; a status is above what Python keeps as one object.
_REQUEST_BYTES: Final = getsizeof(RequestRecord(0, 0, _ORIGIN, "", "", "", 0, 0.0, "", None, None, None)) + sum(
    map(getsizeof, (_NUMBERS, _NUMBERS, 500, 1.5))
)
_LINE_BYTES: Final = getsizeof(LogLine(0, 0, _ORIGIN, "", "", "", None, None, None, b"")) + 2 * getsizeof(_NUMBERS)
_SPAN_BYTES: Final = getsizeof(Span("", "", None, _ORIGIN, "", "", 0, 0, False, b"")) + 2 * getsizeof(_NUMBERS << 20)
