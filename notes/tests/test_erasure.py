"""A deleted account leaves no note, and gets no new one."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from notes_service.domain_events import USER_DELETED
from notes_service.erasure import actions
from notes_service.erasure.actions import ErasureActions
from notes_service.erasure.store import ErasedOwners
from notes_service.notes.rules import new_note
from notes_service.notes.schemas import NoteIn
from notes_service.notes.store import NoteStore
from servicekit.auth.access_tokens import InvalidToken
from servicekit.core.clock import utc_now
from servicekit.outbox import EVENTS_PATH, DomainEvent, as_domain_event
from servicekit.storage.mongo_transactions import in_transaction


async def deleted(replica: Any, user_id: UUID | str, *, caller: str = "user", type_: str = USER_DELETED) -> int:
    """Send the event of a deleted account; return the status."""
    event = dict(as_domain_event(DomainEvent(type=type_, subject=str(user_id))))
    response = await replica.service(caller).call("POST", EVENTS_PATH, json=event)
    return int(response.status)


async def test_the_notes_of_a_deleted_account_are_erased_with_their_pages(
    replica: Any, user: Any, stranger: Any
) -> None:
    urls = [(await user.publish((await user.created())["id"]))["url"] for _ in range(3)]
    kept = await stranger.created()
    kept_url = (await stranger.publish(kept["id"]))["url"]

    assert await deleted(replica, user.id) == 204

    assert {(await replica.http.get(url)).status_code for url in urls} == {404}
    assert await user.titles() == []
    assert (await replica.http.get(kept_url)).status_code == 200
    assert (await stranger.get(f"/{kept['id']}")).status_code == 200


async def test_the_same_event_may_arrive_again(replica: Any, user: Any, database: Any) -> None:
    await user.created()

    assert [await deleted(replica, user.id) for _ in range(3)] == [204, 204, 204]
    assert await asyncio.gather(*(deleted(replica, user.id) for _ in range(4))) == [204] * 4
    assert await database["notes"].count_documents({}) == 0


async def test_a_token_that_outlives_its_account_creates_nothing(replica: Any, user: Any, database: Any) -> None:
    await deleted(replica, user.id)

    for key in (None, "k"):
        response = await user.create(key=key)
        assert response.status_code == 401
    assert await database["notes"].count_documents({}) == 0
    assert await database["outbox"].count_documents({}) == 0
    assert await database["idempotency_keys"].count_documents({}) == 0


async def test_a_note_whose_transaction_was_under_way_is_erased_afterwards(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction checks the account before its deletion, and commits afterwards."""
    monkeypatch.setattr(actions, "SETTLED_AFTER_SECONDS", 0.0)
    owners, store = ErasedOwners(database), NoteStore(database)
    erasure, owner_id = ErasureActions(owners, store), uuid7()

    async def late(session: Any) -> None:
        await owners.ensure_not_deleted(session, [owner_id])
        await erasure.on_user_deleted(DomainEvent(type=USER_DELETED, subject=str(owner_id)))
        await store.add_all(session, [(new_note(owner_id, NoteIn(title="late"), utc_now()), [])])

    await in_transaction(database.client, late)
    assert await database["notes"].count_documents({}) == 1

    async with asyncio.timeout(60):
        while await database["erased_owners"].count_documents({"settled": False}):
            await erasure.settle()
    assert await database["notes"].count_documents({}) == 0
    with pytest.raises(InvalidToken):
        await in_transaction(database.client, lambda session: owners.ensure_not_deleted(session, [owner_id]))


async def test_an_erasure_is_settled_after_every_transaction_has_ended(database: Any) -> None:
    owners = ErasedOwners(database)
    await owners.add(uuid7())

    assert await owners.find_unsettled(after_seconds=actions.SETTLED_AFTER_SECONDS) == []
    # The servers that we start end every transaction after this time.
    parameters = await database.client.admin.command({"getParameter": 1, "transactionLifetimeLimitSeconds": 1})
    assert parameters["transactionLifetimeLimitSeconds"] < actions.SETTLED_AFTER_SECONDS


async def test_only_the_user_service_announces_deletions(replica: Any, user: Any) -> None:
    await user.created()

    assert await deleted(replica, user.id, caller="analytics") == 403
    plain = await replica.http.post(EVENTS_PATH, json={"type": USER_DELETED, "subject": str(user.id)})
    assert plain.status_code == 401
    assert await user.titles() == ["a title"]


async def test_an_event_without_an_account_id_is_refused(replica: Any, user: Any) -> None:
    await user.created()

    assert await deleted(replica, "x") == 422
    assert await user.titles() == ["a title"]


async def test_an_unknown_event_is_refused_and_changes_nothing(replica: Any, user: Any) -> None:
    await user.created()

    assert await deleted(replica, user.id, type_="user.registered") == 409
    assert await user.titles() == ["a title"]
