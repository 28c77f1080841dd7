"""Creates notes: the key's claim, the note, the fact and the stored answer commit together, or not at all."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from loguru import logger
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure

from notes_service.notes.rules import Note
from notes_service.notes.store import NoteStore
from notes_service.peers import NOTE_CREATED
from servicekit.core.errors import ServiceUnavailable
from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.idempotency.mongo import MongoIdempotency
from servicekit.outbox import DomainEvent, Outbox


class NotCommitted(ServiceUnavailable):
    detail = "The note could not be stored now. Try again."


class AdmitsOwners(Protocol):
    async def admit(self, session: AsyncClientSession, owner_id: UUID) -> None:
        """Raise for an owner whose account is deleted, as the caller's transaction sees it."""


class Ledger:
    """Writes new notes."""

    def __init__(
        self, keys: MongoIdempotency, notes: NoteStore, outbox: Outbox[AsyncClientSession], owners: AdmitsOwners
    ) -> None:
        self._keys = keys
        self._notes = notes
        self._outbox = outbox
        self._owners = owners

    async def stored(self, attempt: IdempotentRequest) -> StoredResponse | None:
        """Return the answer that this attempt got before. Raises `KeyReused`."""
        return await self._keys.find_stored(attempt)

    async def create(
        self, attempt: IdempotentRequest, note: Note, words: Sequence[str], answer: StoredResponse
    ) -> StoredResponse:
        """Add the note and tell others of it, once per attempt; return the answer, or the stored one.

        Raises `KeyInUse` and `KeyReused` for the attempt, and what `AdmitsOwners` raises.
        """
        fact = DomainEvent(type=NOTE_CREATED, subject=str(note.owner_id), payload={"note_id": str(note.id)})

        async def effect(session: AsyncClientSession) -> StoredResponse:
            await self._owners.admit(session, note.owner_id)
            await self._notes.add(session, note, words)
            await self._outbox.record(session, fact)
            return answer

        try:
            return await self._keys.run(attempt, effect)
        except OperationFailure as error:
            if not error.has_error_label("TransientTransactionError"):
                raise
            logger.warning("a note is not stored, its transaction failed several times: {}", error.code)
            raise NotCommitted from error
