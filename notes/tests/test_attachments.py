"""Attachments are assets of the note's owner: checked by a sealed call, and only where something new comes in."""

from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from notes_service.notes.actions import AttachmentsNotChecked
from notes_service.peers import OWNED_PATH, AssetsService
from servicekit.dispatcher import CircuitOpen, DispatchError, PeerTimeout, PeerUnreachable, ResponseRejected
from servicekit.testing.dispatch import FakeDispatcher


@pytest.fixture
def asset(others: Any, user: Any) -> str:
    """An asset of the user."""
    asset_id = uuid7()
    others.assets.setdefault(user.id, set()).add(asset_id)
    return str(asset_id)


async def test_own_assets_are_attached_in_their_order(user: Any, others: Any) -> None:
    first, second = uuid7(), uuid7()
    others.assets[user.id] = {first, second}

    note = await user.created(attachments=[str(second), str(first), str(second)])

    assert note["attachments"] == [str(second), str(first)]
    assert (await user.get(f"/{note['id']}")).json() == note
    (asked,) = others.asked
    assert (asked.user_id, asked.asset_ids) == (user.id, [second, first])


async def test_a_foreign_and_a_missing_asset_are_refused_alike(
    user: Any, stranger: Any, others: Any, asset: str
) -> None:
    foreign = uuid7()
    others.assets[stranger.id] = {foreign}
    note = await user.created()

    for wrong in (foreign, uuid7()):
        answers = [
            await user.create(attachments=[asset, str(wrong)]),
            await user.edit(note["id"], "*", title="x", attachments=[str(wrong)]),
            await user.edit(note["id"], "*", "PATCH", attachments=[asset, str(wrong)]),
        ]
        for answer in answers:
            assert answer.status_code == 422
            assert answer.json()["errors"] == [{"field": "body.attachments", "message": f"no asset of yours: {wrong}"}]
    assert (await user.get()).json()["items"] == [note]


async def test_without_the_assets_service_attachments_wait_and_nothing_else(user: Any, others: Any, asset: str) -> None:
    note = await user.created(attachments=[asset])
    others.mood = "away"

    refused = [
        await user.create(attachments=[asset]),
        await user.edit(note["id"], "*", title="x", attachments=[str(uuid7())]),
    ]
    for answer in refused:
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
    assert (await user.create()).status_code == 201
    assert (await user.edit(note["id"], "*", title="x", attachments=[asset])).status_code == 200
    assert (await user.edit(note["id"], "*", "PATCH", body="x")).status_code == 200
    assert (await user.edit(note["id"], "*", title="x")).json()["attachments"] == []


async def test_only_what_is_new_is_asked_for(user: Any, others: Any, asset: str) -> None:
    note = await user.created(attachments=[asset])
    other = uuid7()
    others.assets[user.id].add(other)
    others.asked.clear()

    await user.edit(note["id"], "*", title="same", attachments=[asset])
    await user.edit(note["id"], "*", "PATCH", body="none named")
    assert others.asked == []
    await user.edit(note["id"], "*", "PATCH", attachments=[str(other), asset])

    assert [asked.asset_ids for asked in others.asked] == [[other]]


async def test_refusals_come_before_any_call(user: Any, stranger: Any, others: Any) -> None:
    note = await user.created()
    wrong = [str(uuid7())]

    assert (await stranger.edit(note["id"], "*", title="x", attachments=wrong)).status_code == 404
    assert (await user.edit(note["id"], None, title="x", attachments=wrong)).status_code == 428
    assert (await user.edit(note["id"], '"9-0"', title="x", attachments=wrong)).status_code == 412
    assert others.asked == []


async def test_a_repetition_is_answered_without_a_call(user: Any, others: Any, asset: str) -> None:
    first = await user.create(key="k", attachments=[asset])
    others.mood = "away"

    again = await user.create(key="k", attachments=[asset])

    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(others.asked) == 1


async def test_the_call_is_sealed_and_may_be_repeated() -> None:
    dispatcher, user_id, asset_id = FakeDispatcher(), uuid7(), uuid7()
    dispatcher.will_answer("assets", OWNED_PATH, method="POST", json={"owned": [str(asset_id)]})

    assert await AssetsService(dispatcher).owned(user_id, [asset_id]) == {UUID(int=asset_id.int)}

    (call,) = dispatcher.calls
    assert call.encrypted
    assert call.idempotency_key
    assert call.json == {"user_id": str(user_id), "asset_ids": [str(asset_id)]}


@pytest.mark.parametrize(
    "error",
    [
        PeerUnreachable("assets", "refused"),
        CircuitOpen("assets", "open"),
        PeerTimeout("assets", "slow"),
        ResponseRejected("assets", "not sealed"),
    ],
)
async def test_no_answer_is_no_refusal(error: DispatchError) -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_fail("assets", OWNED_PATH, error, method="POST")

    with pytest.raises(AttachmentsNotChecked):
        await AssetsService(dispatcher).owned(uuid7(), [uuid7()])


@pytest.mark.parametrize(
    ("status", "answer"),
    [(200, {}), (200, {"owned": ["x"]}), (200, {"owned": None}), (200, []), (403, {}), (404, {}), (422, {}), (500, {})],
)
async def test_an_answer_that_says_nothing_is_no_refusal(status: int, answer: Any) -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_answer("assets", OWNED_PATH, method="POST", status=status, json=answer)

    with pytest.raises(AttachmentsNotChecked):
        await AssetsService(dispatcher).owned(uuid7(), [uuid7()])


async def test_an_answer_that_names_other_assets_admits_none_of_ours() -> None:
    dispatcher, asset_id = FakeDispatcher(), uuid7()
    dispatcher.will_answer("assets", OWNED_PATH, method="POST", json={"owned": [str(uuid7())]})

    assert asset_id not in await AssetsService(dispatcher).owned(uuid7(), [asset_id])


async def test_without_an_assets_service_attachments_wait(deployment: Any) -> None:
    urls = {name: urls for name, urls in deployment.settings.peer_urls.items() if name != "assets"}
    async with deployment.replica(peer_urls=urls) as notes:
        user = notes.user()
        assert (await user.create(attachments=[str(uuid7())])).status_code == 503
        assert (await user.create()).status_code == 201
