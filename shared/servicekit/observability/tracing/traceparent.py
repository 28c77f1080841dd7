"""The header `traceparent` (W3C Trace Context, section 3.2): version, trace id, parent id, flags.

Only version 00 is read. A header of a later version, like a malformed one, starts a new trace.
"""

import random
import re
from typing import Final

# Ids of zeros only are invalid.
_FORMAT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# The flag `sampled` is the lowest bit.
_SAMPLED: Final = frozenset("13579bdf")


def is_valid(traceparent: str) -> bool:
    """Return whether this is a well-formed header; the functions below accept no others."""
    return _FORMAT.fullmatch(traceparent) is not None


def is_sampled(traceparent: str) -> bool:
    """Return whether the sender records this trace."""
    return traceparent[-1] in _SAMPLED


def trace_id_of(traceparent: str) -> str:
    return traceparent[3:35]


def parent_id_of(traceparent: str) -> str:
    return traceparent[36:52]


def format_traceparent(trace_id: str, span_id: str, *, sampled: bool) -> str:
    """Return the header that makes `span_id` the parent of the receiver's span."""
    return f"00-{trace_id}-{span_id}-0{sampled:d}"


def new_trace_id() -> str:
    """Return 32 hexadecimal digits. They need to be unique, not secret."""
    return f"{random.getrandbits(128) or 1:032x}"


def new_span_id() -> str:
    """Return 16 hexadecimal digits."""
    return f"{random.getrandbits(64) or 1:016x}"
