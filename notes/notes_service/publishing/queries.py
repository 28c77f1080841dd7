"""The query that reads published notes."""

from typing import Protocol

from notes_service.preconditions import EntityTag
from notes_service.publishing.schemas import PublicNote
from servicekit.core.errors import NotFound


class PageNotFound(NotFound):
    detail = "There is no published note at this address."


class PublicPages(Protocol):
    async def find_page(self, slug: str) -> tuple[PublicNote, EntityTag] | None:
        """Return the note that is published under this slug with its entity tag, or None."""


class PublicationQueries:
    """Reads published notes, for anyone."""

    def __init__(self, pages: PublicPages) -> None:
        self._pages = pages

    async def get(self, slug: str) -> tuple[PublicNote, EntityTag]:
        """Return a published note and its entity tag. Raises `PageNotFound`."""
        page = await self._pages.find_page(slug)
        if page is None:
            raise PageNotFound
        return page
