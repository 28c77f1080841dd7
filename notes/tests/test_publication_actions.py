"""The decisions of publishing and withdrawing notes. The store is a fake."""

from dataclasses import replace
from uuid import uuid4

import pytest
from uuid_utils.compat import uuid7

from notes.tests.fakes import MemoryAssets, MemoryAuthors, MemoryDatabase
from notes_service.notes.actions import NoteContended, NoteNotFound
from notes_service.notes.rules import Note, new_note
from notes_service.notes.schemas import NoteIn
from notes_service.publishing.actions import PublicationActions
from notes_service.publishing.queries import PageNotFound, PublicationQueries
from notes_service.publishing.schemas import Author
from servicekit.testing.clock import MovableClock


def queries_of(
    database: MemoryDatabase, authors: MemoryAuthors | None = None, assets: MemoryAssets | None = None
) -> PublicationQueries:
    return PublicationQueries(database, authors or MemoryAuthors(), assets or MemoryAssets())


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
    page = await queries_of(database).get(slug)
    clock.advance(seconds=5)

    assert await actions.publish(note.owner_id, note.id) == slug
    assert await queries_of(database).get(slug) == page


async def test_a_new_publication_gets_a_new_slug(
    actions: PublicationActions, database: MemoryDatabase, note: Note
) -> None:
    old = await actions.publish(note.owner_id, note.id)
    await actions.withdraw(note.owner_id, note.id)
    await actions.withdraw(note.owner_id, note.id)

    assert await actions.publish(note.owner_id, note.id) != old
    with pytest.raises(PageNotFound):
        await queries_of(database).get(old)


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


async def test_a_published_note_names_its_author_and_the_files_that_still_exist(
    actions: PublicationActions, database: MemoryDatabase, note: Note
) -> None:
    first, deleted, last = uuid4(), uuid4(), uuid4()
    database.put(replace(note, attachments=[last, deleted, first]))
    slug = await actions.publish(note.owner_id, note.id)
    authors, assets = MemoryAuthors(), MemoryAssets()
    authors.authors[note.owner_id] = author = Author(id=note.owner_id, username="ada", display_name="Ada")
    assets.owned[note.owner_id] = {first, last}

    page, _ = await queries_of(database, authors, assets).get(slug)

    assert page.author == author
    assert page.attachments is not None
    assert [(file.id, file.filename, file.url) for file in page.attachments] == [
        (asset_id, "a.png", f"/api/v1/assets/{asset_id}/content?note={slug}") for asset_id in (last, first)
    ]


async def test_a_published_note_is_shown_without_what_other_services_do_not_tell(
    actions: PublicationActions, database: MemoryDatabase, note: Note
) -> None:
    database.put(replace(note, attachments=[uuid4()]))
    slug = await actions.publish(note.owner_id, note.id)
    assets = MemoryAssets()
    assets.unavailable = True

    page, _ = await queries_of(database, assets=assets).get(slug)

    assert (page.title, page.author, page.attachments) == ("t", None, None)
