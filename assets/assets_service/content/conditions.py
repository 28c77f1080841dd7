"""Conditional requests (RFC 9110, section 13) for content that never changes and has no date."""

from dataclasses import dataclass
from email.utils import parsedate
from typing import Self

from starlette.datastructures import Headers

from servicekit.core.errors import PreconditionFailed
from servicekit.web.entity_tags import EntityTags, MalformedCondition, parse_entity_tags


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a request. Those on a date are ignored, because content has none (sections 13.1.3, 13.1.4)."""

    if_match: EntityTags | None
    if_none_match: EntityTags | None
    # Empty for a date, which never matches.
    if_range: EntityTags | None

    @classmethod
    def of(cls, headers: Headers) -> Self:
        """Read the headers. Raises `MalformedCondition`."""
        return cls(
            parse_entity_tags("If-Match", headers.getlist("if-match")),
            parse_entity_tags("If-None-Match", headers.getlist("if-none-match")),
            _parse_if_range(headers),
        )

    def is_unchanged(self, etag: str) -> bool:
        """Whether the client already has the content (304)."""
        # Weak comparison: the gateway or a cache may have weakened the tag.
        return self.if_none_match is not None and self.if_none_match.has(_opaque(etag))

    def check_match(self, etag: str) -> None:
        """Raise `PreconditionFailed` if the client expects other content."""
        if self.if_match is not None and not self.if_match.has_strong(_opaque(etag)):
            raise PreconditionFailed

    def range_applies(self, etag: str) -> bool:
        """Whether the Range header applies despite an If-Range header."""
        return self.if_range is None or _opaque(etag) in self.if_range.strong


def _parse_if_range(headers: Headers) -> EntityTags | None:
    """Return the tag of If-Range, an empty condition for a date, or None without the header."""
    text = headers.get("if-range")
    if text is None:
        return None
    if parsedate(text) is not None:
        return EntityTags()
    tags = parse_entity_tags("If-Range", [text])
    if tags is None or tags.any or len(tags.all) != 1:
        raise MalformedCondition("If-Range")
    return tags


def _opaque(etag: str) -> str:
    return etag.strip('"')
