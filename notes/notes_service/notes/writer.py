"""Creates notes, each in one transaction with the claim of its key, its domain event and the stored response."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

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
from servicekit.outbox import DomainEvent, Origin, Outbox
from servicekit.storage import mongo
from servicekit.storage.group_commit import GroupCommit

# The search terms of notes that are created together. The server indexes so many in about 50 ms.
MOST_TERMS: Final = 5_000
_TERMS_OF_A_SHORT_NOTE: Final = 50


class NotCommitted(ServiceUnavailable):
    detail = "The note could not be stored now. Try again."


@dataclass(frozen=True, slots=True)
class _Creation:
    request: IdempotentRequest
    note: Note
    terms: Sequence[str]
    response: StoredResponse
    event: DomainEvent
    origin: Origin = field(default_factory=Origin.current)


class NoteWriter:
    """Fulfils `actions.NoteCreator`. Concurrent requests share a transaction."""

    def __init__(
        self, keys: MongoIdempotency, notes: NoteStore, outbox: Outbox[AsyncClientSession], owners: ErasedOwners
    ) -> None:
        self._keys = keys
        self._notes = notes
        self._outbox = outbox
        self._owners = owners
        self._group: GroupCommit[_Creation, StoredResponse] = GroupCommit(
            self._create_all,
            weight=lambda creation: _TERMS_OF_A_SHORT_NOTE + len(creation.terms),
            most=MOST_TERMS,
            concerns_all=mongo.is_unavailable,
        )

    async def find_stored(self, request: IdempotentRequest) -> StoredResponse | None:
        return await self._keys.find_stored(request)

    async def create(
        self, request: IdempotentRequest, note: Note, terms: Sequence[str], response: StoredResponse
    ) -> StoredResponse:
        event = DomainEvent(type=NOTE_CREATED, subject=str(note.owner_id), payload={"note_id": str(note.id)})
        try:
            return await self._group.run(_Creation(request, note, terms, response, event))
        except OperationFailure as error:
            if not error.has_error_label("TransientTransactionError"):
                raise
            logger.warning("a note is not stored, its transaction failed several times: {}", error.code)
            raise NotCommitted from error

    async def _create_all(self, creations: Sequence[_Creation]) -> Sequence[StoredResponse]:
        responses = [creation.response for creation in creations]

        async def effect(session: AsyncClientSession) -> Sequence[StoredResponse]:
            await self._owners.ensure_not_deleted(session, {creation.note.owner_id for creation in creations})
            await self._notes.add_all(session, [(creation.note, creation.terms) for creation in creations])
            await self._outbox.record_all(session, [(creation.event, creation.origin) for creation in creations])
            return responses

        async def single(session: AsyncClientSession) -> StoredResponse:
            return (await effect(session))[0]

        if len(creations) == 1:
            return [await self._keys.run(creations[0].request, single)]
        return await self._keys.run_together([creation.request for creation in creations], effect)
