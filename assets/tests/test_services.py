"""What other services ask, and what happens to the files of an account that is deleted."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

API = "/api/v1/assets"


def _deleted(user: UUID | str) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "type": "user.deleted",
        "subject": str(user),
        "occurred_at": datetime.now(UTC).isoformat(),
        "payload": {},
    }


async def test_notes_learns_which_files_a_user_has(assets: Any, user: UUID) -> None:
    mine = [(await assets.stored(user))["id"] for _ in range(2)]
    others = (await assets.stored(uuid4()))["id"]
    asked = {"user_id": str(user), "asset_ids": [*mine, others, str(uuid4()), mine[0]]}

    answer = await assets.service("notes").call("POST", "/internal/owned", json=asked)

    assert answer.status == 200
    assert sorted(answer.json()["owned"]) == sorted(mine)


async def test_only_notes_may_ask_and_only_sealed(assets: Any, user: UUID) -> None:
    asked = {"user_id": str(user), "asset_ids": []}

    assert (await assets.service("notes").call("POST", "/internal/owned", json=asked)).json() == {"owned": []}
    assert (await assets.service("user").call("POST", "/internal/owned", json=asked)).status == 403
    plain = await assets.http.post("/internal/owned", json=asked, headers=assets.headers(user))
    assert plain.status_code == 401


@pytest.mark.parametrize(
    "asked",
    [
        {"user_id": str(uuid4()), "asset_ids": [str(uuid4())] * 101},
        {"user_id": "x", "asset_ids": []},
        {"user_id": str(uuid4()), "asset_ids": ["x"]},
        {"user_id": str(uuid4()), "asset_ids": [], "more": 1},
        {"user_id": str(uuid4())},
    ],
)
async def test_another_question_is_refused(assets: Any, asked: dict[str, Any]) -> None:
    assert (await assets.service("notes").call("POST", "/internal/owned", json=asked)).status == 422


async def test_a_deleted_accounts_files_are_erased_once_or_twice(
    assets: Any, user: UUID, count: Callable[..., Any], files_in: Callable[[], list[str]]
) -> None:
    other = uuid4()
    kept = await assets.stored(other)
    asset = await assets.stored(user)
    await assets.stored(user, b"second")
    link = (await assets.http.post(f"{API}/{asset['id']}/link", headers=assets.headers(user))).json()["url"]
    fact = _deleted(user)

    for _ in range(2):
        assert (await assets.service("user").call("POST", "/internal/facts", json=fact)).status == 204

    assert (await assets.http.get(link)).status_code == 404
    assert await count("assets") == 1
    await assets.app.state.sweeper.round()
    assert [name.rpartition("/")[2] for name in files_in()] == [kept["id"]]
    assert await count("loose_objects") == 0
    # A token outlives its account for a moment; nothing is taken in by it.
    assert (await assets.upload(user, b"late")).status_code == 401
    assert (await assets.upload(other, b"more")).status_code == 201


async def test_an_upload_in_flight_does_not_survive_its_account(
    assets: Any, user: UUID, nothing_left: Callable[..., Any]
) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def slow() -> Any:
        yield b"a beginning"
        started.set()
        await release.wait()
        yield b", an end"

    upload = asyncio.create_task(assets.upload_raw(user, slow()))
    await started.wait()
    assert (await assets.service("user").call("POST", "/internal/facts", json=_deleted(user))).status == 204
    release.set()

    assert (await upload).status_code == 401
    await nothing_left()


async def test_a_fact_that_means_nothing_here_is_refused(assets: Any) -> None:
    assert (await assets.service("user").call("POST", "/internal/facts", json=_deleted("nobody"))).status == 422
    assert (await assets.service("notes").call("POST", "/internal/facts", json=_deleted(uuid4()))).status == 403


async def test_the_documents_describe_both_forms_of_upload(assets: Any) -> None:
    document = (await assets.http.get("/openapi.json")).json()

    upload = document["paths"][API]["post"]
    assert {"multipart/form-data", "application/octet-stream", "image/png"} <= upload["requestBody"]["content"].keys()
    assert {"X-Filename", "Idempotency-Key"} <= {parameter["name"] for parameter in upload["parameters"]}
    assert document["paths"]["/internal/owned"]["post"]["x-service-policy"] == {"mode": "sealed", "callers": ["notes"]}


async def test_a_users_rate_is_limited(deployment: Any, user: UUID) -> None:
    async with deployment.replica(user_rate=1) as assets:
        statuses = [(await assets.http.get(API, headers=assets.headers(user))).status_code for _ in range(6)]
    assert 429 in statuses
