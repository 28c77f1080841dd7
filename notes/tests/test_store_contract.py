"""The contract of the database, which MongoDB and the fake of the unit tests both fulfil."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Protocol
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from local_platform.stores import StoreSet
from notes.tests.fakes import MemoryDatabase
from notes_service.database import COLLECTIONS, migrate
from notes_service.domain_events import SUBSCRIPTIONS
from notes_service.erasure.actions import DeletedOwners, OwnedNotes
from notes_service.erasure.store import ErasedOwners
from notes_service.notes.actions import EditableNotes, NoteCreator
from notes_service.notes.queries import ListedNote, NoteFilter, ReadableNotes
from notes_service.notes.reindexing import Reindexing
from notes_service.notes.rules import Note, new_note, next_version
from notes_service.notes.schemas import NoteIn
from notes_service.notes.search_terms import FORM
from notes_service.notes.store import NoteStore
from notes_service.notes.writer import NoteWriter
from notes_service.preconditions import EntityTag
from notes_service.publishing.actions import Publications
from notes_service.publishing.queries import PublishedNote, PublishedNotes
from notes_service.publishing.store import PublicationStore
from servicekit.auth.access_tokens import InvalidToken
from servicekit.core.clock import to_milliseconds, utc_now
from servicekit.idempotency import IdempotentRequest, KeyReused, StoredResponse
from servicekit.idempotency.mongo import MongoIdempotency
from servicekit.outbox import Outbox
from servicekit.outbox.mongo import MongoOutboxStore
from servicekit.storage.mongo_migrations import connected

RESPONSE = StoredResponse(201, b"{}", (("Location", "/x"),))
KEYED = IdempotentRequest("notes", b"key", b"fingerprint")
UNKEYED = IdempotentRequest("notes", None)
ALL = NoteFilter()


class Database(Protocol):
    """What the service needs of its database, and what tests look up in it."""

    creator: NoteCreator
    editable: EditableNotes
    readable: ReadableNotes
    publications: Publications
    pages: PublishedNotes
    deleted_owners: DeletedOwners
    owned: OwnedNotes

    async def event_subjects(self) -> list[str]: ...


class InMemory:
    def __init__(self) -> None:
        self._database = MemoryDatabase()
        self.creator = self.editable = self.readable = self._database
        self.publications = self.pages = self.deleted_owners = self.owned = self._database

    async def event_subjects(self) -> list[str]:
        return [event.subject for event in self._database.events]


class OnMongo:
    def __init__(self, database: Any) -> None:
        outbox = Outbox(MongoOutboxStore(database), SUBSCRIPTIONS, _Undelivered())
        owners, notes = ErasedOwners(database), NoteStore(database)
        self._outbox = database["outbox"]
        self.creator = NoteWriter(MongoIdempotency(database), notes, outbox, owners)
        self.editable = self.readable = self.owned = notes
        self.publications = self.pages = PublicationStore(database)
        self.deleted_owners = owners

    async def event_subjects(self) -> list[str]:
        return [document["subject"] async for document in self._outbox.find()]


class _Undelivered:
    async def deliver(self, subscription: Any, event: Any) -> None: ...


@pytest.fixture
def in_memory() -> InMemory:
    return InMemory()


@pytest.fixture(scope="module")
async def contract_database(stores: StoreSet) -> AsyncIterator[Any]:
    """A database of this suite's own: no replica delivers the events in its outbox."""
    async with connected(SecretStr(stores.mongo_url("notes_contract")), application="test") as database:
        await migrate(database)
        yield database


@pytest.fixture
async def on_mongo(contract_database: Any) -> OnMongo:
    await asyncio.gather(*(contract_database[name].delete_many({}) for name in COLLECTIONS))
    return OnMongo(contract_database)


@pytest.fixture(params=["in_memory", pytest.param("on_mongo", marks=pytest.mark.servers)])
def db(request: pytest.FixtureRequest) -> Database:
    database: Database = request.getfixturevalue(request.param)
    return database


@pytest.fixture
def owner() -> UUID:
    return uuid7()


def note_of(owner: UUID, **fields: Any) -> Note:
    return new_note(owner, NoteIn(**{"title": "a title", "body": "é", **fields}), utc_now())


