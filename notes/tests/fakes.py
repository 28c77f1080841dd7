"""The database and the assets service in memory. The contract tests run the database beside MongoDB."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from notes_service.domain_events import NOTE_CREATED
from notes_service.notes.actions import AttachmentsNotChecked
from notes_service.notes.queries import ListedNote, NoteFilter
from notes_service.notes.rules import Note
from notes_service.publishing.queries import AttachedFile, PublishedNote
from notes_service.publishing.schemas import Author
from servicekit.auth.access_tokens import InvalidToken
from servicekit.core.clock import Clock, utc_now
from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.outbox import DomainEvent

LONG_BODY_BYTES = 64 * 1024


class MemoryDatabase:
    """Fulfils the Protocols of all actions and queries.

    `before_write` is called before a note is saved, removed, published or withdrawn: a test changes the note there,
    as a concurrent request would.
    """

    def __init__(self, *, clock: Clock = utc_now) -> None:
        self.notes: dict[UUID, Note] = {}
        self.terms: dict[UUID, Sequence[str]] = {}
        self.published_at: dict[UUID, datetime] = {}
        self.events: list[DomainEvent] = []
        self.before_write: Callable[[], None] = lambda: None
        self._responses: dict[bytes, tuple[StoredResponse, bytes]] = {}
        self._deleted_at: dict[UUID, datetime] = {}
        self._settled: set[UUID] = set()
        self._clock = clock

    async def find_stored(self, request: IdempotentRequest) -> StoredResponse | None:
        if request.id is None or request.id not in self._responses:
            return None
        return request.replay(*self._responses[request.id])

    async def create(
        self, request: IdempotentRequest, note: Note, terms: Sequence[str], response: StoredResponse
    ) -> StoredResponse:
        if stored := await self.find_stored(request):
            return stored
        if note.owner_id in self._deleted_at:
            raise InvalidToken
        self.put(note, terms)
        self.events.append(
            DomainEvent(type=NOTE_CREATED, subject=str(note.owner_id), payload={"note_id": str(note.id)})
        )
        if request.id is not None:
            self._responses[request.id] = (response, request.fingerprint)
        return response

    def put(self, note: Note, terms: Sequence[str] = ()) -> Note:
        self.notes[note.id], self.terms[note.id] = note, terms
        return note

    async def find(self, owner_id: UUID, note_id: UUID) -> Note | None:
        note = self.notes.get(note_id)
        return note if note is not None and note.owner_id == owner_id else None

    async def find_version(self, owner_id: UUID, note_id: UUID) -> int | None:
        note = await self.find(owner_id, note_id)
        return None if note is None else note.version

    async def save(self, note: Note, terms: Sequence[str]) -> Note | None:
        self.before_write()
        current = await self.find(note.owner_id, note.id)
        if current is None or current.version != note.version - 1:
            return None
        return self.put(replace(note, publication=current.publication, slug=current.slug), terms)

    async def remove(self, owner_id: UUID, note_id: UUID, version: int) -> bool:
        self.before_write()
        if await self.find_version(owner_id, note_id) != version:
            return False
        del self.notes[note_id]
        return True

    async def remove_all(self, owner_id: UUID) -> int:
        removed = [note.id for note in self.notes.values() if note.owner_id == owner_id]
        for note_id in removed:
            del self.notes[note_id]
        return len(removed)

    async def find_newest(
        self, owner_id: UUID, wanted: NoteFilter, after: UUID | None, limit: int
    ) -> Sequence[ListedNote]:
        found = [
            ListedNote(note.id, size := len(note.body.encode()), note if size <= LONG_BODY_BYTES else None)
            for note in self.notes.values()
            if note.owner_id == owner_id
            and (wanted.tag is None or wanted.tag in note.tags)
            and (wanted.terms is None or set(wanted.terms) <= set(self.terms[note.id]))
            and (after is None or note.id < after)
        ]
        return sorted(found, key=lambda listed: listed.id, reverse=True)[:limit]

    async def find_many(self, owner_id: UUID, note_ids: Sequence[UUID]) -> Sequence[Note]:
        return [note for note_id in sorted(note_ids, reverse=True) if (note := await self.find(owner_id, note_id))]

    async def publish(self, owner_id: UUID, note_id: UUID, slug: str, now: datetime) -> bool:
        self.before_write()
        note = await self.find(owner_id, note_id)
        if note is None or note.slug is not None:
            return False
        self.notes[note_id] = replace(note, slug=slug, publication=note.publication + 1)
        self.published_at[note_id] = now
        return True

    async def withdraw(self, owner_id: UUID, note_id: UUID) -> bool:
        self.before_write()
        note = await self.find(owner_id, note_id)
        if note is None or note.slug is None:
            return False
        self.notes[note_id] = replace(note, slug=None, publication=note.publication + 1)
        return True

    async def find_slug(self, owner_id: UUID, note_id: UUID) -> tuple[bool, str | None]:
        note = await self.find(owner_id, note_id)
        return (False, None) if note is None else (True, note.slug)

    async def find_page(self, slug: str) -> PublishedNote | None:
        for note in self.notes.values():
            if note.slug == slug:
                published_at = self.published_at[note.id]
                return PublishedNote(note.owner_id, note.title, note.body, note.attachments, published_at, note.etag)
        return None

    async def has_attachment(self, slug: str, asset_id: UUID) -> bool:
        page = await self.find_page(slug)
        return page is not None and asset_id in page.attachments

    async def add(self, owner_id: UUID) -> None:
        self._deleted_at[owner_id] = self._clock()
        self._settled.discard(owner_id)

    async def find_unsettled(self, *, after_seconds: float) -> list[UUID]:
        before = self._clock() - timedelta(seconds=after_seconds)
        return [owner for owner, at in self._deleted_at.items() if at < before and owner not in self._settled]

    async def settle(self, owner_id: UUID) -> None:
        self._settled.add(owner_id)


class MemoryAuthors:
    """Fulfils `publishing.queries.Authors`."""

    def __init__(self) -> None:
        self.authors: dict[UUID, Author] = {}

    async def find(self, user_id: UUID) -> Author | None:
        return self.authors.get(user_id)


class MemoryAssets:
    """Fulfils `notes.actions.Assets` and `publishing.queries.AttachedFiles`, and remembers what was asked for."""

    def __init__(self) -> None:
        self.owned: dict[UUID, set[UUID]] = {}
        self.queries: list[Collection[UUID]] = []
        self.unavailable = False

    async def find_owned(self, user_id: UUID, asset_ids: Collection[UUID]) -> set[UUID]:
        self.queries.append(asset_ids)
        if self.unavailable:
            raise AttachmentsNotChecked
        return self.owned.get(user_id, set()) & set(asset_ids)

    async def describe(self, user_id: UUID, asset_ids: Sequence[UUID]) -> Sequence[AttachedFile] | None:
        if self.unavailable:
            return None
        owned = self.owned.get(user_id, set()) & set(asset_ids)
        return [AttachedFile(asset_id, "a.png", "image/png", 9) for asset_id in owned]
