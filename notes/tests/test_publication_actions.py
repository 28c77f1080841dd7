"""The decisions of publishing and withdrawing notes. The store is a fake."""

from dataclasses import replace
from uuid import uuid4

import pytest
from uuid_utils.compat import uuid7

from notes.tests.fakes import MemoryDatabase
from notes_service.notes.actions import NoteContended, NoteNotFound
from notes_service.notes.rules import Note, new_note
from notes_service.notes.schemas import NoteIn
from notes_service.publishing.actions import PublicationActions
from notes_service.publishing.queries import PageNotFound, PublicationQueries
from servicekit.testing.clock import MovableClock


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase()


@pytest.fixture
def actions(database: MemoryDatabase, clock: MovableClock) -> PublicationActions:
    return PublicationActions(database, clock)


@pytest.fixture
def note(database: MemoryDatabase, clock: MovableClock) -> Note:
    """A private note."""
    return database.put(new_note(uuid7(), NoteIn(title="t"), clock()))


async def test_publishing_again_keeps_the_slug_and_the_time(
    actions: PublicationActions, database: MemoryDatabase, note: Note, clock: MovableClock
) -> None:
    slug = await actions.publish(note.owner_id, note.id)
    page = await PublicationQueries(database).get(slug)
    clock.advance(seconds=5)

    assert await actions.publish(note.owner_id, note.id) == slug
    assert await PublicationQueries(database).get(slug) == page


async def test_a_new_publication_gets_a_new_slug(
    actions: PublicationActions, database: MemoryDatabase, note: Note
) -> None:
    old = await actions.publish(note.owner_id, note.id)
    await actions.withdraw(note.owner_id, note.id)
    await actions.withdraw(note.owner_id, note.id)

    assert await actions.publish(note.owner_id, note.id) != old
    with pytest.raises(PageNotFound):
        await PublicationQueries(database).get(old)


async def test_another_users_note_and_a_missing_one_are_not_found(actions: PublicationActions, note: Note) -> None:
    for owner_id, note_id in ((uuid7(), note.id), (note.owner_id, uuid4())):
        with pytest.raises(NoteNotFound):
            await actions.publish(owner_id, note_id)
        with pytest.raises(NoteNotFound):
            await actions.withdraw(owner_id, note_id)


async def test_a_note_published_by_another_request_has_its_slug(
    actions: PublicationActions, database: MemoryDatabase, note: Note
) -> None:
    def publish() -> None:
        database.notes[note.id] = replace(note, slug="theirs")

    database.before_write = publish

    assert await actions.publish(note.owner_id, note.id) == "theirs"


async def test_a_note_that_is_withdrawn_meanwhile_is_published_by_the_next_try(
    actions: PublicationActions, database: MemoryDatabase, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    await actions.publish(note.owner_id, note.id)
    find_slug = database.find_slug

    async def find_slug_after_withdrawal(*arguments: object) -> tuple[bool, str | None]:
        await database.withdraw(note.owner_id, note.id)
        return await find_slug(note.owner_id, note.id)

    monkeypatch.setattr(database, "find_slug", find_slug_after_withdrawal)

    slug = await actions.publish(note.owner_id, note.id)
    assert database.notes[note.id].slug == slug


async def test_a_note_that_others_keep_publishing_and_withdrawing_is_given_up(
    actions: PublicationActions, database: MemoryDatabase, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*arguments: object) -> bool:
        return False

    monkeypatch.setattr(database, "publish", never)

    with pytest.raises(NoteContended):
        await actions.publish(note.owner_id, note.id)