async def added(
    db: Database, owner: UUID, terms: tuple[str, ...] = (), request: IdempotentRequest = UNKEYED, **fields: Any
) -> Note:
    note = note_of(owner, **fields)
    await db.creator.create(request, note, terms, RESPONSE)
    return note


@pytest.mark.needs("analytics")
async def test_a_created_note_is_stored_with_one_event(db: Database, owner: UUID) -> None:
    note = await added(db, owner, tags=["a", "b"], attachments=[uuid4()])

    assert await db.editable.find(owner, note.id) == note
    assert await db.editable.find_version(owner, note.id) == 1
    assert await db.event_subjects() == [str(owner)]


@pytest.mark.needs("analytics")
async def test_a_repeated_key_gets_the_stored_response_and_creates_nothing(db: Database, owner: UUID) -> None:
    assert await db.creator.find_stored(KEYED) is None
    first = await added(db, owner, request=KEYED)

    second = note_of(owner)
    response = await db.creator.create(KEYED, second, [], StoredResponse(201, b"other"))

    assert response == RESPONSE.as_replay() == await db.creator.find_stored(KEYED)
    assert await db.editable.find(owner, second.id) is None
    assert await db.editable.find(owner, first.id) == first
    assert await db.event_subjects() == [str(owner)]


async def test_a_key_of_another_request_is_refused(db: Database, owner: UUID) -> None:
    await added(db, owner, request=KEYED)
    other = replace(KEYED, fingerprint=b"other")

    with pytest.raises(KeyReused):
        await db.creator.find_stored(other)
    with pytest.raises(KeyReused):
        await added(db, owner, request=other)


async def test_requests_without_a_key_each_create_a_note(db: Database, owner: UUID) -> None:
    assert (await added(db, owner)).id != (await added(db, owner)).id
    assert await db.creator.find_stored(UNKEYED) is None
    assert len(await db.readable.find_newest(owner, ALL, None, 9)) == 2


async def test_a_deleted_account_creates_nothing_and_stores_no_response(db: Database, owner: UUID) -> None:
    await db.deleted_owners.add(owner)

    for request in (UNKEYED, KEYED):
        with pytest.raises(InvalidToken):
            await added(db, owner, request=request)
    assert await db.readable.find_newest(owner, ALL, None, 9) == []
    assert await db.event_subjects() == []
    assert await db.creator.find_stored(KEYED) is None


@pytest.mark.needs("analytics")
async def test_concurrent_requests_do_not_suffer_from_one_that_is_refused_or_repeated(
    db: Database, owner: UUID
) -> None:
    deleted = uuid7()
    await db.deleted_owners.add(deleted)
    notes = [note_of(owner) for _ in range(8)]
    first = await added(db, owner, request=KEYED)

    refused, repeated, *created = await asyncio.gather(
        db.creator.create(UNKEYED, note_of(deleted), [], RESPONSE),
        db.creator.create(KEYED, note_of(owner), [], StoredResponse(201, b"other")),
        *(db.creator.create(UNKEYED, note, [], RESPONSE) for note in notes),
        return_exceptions=True,
    )

    assert isinstance(refused, InvalidToken)
    assert repeated == RESPONSE.as_replay()
    assert created == [RESPONSE] * len(notes)
    listed = await db.readable.find_newest(owner, ALL, None, 20)
    assert {item.id for item in listed} == {first.id, *(note.id for note in notes)}
    assert await db.event_subjects() == [str(owner)] * 9


async def test_a_note_is_seen_and_removed_by_its_owner_only(db: Database, owner: UUID) -> None:
    note, stranger = await added(db, owner), uuid7()

    assert await db.editable.find(stranger, note.id) is None
    assert await db.editable.find_version(stranger, note.id) is None
    assert await db.readable.find_many(stranger, [note.id]) == []
    assert not await db.editable.remove(stranger, note.id, 1)
    assert await db.editable.save(replace(next_version(note, {}, utc_now()), owner_id=stranger), []) is None
    assert await db.editable.find(owner, note.id) == note


async def test_a_version_is_replaced_once(db: Database, owner: UUID) -> None:
    note = await added(db, owner)
    second = next_version(note, {"title": "new", "tags": ["t"]}, utc_now())

    assert await db.editable.save(second, ["new"]) == second
    assert await db.editable.save(next_version(note, {"title": "late"}, utc_now()), []) is None
    assert await db.editable.find(owner, note.id) == second


