"""A deleted account leaves nothing behind, and nothing comes after it."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

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


async def deleted(notes: Any, user_id: UUID | str, *, caller: str = "user", type_: str = "user.deleted") -> int:
    """Tell the service that an account is deleted; return the status."""
    fact = dict(as_domain_event(DomainEvent(type=type_, subject=str(user_id))))
    answer = await notes.service(caller).call("POST", EVENTS_PATH, json=fact)
    return int(answer.status)


async def test_all_notes_of_a_deleted_account_go_with_their_pages(notes: Any, user: Any, stranger: Any) -> None:
    urls = [(await user.publish((await user.created())["id"]))["url"] for _ in range(3)]
    kept = await stranger.created()
    kept_url = (await stranger.publish(kept["id"]))["url"]

    assert await deleted(notes, user.id) == 204

    assert {(await notes.http.get(url)).status_code for url in urls} == {404}
    assert await user.titles() == []
    assert (await notes.http.get(kept_url)).status_code == 200
    assert (await stranger.get(f"/{kept['id']}")).status_code == 200


async def test_the_same_fact_may_come_again(notes: Any, user: Any, database: Any) -> None:
    await user.created()

    assert [await deleted(notes, user.id) for _ in range(3)] == [204, 204, 204]
    assert await asyncio.gather(*(deleted(notes, user.id) for _ in range(4))) == [204] * 4
    assert await database["notes"].count_documents({}) == 0


async def test_a_token_that_outlives_its_account_creates_nothing(notes: Any, user: Any, database: Any) -> None:
    await deleted(notes, user.id)

    for key in (None, "k"):
        answer = await user.create(key=key)
        assert answer.status_code == 401
    assert await database["notes"].count_documents({}) == 0
    assert await database["outbox"].count_documents({}) == 0
    assert await database["idempotency_keys"].count_documents({}) == 0


async def test_a_note_whose_transaction_was_under_way_is_erased_soon_after(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction has looked before the account was deleted, and commits afterwards."""
    monkeypatch.setattr(actions, "SETTLED_AFTER_SECONDS", 0.0)
    owners, store = ErasedOwners(database), NoteStore(database)
    erasure, owner_id = ErasureActions(owners, store), uuid7()

    async def late(session: Any) -> None:
        await owners.admit(session, owner_id)
        await erasure.on_user_deleted(DomainEvent(type="user.deleted", subject=str(owner_id)))
        await store.add(session, new_note(owner_id, NoteIn(title="late"), utc_now()), [])

    await in_transaction(database.client, late)
    assert await database["notes"].count_documents({}) == 1

    async with asyncio.timeout(60):
        while await database["erased_owners"].count_documents({"settled": False}):
            await erasure.settle()
    assert await database["notes"].count_documents({}) == 0
    with pytest.raises(InvalidToken):
        await in_transaction(database.client, lambda session: owners.admit(session, owner_id))


async def test_an_erasure_is_settled_only_when_no_transaction_can_be_left(database: Any) -> None:
    owners = ErasedOwners(database)
    await owners.remember(uuid7())

    assert await owners.unsettled(after_seconds=actions.SETTLED_AFTER_SECONDS) == []
    # The stores that we start end every transaction after this time.
    parameters = await database.client.admin.command({"getParameter": 1, "transactionLifetimeLimitSeconds": 1})
    assert parameters["transactionLifetimeLimitSeconds"] < actions.SETTLED_AFTER_SECONDS


async def test_settling_goes_on_when_the_database_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Owners:
        asked = 0

        async def remember(self, owner_id: UUID) -> None: ...

        async def settle(self, owner_id: UUID) -> None: ...

        async def unsettled(self, *, after_seconds: float) -> list[UUID]:
            self.asked += 1
            raise ConnectionError

    class Notes:
        async def remove_all(self, owner_id: UUID) -> int:
            return 0

    monkeypatch.setattr(actions, "CHECK_SECONDS", 0.001)
    owners = Owners()
    following = asyncio.create_task(ErasureActions(owners, Notes()).follow())
    async with asyncio.timeout(60):
        while owners.asked < 3:
            await asyncio.sleep(0.001)
    following.cancel()


@pytest.mark.parametrize("caller", ["analytics"])
async def test_only_the_user_service_says_who_is_deleted(notes: Any, user: Any, caller: str) -> None:
    await user.created()

    assert await deleted(notes, user.id, caller=caller) == 403
    plain = await notes.http.post(EVENTS_PATH, json={"type": "user.deleted", "subject": str(user.id)})
    assert plain.status_code == 401
    assert await user.titles() == ["a title"]


@pytest.mark.parametrize("subject", ["", "x", "$ne"])
async def test_a_fact_about_nobody_is_refused_for_good(notes: Any, user: Any, subject: str) -> None:
    await user.created()

    assert await deleted(notes, subject) == 422
    assert await user.titles() == ["a title"]


async def test_a_fact_that_means_nothing_here_changes_nothing(notes: Any, user: Any) -> None:
    await user.created()

    assert await deleted(notes, user.id, type_="user.registered") == 409
    assert await user.titles() == ["a title"]
