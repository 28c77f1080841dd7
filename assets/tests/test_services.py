"""Requests of other services, and the erasure of a deleted account's files."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from assets_service.sweeping.sweeper import Sweeper

API = "/api/v1/assets"


def _deleted(user: UUID | str) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "type": "user.deleted",
        "subject": str(user),
        "occurred_at": datetime.now(UTC).isoformat(),
        "payload": {},
    }


async def test_notes_finds_out_which_files_a_user_has(replica: Any, user: UUID) -> None:
    mine = [(await replica.stored(user))["id"] for _ in range(2)]
    others = (await replica.stored(uuid4()))["id"]
    question = {"user_id": str(user), "asset_ids": [*mine, others, str(uuid4()), mine[0]]}

    response = await replica.service("notes").call("POST", "/internal/owned", json=question)

    assert response.status == 200
    assert sorted(response.json()["owned"]) == sorted(mine)


async def test_notes_finds_out_what_is_known_of_a_users_files(replica: Any, user: UUID) -> None:
    mine, others = await replica.stored(user, name="a.txt"), await replica.stored(uuid4())
    question = {"user_id": str(user), "asset_ids": [mine["id"], others["id"], str(uuid4())]}

    response = await replica.service("notes").call("POST", "/internal/described", json=question)

    assert (response.status, response.json()) == (200, {"assets": [mine]})
    assert (await replica.service("user").call("POST", "/internal/described", json=question)).status == 403


async def test_only_sealed_requests_of_notes_are_accepted(replica: Any, user: UUID) -> None:
    question = {"user_id": str(user), "asset_ids": []}

    assert (await replica.service("notes").call("POST", "/internal/owned", json=question)).json() == {"owned": []}
    assert (await replica.service("user").call("POST", "/internal/owned", json=question)).status == 403
    plain = await replica.http.post("/internal/owned", json=question, headers=replica.headers(user))
    assert plain.status_code == 401


@pytest.mark.parametrize(
    "question",
    [
        {"user_id": str(uuid4()), "asset_ids": [str(uuid4())] * 101},
        {"user_id": "x", "asset_ids": []},
        {"user_id": str(uuid4()), "asset_ids": ["x"]},
        {"user_id": str(uuid4()), "asset_ids": [], "more": 1},
        {"user_id": str(uuid4())},
    ],
)
async def test_malformed_requests_are_refused(replica: Any, question: dict[str, Any]) -> None:
    assert (await replica.service("notes").call("POST", "/internal/owned", json=question)).status == 422


async def test_a_deleted_accounts_files_are_erased(
    replica: Any, user: UUID, count: Callable[..., Any], list_files: Callable[[], list[str]], sweeper: Sweeper
) -> None:
    other = uuid4()
    kept = await replica.stored(other)
    asset = await replica.stored(user)
    await replica.stored(user, b"second")
    link = (await replica.http.post(f"{API}/{asset['id']}/link", headers=replica.headers(user))).json()["url"]
    event = _deleted(user)

    for _ in range(2):
        assert (await replica.service("user").call("POST", "/internal/facts", json=event)).status == 204

    assert (await replica.http.get(link)).status_code == 404
    assert await count("assets") == 1
    await sweeper.round()
    assert [name.rpartition("/")[2] for name in list_files()] == [kept["id"]]
    assert await count("loose_objects") == 0
    # An access token outlives its account for a moment, but uploads nothing.
    assert (await replica.upload(user, b"late")).status_code == 401
    assert (await replica.upload(other, b"more")).status_code == 201


async def test_an_upload_in_flight_does_not_survive_its_account(
    replica: Any, user: UUID, nothing_left: Callable[..., Any]
) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def slow() -> Any:
        yield b"a beginning"
        started.set()
        await release.wait()
        yield b", an end"

    upload = asyncio.create_task(replica.upload_raw(user, slow()))
    await started.wait()
    assert (await replica.service("user").call("POST", "/internal/facts", json=_deleted(user))).status == 204
    release.set()

    assert (await upload).status_code == 401
    await nothing_left()


async def test_an_event_about_no_user_or_from_another_service_is_refused(replica: Any) -> None:
    assert (await replica.service("user").call("POST", "/internal/facts", json=_deleted("nobody"))).status == 422
    assert (await replica.service("notes").call("POST", "/internal/facts", json=_deleted(uuid4()))).status == 403


async def test_openapi_describes_both_forms_of_upload(replica: Any) -> None:
    document = (await replica.http.get("/openapi.json")).json()

    upload = document["paths"][API]["post"]
    assert upload["requestBody"]["content"].keys() == {"multipart/form-data", "application/octet-stream"}
    assert {"X-Filename", "Idempotency-Key"} <= {parameter["name"] for parameter in upload["parameters"]}
    assert document["paths"]["/internal/owned"]["post"]["x-service-policy"] == {"mode": "sealed", "callers": ["notes"]}


async def test_the_rate_of_a_users_requests_is_limited(deployment: Any, user: UUID) -> None:
    async with deployment.replica(user_rate=1) as replica:
        statuses = [(await replica.http.get(API, headers=replica.headers(user))).status_code for _ in range(6)]
    assert 429 in statuses