async def test_only_the_named_version_is_removed(db: Database, owner: UUID) -> None:
    note = await added(db, owner)

    assert not await db.editable.remove(owner, note.id, 2)
    assert await db.editable.remove(owner, note.id, 1)
    assert not await db.editable.remove(owner, note.id, 1)
    assert await db.editable.find(owner, note.id) is None


async def test_an_edit_keeps_a_publication_that_happened_meanwhile(db: Database, owner: UUID) -> None:
    note = await added(db, owner)
    await db.publications.publish(owner, note.id, "slug", note.created_at)

    saved = await db.editable.save(next_version(note, {"title": "new"}, utc_now()), [])

    assert saved is not None
    assert (saved.slug, saved.etag) == ("slug", EntityTag(2, 1))


async def test_lists_begin_after_a_position_with_the_newest(db: Database, owner: UUID) -> None:
    notes = [await added(db, owner, body="é" * number) for number in range(4)]
    await added(db, uuid7())
    newest_first = [ListedNote(note.id, 2 * number, note) for number, note in enumerate(notes)][::-1]

    assert await db.readable.find_newest(owner, ALL, None, 9) == newest_first
    assert await db.readable.find_newest(owner, ALL, notes[2].id, 1) == newest_first[2:3]
    assert await db.readable.find_many(owner, [notes[0].id, uuid7(), notes[3].id]) == [notes[3], notes[0]]


async def test_a_list_does_not_read_long_bodies(db: Database, owner: UUID) -> None:
    long, short = await added(db, owner, body="x" * (64 * 1024 + 1)), await added(db, owner, body="x" * 64 * 1024)

    assert await db.readable.find_newest(owner, ALL, None, 9) == [
        ListedNote(short.id, 64 * 1024, short),
        ListedNote(long.id, 64 * 1024 + 1, None),
    ]
    assert await db.readable.find_many(owner, [long.id]) == [long]


@pytest.mark.servers
async def test_a_long_list_reads_no_notes(on_mongo: OnMongo, owner: UUID) -> None:
    note = await added(on_mongo, owner)

    assert await on_mongo.readable.find_newest(owner, ALL, None, 101) == [ListedNote(note.id, 2, None)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (NoteFilter(tag="a"), "01"),
        (NoteFilter(terms=["x"]), "02"),
        (NoteFilter(terms=["y", "x"]), "0"),
        (NoteFilter(tag="a", terms=["x"]), "0"),
        (NoteFilter(tag="x"), ""),
    ],
)
async def test_a_filter_selects_by_tag_and_by_all_terms(
    db: Database, owner: UUID, wanted: NoteFilter, found: str
) -> None:
    notes = [
        await added(db, owner, ("x", "y"), tags=["a", "b"]),
        await added(db, owner, ("y",), tags=["a"]),
        await added(db, owner, ("x",), tags=["A"]),
    ]

    listed = [listed.id for listed in await db.readable.find_newest(owner, wanted, None, 9)]

    assert listed == [notes[int(number)].id for number in reversed(found)]


async def test_a_note_is_published_under_one_slug_until_it_is_withdrawn(db: Database, owner: UUID) -> None:
    note, now = await added(db, owner), to_milliseconds(utc_now())
    assert await db.publications.find_slug(owner, note.id) == (True, None)

    assert await db.publications.publish(owner, note.id, "first", now)
    assert not await db.publications.publish(owner, note.id, "second", now)
    assert await db.publications.find_slug(owner, note.id) == (True, "first")
    page = await db.pages.find_page("first")
    assert page is not None
    assert page == PublishedNote(owner, note.title, note.body, note.attachments, now, EntityTag(1, 1))

    assert await db.publications.withdraw(owner, note.id)
    assert not await db.publications.withdraw(owner, note.id)
    assert await db.publications.find_slug(owner, note.id) == (True, None)
    assert await db.pages.find_page("first") is None
    assert await db.publications.publish(owner, note.id, "second", now)


