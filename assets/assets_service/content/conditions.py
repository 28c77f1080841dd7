"""Conditional requests (RFC 9110, section 13) for content that never changes."""

from typing import Final

from starlette.datastructures import Headers

from servicekit.core.errors import PreconditionFailed

_ANY: Final = "*"


def is_unchanged(headers: Headers, etag: str) -> bool:
    """Whether the client already has the content (304)."""
    wanted = headers.get("if-none-match")
    # Weak comparison: the gateway or a cache may have weakened the tag.
    return wanted is not None and (wanted.strip() == _ANY or etag in _tags(wanted, weak=True))


def check_match(headers: Headers, etag: str) -> None:
    """Raise `PreconditionFailed` if the client expects other content."""
    wanted = headers.get("if-match")
    if wanted is not None and wanted.strip() != _ANY and etag not in _tags(wanted, weak=False):
        raise PreconditionFailed


def range_applies(headers: Headers, etag: str) -> bool:
    """Whether the Range header applies despite an If-Range header. A date never matches, for content has no date."""
    wanted = headers.get("if-range")
    return wanted is None or wanted.strip() == etag


def _tags(header: str, *, weak: bool) -> set[str]:
    tags = (tag.strip() for tag in header.split(","))
    return {tag.removeprefix("W/") if weak else tag for tag in tags}
