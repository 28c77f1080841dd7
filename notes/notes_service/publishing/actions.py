"""The actions that publish notes and withdraw them."""

import secrets
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from notes_service.notes.actions import NoteContended, NoteNotFound
from servicekit.core.clock import Clock, to_milliseconds

# 144 bits cannot be guessed, and fill 24 characters of base64url without padding.
SLUG_BYTES: Final = 18
MAX_TRIES: Final = 5


class Publications(Protocol):
    async def publish(self, owner_id: UUID, note_id: UUID, slug: str, now: datetime) -> bool:
        """Give the note a slug unless it has one; return whether it did."""

    async def withdraw(self, owner_id: UUID, note_id: UUID) -> bool:
        """Remove the slug of the note; return whether it had one."""

    async def find_slug(self, owner_id: UUID, note_id: UUID) -> tuple[bool, str | None]:
        """Return whether the owner has this note, and its slug."""


class PublicationActions:
    """Publishes and withdraws notes for their owners."""

    def __init__(self, publications: Publications, clock: Clock) -> None:
        self._publications = publications
        self._clock = clock

    async def publish(self, owner_id: UUID, note_id: UUID) -> str:
        """Publish the note if it is private; return its slug. Raises `NoteNotFound`."""
        for _ in range(MAX_TRIES):
            slug = secrets.token_urlsafe(SLUG_BYTES)
            if await self._publications.publish(owner_id, note_id, slug, to_milliseconds(self._clock())):
                return slug
            exists, current = await self._publications.find_slug(owner_id, note_id)
            if not exists:
                raise NoteNotFound
            if current is not None:
                return current
            # It was withdrawn between the two queries.
        raise NoteContended

    async def withdraw(self, owner_id: UUID, note_id: UUID) -> None:
        """Make the note private if it is published. Raises `NoteNotFound`."""
        if await self._publications.withdraw(owner_id, note_id):
            return
        exists, _ = await self._publications.find_slug(owner_id, note_id)
        if not exists:
            raise NoteNotFound