async def test_a_published_note_has_its_attachments_until_it_is_withdrawn(db: Database, owner: UUID) -> None:
    attached = uuid7()
    note = await added(db, owner, attachments=[uuid7(), attached])

    assert not await db.pages.has_attachment("slug", attached)
    await db.publications.publish(owner, note.id, "slug", note.created_at)
    assert await db.pages.has_attachment("slug", attached)
    assert not await db.pages.has_attachment("slug", uuid7())
    await db.publications.withdraw(owner, note.id)
    assert not await db.pages.has_attachment("slug", attached)


async def test_a_note_is_published_and_withdrawn_by_its_owner_only(db: Database, owner: UUID) -> None:
    note, stranger = await added(db, owner), uuid7()

    assert not await db.publications.publish(stranger, note.id, "slug", note.created_at)
    await db.publications.publish(owner, note.id, "slug", note.created_at)
    assert not await db.publications.withdraw(stranger, note.id)
    assert await db.publications.find_slug(stranger, note.id) == (False, None)
    assert await db.publications.find_slug(owner, note.id) == (True, "slug")


async def test_a_removed_note_has_no_page(db: Database, owner: UUID) -> None:
    note = await added(db, owner)
    await db.publications.publish(owner, note.id, "slug", note.created_at)

    await db.editable.remove(owner, note.id, 1)

    assert await db.pages.find_page("slug") is None


async def test_all_notes_of_an_owner_are_removed_with_their_pages(db: Database, owner: UUID) -> None:
    notes = [await added(db, owner) for _ in range(3)]
    kept = await added(db, uuid7())
    await db.publications.publish(owner, notes[0].id, "slug", kept.created_at)

    assert await db.owned.remove_all(owner) == 3
    assert await db.owned.remove_all(owner) == 0
    assert await db.pages.find_page("slug") is None
    assert await db.editable.find(kept.owner_id, kept.id) == kept


async def test_an_erasure_is_unsettled_until_it_is_marked(db: Database, owner: UUID) -> None:
    await db.deleted_owners.add(owner)

    assert await db.deleted_owners.find_unsettled(after_seconds=60) == []
    assert await db.deleted_owners.find_unsettled(after_seconds=-60) == [owner]
    await db.deleted_owners.settle(owner)
    assert await db.deleted_owners.find_unsettled(after_seconds=-60) == []
    await db.deleted_owners.add(owner)
    assert await db.deleted_owners.find_unsettled(after_seconds=-60) == [owner]


async def test_notes_that_older_code_wrote_are_indexed_anew_unless_edited_meanwhile(
    contract_database: Any, on_mongo: OnMongo, owner: UUID
) -> None:
    """Two jobs at once, while another replica edits; an interrupted job is simply run again."""
    db: Database = on_mongo
    notes = [await added(db, owner, body="हिन्दी") for _ in range(50)]
    old = {"$set": {"words": ["ह", "नद"], "tags": ["cafe\u0301", "caf\u00e9", "\u200b"]}}
    await contract_database["notes"].update_many({"_id": {"$ne": notes[0].id}}, old)
    await contract_database["notes"].update_one({"_id": notes[1].id}, {"$set": {"words": []}})
    edited = next_version(notes[2], {"body": "new"}, utc_now())

    *numbers, _ = await asyncio.gather(
        *(Reindexing(contract_database).run() for _ in range(2)), db.editable.save(edited, ["new"])
    )

    assert sum(numbers) in (48, 49)
    found = await db.readable.find_newest(owner, NoteFilter.of("caf\u00e9", "हिन्दी"), None, 99)
    assert {listed.id for listed in found} == {note.id for note in [notes[1], *notes[3:]]}
    assert await db.editable.find_version(owner, notes[3].id) == 1
    found = await db.readable.find_newest(owner, NoteFilter.of(None, "new"), None, 9)
    assert [listed.id for listed in found] == [edited.id]
    assert await Reindexing(contract_database).run() == 0


async def test_a_look_for_outdated_notes_reads_no_current_ones(
    contract_database: Any, on_mongo: OnMongo, owner: UUID
) -> None:
    for _ in range(30):
        await added(on_mongo, owner)
    command = {"find": "notes", "filter": {"words.0": {"$ne": FORM}}, "hint": "by_form"}

    plan = await contract_database.command("explain", command, verbosity="executionStats")

    assert plan["executionStats"]["totalKeysExamined"] <= 2
