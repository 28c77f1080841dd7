"""Range requests (RFC 9110, section 14). The gateway's NGINX decides in the same way."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from servicekit.core.errors import ServiceError

# More ranges than these suggest an attack; the response is then the whole file (section 17.15).
MAX_RANGES: Final = 16
_SPEC: Final = re.compile(r"(\d*)-(\d*)", re.ASCII)
# Larger numbers mean the same as this one: int() refuses to read thousands of digits.
_MAX_DIGITS: Final = 18
_NGINX_MOST: Final = 2**63 - 1


class RangeNotSatisfiable(ServiceError):
    """The file has none of the bytes that Range names. Content-Range has its size."""

    status = 416
    type = "urn:baseplate:problem:range-not-satisfiable"
    detail = "The file has no bytes in the requested range."

    def __init__(self, size: int) -> None:
        super().__init__(headers={"Content-Range": f"bytes */{size}"})


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` up to but not including `stop`."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """Return the Content-Range header for this part of a file of `size` bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse_ranges(header: str | None, size: int) -> Sequence[ByteRange]:
    """Return the requested parts of a file of `size` bytes, or nothing if the whole file is requested.

    Raises `RangeNotSatisfiable` if all parts lie beyond the file's end or the header is malformed.
    """
    if header is None or not header.lower().startswith("bytes="):
        return ()
    specs = header[len("bytes=") :].split(",")
    if len(specs) > MAX_RANGES:
        return ()
    ranges = [found for spec in specs if (found := _parse(spec.strip(" \t"), size))]
    if not ranges:
        raise RangeNotSatisfiable(size)
    # Parts that overlap this much cost more than the whole file.
    return ranges if sum(found.length for found in ranges) <= size else ()


def exceeds_64_bits(header: str | None) -> bool:
    """Whether the header has a number for which NGINX responds with 416."""
    return any(int(number[:20]) > _NGINX_MOST for number in re.findall(r"[1-9]\d{18,}", header or "", re.ASCII))


def _parse(spec: str, size: int) -> ByteRange | None:
    """Return the part, or None if it lies beyond the file's end. Raises `RangeNotSatisfiable`."""
    match = _SPEC.fullmatch(spec)
    if match is None or spec == "-":
        raise RangeNotSatisfiable(size)
    first, last = (number.lstrip("0") or number[:1] for number in match.groups())
    if not first:
        start, stop = max(0, size - _clamped(last)), size
    else:
        if last and (len(last), last) < (len(first), first):
            raise RangeNotSatisfiable(size)
        start, stop = _clamped(first), min(size, _clamped(last) + 1) if last else size
    return ByteRange(start, stop) if start < stop else None


def _clamped(number: str) -> int:
    return int(number) if len(number) <= _MAX_DIGITS else 10**_MAX_DIGITS
