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

# RFC 9110, section 8.8.3, without the bytes above ASCII, which we never send.
_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')
_LIST: Final = re.compile(r'[ \t,]*(?:(?:W/)?"[\x21\x23-\x7e]*"[ \t]*(?:,[ \t,]*|$))*')


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
    """Return the condition, or None without the header. Values that are not our tags match no version."""
    if not values:
        return None
    text = ",".join(values).strip(" \t")
    if text == "*":
        return IfMatch(None)
    parts = (tag.partition("-")[0] for tag in _tags(text))
    # A version has at most nine digits. Python refuses to parse numbers of thousands of digits.
    return IfMatch(frozenset(int(part) for part in parts if re.fullmatch(r"[0-9]{1,9}", part)))


def is_current(tag: EntityTag, if_none_match: Sequence[str]) -> bool:
    """Whether the client has this representation already, so that the response is 304."""
    text = ",".join(if_none_match).strip(" \t")
    return text == "*" or str(tag).strip('"') in _tags(text)


def require(condition: IfMatch | None) -> IfMatch:
    """Return the condition. Raises `PreconditionRequired` without one.

    Callers find the note first: a user who may not see it gets 404.
    """
    if condition is None:
        raise PreconditionRequired
    return condition


def _tags(text: str) -> list[str]:
    return _TAG.findall(text) if _LIST.fullmatch(text) else []


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
) -> Sequence[str]:
    return values or ()


ExpectedVersion = Annotated[IfMatch | None, Depends(_if_match)]
"""The If-Match of the request, or None."""

KnownEntityTags = Annotated[Sequence[str], Depends(_if_none_match)]
"""The values of If-None-Match, empty without the header."""
