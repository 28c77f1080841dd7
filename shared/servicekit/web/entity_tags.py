"""Entity tags in conditional requests (RFC 9110, sections 8.8.3 and 13.1)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from servicekit.core.errors import BadRequest

# Bytes beyond ASCII are allowed, and decoded as Latin-1.
_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_LIST: Final = re.compile(r'[ \t,]*+(?:(?:W/)?"[\x21\x23-\x7e\x80-\xff]*+"[ \t]*+(?:,[ \t,]*+|$))++')


class MalformedCondition(BadRequest):
    """A conditional header cannot be read, mostly because an entity tag is not in double quotes."""

    type: ClassVar[str] = "urn:baseplate:problem:malformed-condition"

    def __init__(self, header: str) -> None:
        super().__init__(
            f'{header} must have entity tags as ETag sends them, in double quotes, such as "7-2"; several are '
            "separated by commas."
        )


@dataclass(frozen=True, slots=True)
class EntityTags:
    """The tags that a condition names, without their quotes. With `any` it is `*`."""

    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()
    any: bool = False

    @property
    def all(self) -> frozenset[str]:
        return self.strong | self.weak

    def has(self, tag: str) -> bool:
        """Whether a tag is named, weak or strong, or all are."""
        return self.any or tag in self.strong or tag in self.weak

    def has_strong(self, tag: str) -> bool:
        """Whether a tag is named as a strong one, or all are."""
        return self.any or tag in self.strong


def parse_entity_tags(header: str, values: Sequence[str]) -> EntityTags | None:
    """Return the condition in all lines of a header, or None without the header. Raises `MalformedCondition`."""
    if not values:
        return None
    text = ",".join(values).strip(" \t")
    if text == "*":
        return EntityTags(any=True)
    if not _LIST.fullmatch(text):
        raise MalformedCondition(header)
    tags = _TAG.findall(text)
    return EntityTags(
        strong=frozenset(tag for weak, tag in tags if not weak), weak=frozenset(tag for weak, tag in tags if weak)
    )
