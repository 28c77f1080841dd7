"""Conditional requests (RFC 9110, section 13): entity tags, If-Match and If-None-Match.

The entity tag of a note, such as `"7-2"`, has its version and the number of times that it was published or withdrawn.
If-None-Match compares the whole tag. If-Match compares the version alone: an edit does not undo a publication that
happened meanwhile. The prefix `W/` makes no difference, because the compression of the gateway makes tags weak.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Header
from pydantic import WithJsonSchema

from servicekit.core.errors import PreconditionFailed, PreconditionRequired
from servicekit.web.entity_tags import EntityTags, parse_entity_tags


@dataclass(frozen=True, slots=True)
class EntityTag:
    """The entity tag of a note."""

    version: int
    publication: int

    def __str__(self) -> str:
        """Return the value of the header ETag."""
        return f'"{self.version}-{self.publication}"'


@dataclass(frozen=True, slots=True)
class IfMatch:
    """The versions that a request may change. None stands for `*`: any version."""

    versions: frozenset[int] | None

    def check(self, version: int) -> None:
        """Raise `PreconditionFailed` unless the condition matches this version."""
        if self.versions is not None and version not in self.versions:
            raise PreconditionFailed


def parse_if_match(values: Sequence[str]) -> IfMatch | None:
    """Return the condition, or None without the header. Tags that are not ours match no version.

    Raises `MalformedCondition`.
    """
    tags = parse_entity_tags("If-Match", values)
    if tags is None:
        return None
    if tags.any:
        return IfMatch(None)
    parts = (tag.partition("-")[0] for tag in tags.all)
    # A version has at most nine digits. Python refuses to parse numbers of thousands of digits.
    return IfMatch(frozenset(int(part) for part in parts if re.fullmatch(r"[0-9]{1,9}", part)))


def is_current(tag: EntityTag | str, if_none_match: EntityTags | None) -> bool:
    """Whether the client has this representation already, so that the response is 304."""
    return if_none_match is not None and if_none_match.has(str(tag).strip('"'))


def require(condition: IfMatch | None) -> IfMatch:
    """Return the condition. Raises `PreconditionRequired` without one.

    Callers find the note first: a user who may not see it gets 404.
    """
    if condition is None:
        raise PreconditionRequired
    return condition


# Several header lines are one list (RFC 9110, section 5.3). The schema shows the single text that clients send.
_TEXT: Final = WithJsonSchema({"type": "string", "examples": ['"7-2"']})


async def _if_match(
    values: Annotated[
        list[str] | None,
        _TEXT,
        Header(alias="If-Match", description="The ETag of the version to change, or `*`. Required: 428 without it."),
    ] = None,
) -> IfMatch | None:
    return parse_if_match(values or ())


async def _if_none_match(
    values: Annotated[
        list[str] | None,
        _TEXT,
        Header(alias="If-None-Match", description="The ETag that you have. The response is 304 while it is current."),
    ] = None,
) -> EntityTags | None:
    return parse_entity_tags("If-None-Match", values or ())


ExpectedVersion = Annotated[IfMatch | None, Depends(_if_match)]
"""The If-Match of the request, or None."""

KnownEntityTags = Annotated[EntityTags | None, Depends(_if_none_match)]
"""The If-None-Match of the request, or None."""
