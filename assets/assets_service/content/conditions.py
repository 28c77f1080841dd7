"""Conditional requests for content that never changes (RFC 9110, section 13)."""

from typing import Final

from starlette.datastructures import Headers

from servicekit.core.errors import PreconditionFailed

_ANY: Final = "*"


def is_unchanged(headers: Headers, etag: str) -> bool:
    """Whether the client has the content already (304)."""
    wanted = headers.get("if-none-match")
    # Weak comparison: the gateway, or a cache on the way, may have weakened the tag.
    return wanted is not None and (wanted.strip() == _ANY or etag in _tags(wanted, weak=True))


def check_match(headers: Headers, etag: str) -> None:
    """Raise `PreconditionFailed` where the client expects other content."""
    wanted = headers.get("if-match")
    if wanted is not None and wanted.strip() != _ANY and etag not in _tags(wanted, weak=False):
        raise PreconditionFailed


def range_applies(headers: Headers, etag: str) -> bool:
    """Whether If-Range, if there is one, lets the Range be answered. A date never does: there is none to compare."""
    wanted = headers.get("if-range")
    return wanted is None or wanted.strip() == etag


def _tags(header: str, *, weak: bool) -> set[str]:
    tags = (tag.strip() for tag in header.split(","))
    return {tag.removeprefix("W/") if weak else tag for tag in tags}
