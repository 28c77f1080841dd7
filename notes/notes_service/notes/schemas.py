"""Notes in requests and responses."""

import unicodedata
from datetime import datetime
from typing import Annotated, Final, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field

from servicekit.core.text import normalize_visible
from servicekit.web.json_body import RequestBody

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_TAGS: Final = 20
TAG_LENGTH: Final = 50
MAX_ATTACHMENTS: Final = 100

Item = TypeVar("Item", str, UUID)


def _check_size(body: str) -> str:
    # A character has up to four bytes, and the database bounds bytes.
    if len(body.encode()) > MAX_BODY_BYTES:
        raise ValueError(f"must have at most {MAX_BODY_BYTES} bytes in UTF-8")
    return body


def normalize_tag(text: str) -> str:
    """Return the one form of all tags that look like this one. Raises ValueError if it cannot be shown."""
    return normalize_visible(text, TAG_LENGTH)


def normalize_tag_filter(text: str) -> str:
    """Return the tag to look for. What cannot be a tag finds nothing. Raises ValueError if it is too long."""
    if len(unicodedata.normalize("NFC", text)) > TAG_LENGTH:
        raise ValueError(f"at most {TAG_LENGTH} characters")
    try:
        return normalize_tag(text)
    except ValueError:
        return text


def _without_repetitions(items: list[Item]) -> list[Item]:
    return list(dict.fromkeys(items))


Title = Annotated[str, Field(min_length=1, max_length=200, examples=["Shopping list"])]
Body = Annotated[
    str,
    AfterValidator(_check_size),
    Field(max_length=MAX_BODY_BYTES, description="At most 1 MiB in UTF-8.", examples=["Apples and bread"]),
]
Tag = Annotated[
    str,
    # Another form of a tag may be longer than the one that counts.
    Field(max_length=512, examples=["home"], json_schema_extra={"minLength": 1, "maxLength": TAG_LENGTH}),
    AfterValidator(normalize_tag),
]
TagFilter = Annotated[
    str, Field(max_length=512, json_schema_extra={"maxLength": TAG_LENGTH}), AfterValidator(normalize_tag_filter)
]
Tags = Annotated[
    list[Tag],
    FailFast(),
    AfterValidator(_without_repetitions),
    Field(max_length=MAX_TAGS, description="Repeated ones count once."),
]
Attachments = Annotated[
    list[UUID],
    FailFast(),
    AfterValidator(_without_repetitions),
    Field(max_length=MAX_ATTACHMENTS, description="Ids of your own assets; repeated ones count once."),
]


class NoteIn(RequestBody):
    """The whole content of a note that is created or replaced."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"title": "Shopping list", "body": "Apples and bread", "tags": ["home"]}]}
    )

    title: Title
    body: Body = ""
    tags: Tags = Field(default_factory=list)
    attachments: Attachments = Field(default_factory=list)


class NoteChange(RequestBody):
    """Some fields of a note. Omitted fields stay as they are; null is not allowed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"body": "Apples, bread and tea"}]})

    # The defaults are never used: only the fields in `model_fields_set` are changed.
    title: Title = Field(default_factory=str)
    body: Body = Field(default_factory=str)
    tags: Tags = Field(default_factory=list)
    attachments: Attachments = Field(default_factory=list)


class NoteOut(BaseModel):
    """A note as its owner sees it. `slug` is null while the note is private."""

    id: UUID
    title: str
    body: str
    tags: list[str]
    attachments: list[UUID]
    slug: str | None
    created_at: datetime
    updated_at: datetime


class NoteItem(NoteOut):
    """A note of a list, with its version."""

    etag: str = Field(description="What the header ETag of the note says; send it as If-Match.", examples=['"7-2"'])
