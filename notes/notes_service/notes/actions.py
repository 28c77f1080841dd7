"""The actions that change notes."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from notes_service.notes.rendering import render_note
from notes_service.notes.rules import Note, new_note, next_version
from notes_service.notes.schemas import NoteIn
from notes_service.notes.search_terms import search_terms
from notes_service.preconditions import IfMatch, require
from servicekit.core.clock import Clock
from servicekit.core.errors import NotFound, ServiceUnavailable, UnprocessableContent
from servicekit.idempotency import IdempotentRequest, StoredResponse

# Only `If-Match: *` leads to a second try: it matches every version that a concurrent change may leave behind.
MAX_TRIES: Final = 10
# From this number of characters on, a text is split in a thread, so that other requests go on meanwhile.
LONG_TEXT: Final = 4 * 1024


class NoteNotFound(NotFound):
    """The note does not exist or belongs to another user; the response does not tell which."""

    detail = "There is no such note."


class AttachmentsRefused(UnprocessableContent):
    """Some assets do not exist or belong to another user; `errors` lists which."""

    detail = "Some attachments are not your assets; `errors` lists which."


class AttachmentsNotChecked(ServiceUnavailable):
    detail = "The attachments cannot be checked now. Try again."


class NoteContended(ServiceUnavailable):
    detail = "Others keep changing this note. Try again."


class NoteCreator(Protocol):
    async def find_stored(self, request: IdempotentRequest) -> StoredResponse | None:
        """Return the response to an earlier request with the same key, if any. Raises `KeyReused`."""

    async def create(
        self, request: IdempotentRequest, note: Note, terms: Sequence[str], response: StoredResponse
    ) -> StoredResponse:
        """Add the note and record its domain event, once per key; return `response`, or the stored one.

        Raises `KeyInUse` or `KeyReused`, and `InvalidToken` when the owner's account is deleted.
        """


class EditableNotes(Protocol):
    """The notes, each seen by its owner only."""

    async def find(self, owner_id: UUID, note_id: UUID) -> Note | None:
        """Return the note, or None."""

    async def find_version(self, owner_id: UUID, note_id: UUID) -> int | None:
        """Return the version of the note, or None."""

    async def save(self, note: Note, terms: Sequence[str]) -> Note | None:
        """Replace the previous version; return the note as stored, or None when it has another version."""

    async def remove(self, owner_id: UUID, note_id: UUID, version: int) -> bool:
        """Delete the note if it has this version; return whether it did."""


class Assets(Protocol):
    async def find_owned(self, user_id: UUID, asset_ids: Collection[UUID]) -> set[UUID]:
        """Return the assets that belong to the user. Raises `AttachmentsNotChecked`."""


class NoteActions:
    """Creates, changes and deletes notes for their owners."""

    def __init__(self, creator: NoteCreator, notes: EditableNotes, assets: Assets, clock: Clock) -> None:
        self._creator = creator
        self._notes = notes
        self._assets = assets
        self._clock = clock

    async def create(self, owner_id: UUID, content: NoteIn, request: IdempotentRequest) -> StoredResponse:
        """Create a note, once per key. Raises `AttachmentsRefused` or `AttachmentsNotChecked`."""
        if stored := await self._creator.find_stored(request):
            return stored
        await self._check_attachments(owner_id, content.attachments)
        note = new_note(owner_id, content, self._clock())
        # Slow work is done before the transaction.
        terms = await _search_terms_of(note)
        return await self._creator.create(request, note, terms, _created(note))

    async def change(self, owner_id: UUID, note_id: UUID, condition: IfMatch | None, fields: Mapping[str, Any]) -> Note:
        """Give fields new values and return the note.

        Raises `NoteNotFound`, then `PreconditionRequired` or `PreconditionFailed`, then the errors of `create`.
        """
        checked: set[UUID] = set()
        for _ in range(MAX_TRIES):
            note = await self._notes.find(owner_id, note_id)
            if note is None:
                raise NoteNotFound
            require(condition).check(note.version)
            changed = next_version(note, fields, self._clock())
            # Attachments were checked when they were added.
            checked.update(note.attachments)
            await self._check_attachments(owner_id, [item for item in changed.attachments if item not in checked])
            checked.update(changed.attachments)
            if saved := await self._notes.save(changed, await _search_terms_of(changed)):
                return saved
            # Another change came first. Looking again leads to 404 or 412, or with `*` to another try.
        raise NoteContended

    async def delete(self, owner_id: UUID, note_id: UUID, condition: IfMatch | None) -> None:
        """Delete the note, its public page included.

        Raises `NoteNotFound`, then `PreconditionRequired` or `PreconditionFailed`.
        """
        for _ in range(MAX_TRIES):
            version = await self._notes.find_version(owner_id, note_id)
            if version is None:
                raise NoteNotFound
            require(condition).check(version)
            if await self._notes.remove(owner_id, note_id, version):
                return
        raise NoteContended

    async def _check_attachments(self, owner_id: UUID, asset_ids: Sequence[UUID]) -> None:
        if not asset_ids:
            return
        owned = await self._assets.find_owned(owner_id, asset_ids)
        if missing := [asset_id for asset_id in asset_ids if asset_id not in owned]:
            raise AttachmentsRefused(
                errors=[
                    {"field": "body.attachments", "message": f"not one of your assets: {asset_id}"}
                    for asset_id in missing
                ]
            )


async def _search_terms_of(note: Note) -> list[str]:
    if len(note.body) < LONG_TEXT:
        return search_terms(note.title, note.body)
    return await asyncio.to_thread(search_terms, note.title, note.body)


def _created(note: Note) -> StoredResponse:
    headers = (
        ("Content-Type", "application/json"),
        ("Location", f"/api/v1/notes/{note.id}"),
        ("ETag", str(note.etag)),
        ("Cache-Control", "private, no-store"),
    )
    return StoredResponse(201, render_note(note), headers)
