"""The decisions of creating, changing and deleting notes. The stores are fakes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from uuid_utils.compat import uuid7

from notes.tests.fakes import MemoryAssets, MemoryDatabase
from notes_service.notes.actions import (
    MAX_TRIES,
    AttachmentsNotChecked,
    AttachmentsRefused,
    NoteActions,
    NoteContended,
    NoteNotFound,
)
from notes_service.notes.rules import Note, new_note
from notes_service.notes.schemas import NoteIn
from notes_service.preconditions import IfMatch
from servicekit.core.errors import PreconditionFailed, PreconditionRequired
from servicekit.idempotency import IdempotentRequest, KeyReused
from servicekit.testing.clock import MovableClock

ANY = IfMatch(None)
STALE = IfMatch(frozenset({0}))
KEYED = IdempotentRequest("notes", b"key")
UNKEYED = IdempotentRequest("notes", None)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase()


@pytest.fixture
def assets() -> MemoryAssets:
    return MemoryAssets()


@pytest.fixture
def actions(database: MemoryDatabase, assets: MemoryAssets, clock: MovableClock) -> NoteActions:
    return NoteActions(database, database, assets, clock)


@pytest.fixture
def note(database: MemoryDatabase, clock: MovableClock) -> Note:
    """A stored note of version 1."""
    return database.put(new_note(uuid7(), NoteIn(title="old", body="old", tags=["old"]), clock()))


@pytest.fixture
def owned(note: Note, assets: MemoryAssets) -> UUID:
    """An asset of the note's owner."""
    asset_id = uuid4()
    assets.owned[note.owner_id] = {asset_id}
    return asset_id


def edited(database: MemoryDatabase, note_id: UUID) -> Callable[[], None]:
    """Return a function that edits the note as another request would."""

    def edit() -> None:
        note = database.notes[note_id]
        database.put(replace(note, version=note.version + 1, body="theirs"))

    return edit


async def test_a_repeated_request_gets_the_stored_response_without_a_call_to_assets(
    actions: NoteActions, database: MemoryDatabase, assets: MemoryAssets
) -> None:
    owner_id, asset_id = uuid7(), uuid4()
    assets.owned[owner_id] = {asset_id}
    content = NoteIn(title="t", attachments=[asset_id])
    first = await actions.create(owner_id, content, KEYED)
    assets.unavailable = True

    again = await actions.create(owner_id, content, KEYED)

    assert (again.status, again.body, again.replayed) == (201, first.body, True)
    assert len(assets.queries) == len(database.notes) == len(database.events) == 1


async def test_a_key_of_another_request_is_refused(actions: NoteActions, database: MemoryDatabase) -> None:
    await actions.create(uuid7(), NoteIn(title="t"), KEYED)

    with pytest.raises(KeyReused):
        await actions.create(uuid7(), NoteIn(title="u"), replace(KEYED, fingerprint=b"other"))
    assert len(database.notes) == 1


async def test_a_new_note_is_found_by_its_words(actions: NoteActions, database: MemoryDatabase) -> None:
    await actions.create(uuid7(), NoteIn(title="Blue", body="moon " + "x" * 40_000), UNKEYED)

    (terms,) = database.terms.values()
    assert {"blue", "moon"} < set(terms)


async def test_a_refused_note_is_not_created_and_leaves_its_key_free(
    actions: NoteActions, database: MemoryDatabase
) -> None:
    with pytest.raises(AttachmentsRefused):
        await actions.create(uuid7(), NoteIn(title="t", attachments=[uuid4()]), KEYED)
    assert (database.notes, database.events) == ({}, [])

    assert (await actions.create(uuid7(), NoteIn(title="t"), KEYED)).status == 201


@pytest.mark.parametrize("owner_of_other", [uuid7(), None], ids=["foreign", "missing"])
async def test_a_foreign_and_a_missing_asset_are_refused_alike(
    actions: NoteActions, database: MemoryDatabase, assets: MemoryAssets, note: Note, owned: UUID, owner_of_other: Any
) -> None:
    wrong = uuid4()
    assets.owned[owner_of_other] = {wrong}

    for refused in (
        actions.create(note.owner_id, NoteIn(title="t", attachments=[owned, wrong]), UNKEYED),
        actions.change(note.owner_id, note.id, ANY, {"attachments": [owned, wrong]}),
    ):
        with pytest.raises(AttachmentsRefused) as refusal:
            await refused
        assert refusal.value.members["errors"] == [
            {"field": "body.attachments", "message": f"not one of your assets: {wrong}"}
        ]
    assert database.notes == {note.id: note}


async def test_without_the_assets_service_only_new_attachments_are_refused(
    actions: NoteActions, assets: MemoryAssets, note: Note, owned: UUID
) -> None:
    await actions.change(note.owner_id, note.id, ANY, {"attachments": [owned]})
    assets.unavailable = True

    with pytest.raises(AttachmentsNotChecked):
        await actions.create(note.owner_id, NoteIn(title="t", attachments=[owned]), UNKEYED)
    with pytest.raises(AttachmentsNotChecked):
        await actions.change(note.owner_id, note.id, ANY, {"attachments": [uuid4()]})
    assert (await actions.create(note.owner_id, NoteIn(title="t"), UNKEYED)).status == 201
    kept = await actions.change(note.owner_id, note.id, ANY, {"title": "t", "attachments": [owned]})
    assert kept.attachments == [owned]
    assert (await actions.change(note.owner_id, note.id, ANY, {"body": "b"})).attachments == [owned]
    assert (await actions.change(note.owner_id, note.id, ANY, {"attachments": []})).attachments == []


