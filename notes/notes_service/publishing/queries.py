"""What reads published notes."""

from typing import Protocol

from notes_service.preconditions import Tag
from notes_service.publishing.schemas import PublicNote
from servicekit.core.errors import NotFound


class PageNotFound(NotFound):
    detail = "There is no published note at this address."


class FindsPages(Protocol):
    async def page(self, slug: str) -> tuple[PublicNote, Tag] | None:
        """Return the note that is published under this slug, and what its ETag says."""


class PublicationQueries:
    """Looks at published notes, for everybody."""

    def __init__(self, pages: FindsPages) -> None:
        self._pages = pages

    async def get(self, slug: str) -> tuple[PublicNote, Tag]:
        """Return a published note and what its ETag says. Raises `PageNotFound`."""
        page = await self._pages.page(slug)
        if page is None:
            raise PageNotFound
        return page
