"""Conditional requests (RFC 9110, section 13): entity tags, If-Match and If-None-Match.

A note's tag names its version and, after a hyphen, how often it was published or withdrawn: `"7-2"`. If-None-Match
compares all of it. If-Match compares the version alone, because an edit takes nothing away from a publication that
happened meanwhile. Tags with and without `W/` are the same here: the gateway's compression makes strong ones weak.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Header
from pydantic import WithJsonSchema

from servicekit.core.errors import PreconditionFailed, PreconditionRequired

# RFC 9110, section 8.8.3, but for the bytes above ASCII, which we never send.
_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')
_LIST: Final = re.compile(r'[ \t,]*(?:(?:W/)?"[\x21\x23-\x7e]*"[ \t]*(?:,[ \t,]*|$))*')


@dataclass(frozen=True, slots=True)
class Tag:
    """What a note's entity tag says."""

    version: int
    publication: int

    def __str__(self) -> str:
        """Return the tag as the header ETag has it."""
        return f'"{self.version}-{self.publication}"'


@dataclass(frozen=True, slots=True)
class IfMatch:
    """The versions that a change may apply to; None for `*`, any version that there is."""

    versions: frozenset[int] | None

    def check(self, version: int) -> None:
        """Accept the version that there is. Raises `PreconditionFailed`."""
        if self.versions is not None and version not in self.versions:
            raise PreconditionFailed


def parse_if_match(values: Sequence[str]) -> IfMatch | None:
    """Return the condition, or None without the header. What is no list of our tags matches no version."""
    if not values:
        return None
    text = ",".join(values).strip(" \t")
    if text == "*":
        return IfMatch(None)
    parts = (tag.partition("-")[0] for tag in _tags(text))
    # Nine digits: a longer number is no version of ours, and is not computed.
    return IfMatch(frozenset(int(part) for part in parts if re.fullmatch(r"[0-9]{1,9}", part)))


def is_current(tag: Tag, if_none_match: Sequence[str]) -> bool:
    """Whether the client has this very representation already, so that 304 is the answer."""
    text = ",".join(if_none_match).strip(" \t")
    return text == "*" or str(tag).strip('"') in _tags(text)


def required(condition: IfMatch | None) -> IfMatch:
    """Return the condition. Raises `PreconditionRequired` without one.

    Whether somebody may see the note is decided before this.
    """
    if condition is None:
        raise PreconditionRequired
    return condition


def _tags(text: str) -> list[str]:
    return _TAG.findall(text) if _LIST.fullmatch(text) else []


# Header lines of one name are one list (RFC 9110, section 5.3), which clients send as one text.
_ONE_TEXT: Final = WithJsonSchema({"type": "string", "examples": ['"7-2"']})


async def _if_match(
    values: Annotated[
        list[str] | None,
        _ONE_TEXT,
        Header(alias="If-Match", description="The ETag of the version that is changed, or `*`. Required: 428 without."),
    ] = None,
) -> IfMatch | None:
    return parse_if_match(values or ())


async def _if_none_match(
    values: Annotated[
        list[str] | None,
        _ONE_TEXT,
        Header(alias="If-None-Match", description="The ETag that you have: 304 when it is still current."),
    ] = None,
) -> Sequence[str]:
    return values or ()


ExpectedVersion = Annotated[IfMatch | None, Depends(_if_match)]
"""The request's If-Match, or None."""

KnownTags = Annotated[Sequence[str], Depends(_if_none_match)]
"""The values of If-None-Match, none without the header."""