async def test_assets_are_asked_for_new_attachments_only(
    actions: NoteActions, assets: MemoryAssets, note: Note, owned: UUID
) -> None:
    other = uuid4()
    assets.owned[note.owner_id].add(other)
    await actions.change(note.owner_id, note.id, ANY, {"attachments": [owned]})

    await actions.change(note.owner_id, note.id, ANY, {"title": "same", "attachments": [owned]})
    await actions.change(note.owner_id, note.id, ANY, {"body": "no attachments named"})
    await actions.change(note.owner_id, note.id, ANY, {"attachments": [other, owned]})

    assert assets.queries == [[owned], [other]]


@pytest.mark.parametrize(
    ("own", "condition", "error"),
    [
        (False, None, NoteNotFound),
        (False, STALE, NoteNotFound),
        (True, None, PreconditionRequired),
        (True, STALE, PreconditionFailed),
    ],
)
async def test_visibility_is_checked_first_then_the_condition_then_attachments(
    actions: NoteActions,
    database: MemoryDatabase,
    assets: MemoryAssets,
    note: Note,
    own: bool,
    condition: IfMatch | None,
    error: type[Exception],
) -> None:
    user_id = note.owner_id if own else uuid7()

    with pytest.raises(error):
        await actions.change(user_id, note.id, condition, {"title": "x", "attachments": [uuid4()]})
    with pytest.raises(error):
        await actions.delete(user_id, note.id, condition)
    assert assets.queries == []
    assert database.notes == {note.id: note}


async def test_a_change_makes_the_next_version_with_the_named_fields(
    actions: NoteActions, database: MemoryDatabase, note: Note, clock: MovableClock
) -> None:
    clock.advance(seconds=5)

    changed = await actions.change(note.owner_id, note.id, IfMatch(frozenset({1})), {"title": "new"})

    assert (changed.version, changed.title, changed.body) == (2, "new", "old")
    assert changed.updated_at > note.updated_at == changed.created_at
    assert database.terms[note.id] == ["new", "old"]
    with pytest.raises(PreconditionFailed):
        await actions.change(note.owner_id, note.id, IfMatch(frozenset({1})), {"title": "newer"})


async def test_a_change_of_one_version_that_comes_second_fails(
    actions: NoteActions, database: MemoryDatabase, note: Note
) -> None:
    database.before_write = edited(database, note.id)

    with pytest.raises(PreconditionFailed):
        await actions.change(note.owner_id, note.id, IfMatch(frozenset({1})), {"title": "mine"})
    database.before_write = edited(database, note.id)
    with pytest.raises(PreconditionFailed):
        await actions.delete(note.owner_id, note.id, IfMatch(frozenset({2})))
    assert database.notes[note.id].body == "theirs"


async def test_a_change_of_any_version_that_comes_second_is_made_on_top(
    actions: NoteActions, database: MemoryDatabase, assets: MemoryAssets, note: Note, owned: UUID
) -> None:
    edit = edited(database, note.id)

    def edit_once() -> None:
        edit()
        database.before_write = lambda: None

    database.before_write = edit_once
    changed = await actions.change(note.owner_id, note.id, ANY, {"title": "mine", "attachments": [owned]})

    assert (changed.version, changed.title, changed.body) == (3, "mine", "theirs")
    # The second try does not check the same attachments again.
    assert assets.queries == [[owned]]
    database.before_write = edit_once
    await actions.delete(note.owner_id, note.id, ANY)
    assert database.notes == {}


async def test_a_note_that_others_keep_changing_is_given_up(
    actions: NoteActions, database: MemoryDatabase, note: Note
) -> None:
    database.before_write = edited(database, note.id)

    with pytest.raises(NoteContended):
        await actions.change(note.owner_id, note.id, ANY, {"title": "mine"})
    with pytest.raises(NoteContended):
        await actions.delete(note.owner_id, note.id, ANY)
    assert database.notes[note.id].version == 1 + 2 * MAX_TRIES


async def test_a_note_deleted_meanwhile_is_not_found(
    actions: NoteActions, database: MemoryDatabase, note: Note
) -> None:
    database.before_write = database.notes.clear

    with pytest.raises(NoteNotFound):
        await actions.change(note.owner_id, note.id, ANY, {"title": "mine"})


async def test_the_response_to_a_creation_has_the_note_its_address_and_its_tag(actions: NoteActions) -> None:
    response = await actions.create(uuid7(), NoteIn(title="Plan", tags=["b", "a", "b"]), UNKEYED)

    note, headers = orjson.loads(response.body), dict(response.headers)
    assert (note["title"], note["tags"]) == ("Plan", ["b", "a"])
    assert headers["Location"] == f"/api/v1/notes/{note['id']}"
    assert headers["ETag"] == '"1-0"'
