"""What publishes notes, and withdraws them."""

import secrets
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from notes_service.notes.actions import NoteContended, NoteNotFound
from notes_service.notes.rules import milliseconds
from servicekit.core.clock import Clock

# 144 bits: nobody finds a page by guessing, and 24 characters of base64url without padding.
SLUG_BYTES: Final = 18
MAX_TRIES: Final = 5


class Publishes(Protocol):
    async def publish(self, owner_id: UUID, note_id: UUID, slug: str, now: datetime) -> bool:
        """Give the note a slug unless it has one; return whether it did."""

    async def withdraw(self, owner_id: UUID, note_id: UUID) -> bool:
        """Take the note's slug away; return whether it had one."""

    async def slug(self, owner_id: UUID, note_id: UUID) -> tuple[bool, str | None]:
        """Return whether the owner has this note, and its slug."""


class PublicationActions:
    """Publishes and withdraws notes for their owners."""

    def __init__(self, publications: Publishes, clock: Clock) -> None:
        self._publications = publications
        self._clock = clock

    async def publish(self, owner_id: UUID, note_id: UUID) -> str:
        """Publish the note if it is not; return its slug. Raises `NoteNotFound`."""
        for _ in range(MAX_TRIES):
            slug = secrets.token_urlsafe(SLUG_BYTES)
            if await self._publications.publish(owner_id, note_id, slug, milliseconds(self._clock())):
                return slug
            exists, given = await self._publications.slug(owner_id, note_id)
            if not exists:
                raise NoteNotFound
            if given is not None:
                return given
            # It was withdrawn between the two looks.
        raise NoteContended

    async def withdraw(self, owner_id: UUID, note_id: UUID) -> None:
        """Make the note private; nothing happens to one that is. Raises `NoteNotFound`."""
        if await self._publications.withdraw(owner_id, note_id):
            return
        exists, _ = await self._publications.slug(owner_id, note_id)
        if not exists:
            raise NoteNotFound
