"""What changes notes."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from notes_service.notes.rules import Note, changed, new_note
from notes_service.notes.schemas import NoteIn, NoteOut
from notes_service.notes.search_terms import words_of
from notes_service.preconditions import IfMatch, required
from servicekit.core.clock import Clock
from servicekit.core.errors import NotFound, ServiceUnavailable, UnprocessableContent
from servicekit.idempotency import IdempotentRequest, StoredResponse

# Only `If-Match: *` gets beyond the first: it stands for whichever version the others leave behind.
MAX_TRIES: Final = 10
# Characters from which on a text is not taken apart between other requests, but beside them.
LONG_TEXT: Final = 32 * 1024


class NoteNotFound(NotFound):
    """There is none, or it is somebody else's: nobody learns which."""

    detail = "There is no such note."


class AttachmentsRefused(UnprocessableContent):
    """Assets do not exist or belong to somebody else; `errors` says which."""

    detail = "Some attachments are no assets of yours; `errors` lists which."


class AttachmentsNotChecked(ServiceUnavailable):
    detail = "The attachments cannot be checked now. Try again."


class NoteContended(ServiceUnavailable):
    detail = "Others keep changing this note. Try again."


class CreatesNotes(Protocol):
    async def stored(self, attempt: IdempotentRequest) -> StoredResponse | None:
        """Return the answer that this attempt got before. Raises `KeyReused`."""

    async def create(
        self, attempt: IdempotentRequest, note: Note, words: Sequence[str], answer: StoredResponse
    ) -> StoredResponse:
        """Add the note and tell others of it, once per attempt; return the answer, or the stored one."""


class ChangesNotes(Protocol):
    async def find(self, owner_id: UUID, note_id: UUID) -> Note | None:
        """Return the note if it is this owner's."""

    async def find_version(self, owner_id: UUID, note_id: UUID) -> int | None:
        """Return the note's version if it is this owner's."""

    async def save(self, note: Note, words: Sequence[str]) -> Note | None:
        """Store the note in place of the version before; return it as stored, or None when that is not there."""

    async def remove(self, owner_id: UUID, note_id: UUID, version: int) -> bool:
        """Delete the note if it has this version; return whether it did."""


class KnowsAssets(Protocol):
    async def owned(self, user_id: UUID, asset_ids: Collection[UUID]) -> set[UUID]:
        """Return those of the assets that the user has. Raises `AttachmentsNotChecked`."""


class NoteActions:
    """Creates, changes and deletes notes for their owners."""

    def __init__(self, ledger: CreatesNotes, notes: ChangesNotes, assets: KnowsAssets, clock: Clock) -> None:
        self._ledger = ledger
        self._notes = notes
        self._assets = assets
        self._clock = clock

    async def create(self, owner_id: UUID, content: NoteIn, attempt: IdempotentRequest) -> StoredResponse:
        """Create a note once per attempt. Raises `AttachmentsRefused` or `AttachmentsNotChecked`."""
        if stored := await self._ledger.stored(attempt):
            return stored
        await self._check_attachments(owner_id, content.attachments)
        note = new_note(owner_id, content, self._clock())
        # Before the transaction, like everything that takes its time.
        words = await words_by_which(note)
        return await self._ledger.create(attempt, note, words, created(note))

    async def change(self, owner_id: UUID, note_id: UUID, condition: IfMatch | None, fields: Mapping[str, Any]) -> Note:
        """Give fields new values and return the note.

        Raises `NoteNotFound`, then `PreconditionRequired` or `PreconditionFailed`, then as `create` does.
        """
        known: set[UUID] = set()
        for _ in range(MAX_TRIES):
            note = await self._notes.find(owner_id, note_id)
            if note is None:
                raise NoteNotFound
            required(condition).check(note.version)
            new = changed(note, fields, self._clock())
            # What was attached before was checked before.
            known.update(note.attachments)
            await self._check_attachments(owner_id, [item for item in new.attachments if item not in known])
            known.update(new.attachments)
            if saved := await self._notes.save(new, await words_by_which(new)):
                return saved
            # Somebody was faster: look again, which ends in 404 or 412, or for `*` in another try.
        raise NoteContended

    async def delete(self, owner_id: UUID, note_id: UUID, condition: IfMatch | None) -> None:
        """Delete the note, its public page included. Raises as `change` does."""
        for _ in range(MAX_TRIES):
            version = await self._notes.find_version(owner_id, note_id)
            if version is None:
                raise NoteNotFound
            required(condition).check(version)
            if await self._notes.remove(owner_id, note_id, version):
                return
        raise NoteContended

    async def _check_attachments(self, owner_id: UUID, asset_ids: Sequence[UUID]) -> None:
        if not asset_ids:
            return
        owned = await self._assets.owned(owner_id, asset_ids)
        if missing := [asset_id for asset_id in asset_ids if asset_id not in owned]:
            raise AttachmentsRefused(
                errors=[
                    {"field": "body.attachments", "message": f"no asset of yours: {asset_id}"} for asset_id in missing
                ]
            )


async def words_by_which(note: Note) -> list[str]:
    """Return the words by which a note is found."""
    if len(note.body) < LONG_TEXT:
        return words_of(note.title, note.body)
    # Up to 50 ms: other requests go on meanwhile.
    return await asyncio.to_thread(words_of, note.title, note.body)


def created(note: Note) -> StoredResponse:
    """Return the answer to the request that created the note."""
    headers = {"Location": f"/api/v1/notes/{note.id}", "ETag": str(note.tag), "Cache-Control": "private, no-store"}
    return StoredResponse.json(NoteOut.model_validate(note, from_attributes=True), status=201, headers=headers)
