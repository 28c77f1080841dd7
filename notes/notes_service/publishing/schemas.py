"""Published notes in responses."""

from datetime import datetime

from pydantic import BaseModel


class Published(BaseModel):
    """The address of a published note. `url` is a path on the host of the platform."""

    slug: str
    url: str


class PublicNote(BaseModel):
    """A published note as anyone sees it."""

    title: str
    body: str
    published_at: datetime
