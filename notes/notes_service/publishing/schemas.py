"""Published notes as they are answered."""

from datetime import datetime

from pydantic import BaseModel


class Published(BaseModel):
    """Where a published note can be read. `url` is a path below the address of the platform."""

    slug: str
    url: str


class PublicNote(BaseModel):
    """A published note as everybody sees it."""

    title: str
    body: str
    published_at: datetime
