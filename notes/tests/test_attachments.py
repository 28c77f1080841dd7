"""Attachments are assets of the note's owner, which the assets service confirms by a sealed call.

Which attachments are checked, and when, is decided in `NoteActions`.
"""

from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from notes_service.notes.actions import AttachmentsNotChecked
from notes_service.peers import OWNED_PATH, AssetsService
from servicekit.core.errors import MAX_ERRORS
from servicekit.dispatcher import CircuitOpen, DispatchError, PeerTimeout, PeerUnreachable, ResponseRejected
from servicekit.testing.dispatch import FakeDispatcher


async def test_own_assets_are_attached_in_their_order(user: Any, peers: Any) -> None:
    first, second = uuid7(), uuid7()
    peers.assets[user.id] = {first, second}

    note = await user.created(attachments=[str(second), str(first), str(second)])

    assert note["attachments"] == [str(second), str(first)]
    assert (await user.get(f"/{note['id']}")).json() == note
    (query,) = peers.queries
    assert (query.user_id, query.asset_ids) == (user.id, [second, first])


async def test_an_asset_that_is_not_owned_is_refused(user: Any, peers: Any) -> None:
    note, wrong = await user.created(), str(uuid7())

    for response in (
        await user.create(attachments=[wrong]),
        await user.edit(note["id"], "*", title="x", attachments=[wrong]),
        await user.edit(note["id"], "*", "PATCH", attachments=[wrong]),
    ):
        assert response.status_code == 422
        assert [error["field"] for error in response.json()["errors"]] == ["body.attachments"]
    assert (await user.get()).json()["items"] == [{**note, "etag": '"1-0"'}]
    many = await user.create(attachments=[str(uuid7()) for _ in range(100)])
    assert len(many.json()["errors"]) == MAX_ERRORS


async def test_while_the_assets_service_is_unavailable_new_attachments_get_503(user: Any, peers: Any) -> None:
    note, asset_id = await user.created(), str(uuid7())
    peers.assets_available = False

    for response in (
        await user.create(attachments=[asset_id]),
        await user.edit(note["id"], "*", title="x", attachments=[asset_id]),
    ):
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 1
    assert (await user.create()).status_code == 201


async def test_without_an_address_of_the_assets_service_new_attachments_get_503(deployment: Any, peers: Any) -> None:
    urls = {name: urls for name, urls in peers.urls.items() if name != "assets"}
    async with deployment.replica(peer_urls=urls) as replica:
        user = replica.user()
        assert (await user.create(attachments=[str(uuid7())])).status_code == 503
        assert (await user.create()).status_code == 201


async def test_the_call_is_sealed_and_may_be_retried() -> None:
    dispatcher, user_id, asset_id = FakeDispatcher(), uuid7(), uuid7()
    dispatcher.will_return("assets", OWNED_PATH, method="POST", json={"owned": [str(asset_id)]})

    assert await AssetsService(dispatcher).find_owned(user_id, [asset_id]) == {UUID(int=asset_id.int)}

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
async def test_a_failed_call_is_not_a_refusal(error: DispatchError) -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_fail("assets", OWNED_PATH, error, method="POST")

    with pytest.raises(AttachmentsNotChecked):
        await AssetsService(dispatcher).find_owned(uuid7(), [uuid7()])


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, {}), (200, {"owned": ["x"]}), (200, {"owned": None}), (200, []), (403, {}), (404, {}), (422, {}), (500, {})],
)
async def test_an_unusable_response_is_not_a_refusal(status: int, body: Any) -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_return("assets", OWNED_PATH, method="POST", status=status, json=body)

    with pytest.raises(AttachmentsNotChecked):
        await AssetsService(dispatcher).find_owned(uuid7(), [uuid7()])


async def test_a_response_that_names_other_assets_confirms_none_of_ours() -> None:
    dispatcher, asset_id = FakeDispatcher(), uuid7()
    dispatcher.will_return("assets", OWNED_PATH, method="POST", json={"owned": [str(uuid7())]})

    assert asset_id not in await AssetsService(dispatcher).find_owned(uuid7(), [asset_id])
