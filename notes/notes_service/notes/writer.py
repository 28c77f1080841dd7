"""Creates a note in one transaction with the claim of its key, its domain event and the stored response."""

from collections.abc import Sequence

from loguru import logger
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure

from notes_service.domain_events import NOTE_CREATED
from notes_service.erasure.store import ErasedOwners
from notes_service.notes.rules import Note
from notes_service.notes.store import NoteStore
from servicekit.core.errors import ServiceUnavailable
from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.idempotency.mongo import MongoIdempotency
from servicekit.outbox import DomainEvent, Outbox


class NotCommitted(ServiceUnavailable):
    detail = "The note could not be stored now. Try again."


class NoteWriter:
    """Fulfils `actions.NoteCreator`."""

    def __init__(
        self, keys: MongoIdempotency, notes: NoteStore, outbox: Outbox[AsyncClientSession], owners: ErasedOwners
    ) -> None:
        self._keys = keys
        self._notes = notes
        self._outbox = outbox
        self._owners = owners

    async def find_stored(self, request: IdempotentRequest) -> StoredResponse | None:
        return await self._keys.find_stored(request)

    async def create(
        self, request: IdempotentRequest, note: Note, terms: Sequence[str], response: StoredResponse
    ) -> StoredResponse:
        event = DomainEvent(type=NOTE_CREATED, subject=str(note.owner_id), payload={"note_id": str(note.id)})

        async def effect(session: AsyncClientSession) -> StoredResponse:
            await self._owners.ensure_not_deleted(session, note.owner_id)
            await self._notes.add(session, note, terms)
            await self._outbox.record(session, event)
            return response

        try:
            return await self._keys.run(request, effect)
        except OperationFailure as error:
            if not error.has_error_label("TransientTransactionError"):
                raise
            logger.warning("a note is not stored, its transaction failed several times: {}", error.code)
            raise NotCommitted from error
