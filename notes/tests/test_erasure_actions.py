"""The decisions of erasing the notes of a deleted account. The store is a fake."""

import asyncio

import pytest
from uuid_utils.compat import uuid7

from notes.tests.fakes import MemoryDatabase
from notes_service.domain_events import USER_DELETED
from notes_service.erasure import actions
from notes_service.erasure.actions import SETTLED_AFTER_SECONDS, ErasureActions, InvalidSubject
from notes_service.notes.rules import new_note
from notes_service.notes.schemas import NoteIn
from servicekit.core.clock import utc_now
from servicekit.outbox import DomainEvent
from servicekit.testing.clock import MovableClock

NOTE = NoteIn(title="t")


async def test_a_deletion_erases_the_notes_of_that_account_however_often_it_arrives() -> None:
    database, owner_id = MemoryDatabase(), uuid7()
    for _ in range(3):
        database.put(new_note(owner_id, NOTE, utc_now()))
    kept = database.put(new_note(uuid7(), NOTE, utc_now()))

    for _ in range(2):
        await ErasureActions(database, database).on_user_deleted(DomainEvent(type=USER_DELETED, subject=str(owner_id)))

    assert database.notes == {kept.id: kept}


@pytest.mark.parametrize("subject", ["", "x", "$ne"])
async def test_an_event_without_an_account_id_is_refused(subject: str) -> None:
    database = MemoryDatabase()
    kept = database.put(new_note(uuid7(), NOTE, utc_now()))

    with pytest.raises(InvalidSubject):
        await ErasureActions(database, database).on_user_deleted(DomainEvent(type=USER_DELETED, subject=subject))
    assert database.notes == {kept.id: kept}


async def test_a_note_added_by_a_transaction_under_way_is_erased_once_no_such_transaction_can_be_left() -> None:
    clock = MovableClock()
    clock.stopped_at = utc_now()
    database, owner_id = MemoryDatabase(clock=clock), uuid7()
    erasure = ErasureActions(database, database)
    await erasure.on_user_deleted(DomainEvent(type=USER_DELETED, subject=str(owner_id)))
    late = database.put(new_note(owner_id, NOTE, utc_now()))

    clock.advance(seconds=SETTLED_AFTER_SECONDS)
    await erasure.settle()
    assert database.notes == {late.id: late}
    clock.advance(seconds=0.001)
    await erasure.settle()
    assert database.notes == {}
    assert await database.find_unsettled(after_seconds=0) == []


async def test_settling_continues_after_the_database_was_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(actions, "SETTLED_AFTER_SECONDS", -1.0)
    database, settled = MemoryDatabase(), asyncio.Event()
    await database.add(uuid7())
    outcomes: list[Exception | None] = [ConnectionError(), ConnectionError(), None]

    async def settle(owner_id: object) -> None:
        if outcome := outcomes.pop(0):
            raise outcome
        settled.set()

    monkeypatch.setattr(database, "settle", settle)
    settling = asyncio.create_task(ErasureActions(database, database).settle_forever())
    async with asyncio.timeout(60):
        await settled.wait()
    settling.cancel()
