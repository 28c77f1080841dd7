"""Published notes in requests and responses."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from servicekit.web.json_body import RequestBody


class Published(BaseModel):
    """The address of a published note. `url` is a path on the host of the platform."""

    slug: str
    url: str


class Author(BaseModel):
    """The author of a published note, as anyone sees it."""

    id: UUID
    username: str
    display_name: str


class PublicAttachment(BaseModel):
    """A file of a published note. `url` is a path on the host of the platform, and needs no token."""

    id: UUID
    filename: str
    media_type: str
    size: int
    url: str


class PublicNote(BaseModel):
    """A published note as anyone sees it."""

    title: str
    body: str
    published_at: datetime
    author: Author | None = Field(description="Null while the user service is unavailable.")
    attachments: list[PublicAttachment] | None = Field(description="Null while the assets service is unavailable.")


class PublishedFileRequest(RequestBody):
    """Does the note that is published under this slug have this file?"""

    slug: str
    asset_id: UUID


class PublishedFileResponse(BaseModel):
    """Whether it does."""

    published: bool
