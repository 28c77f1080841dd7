"""Each error that a client can act on has its own type (docs/errors.md)."""

from typing import Any
from uuid import uuid4

import httpx2
import pytest

from notes.tests.conftest import API
from servicekit.core.errors import TYPE_PREFIX


def code_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"].removeprefix(TYPE_PREFIX)


async def test_a_condition_on_the_version(user: Any) -> None:
    created = await user.create()
    note_id, tag = created.json()["id"], created.headers["ETag"]
    await user.edit(note_id, tag, title="current")

    assert code_of(await user.edit(note_id, None, title="other")) == (428, "version-required")
    assert code_of(await user.edit(note_id, tag, title="other")) == (412, "stale-version")
    assert code_of(await user.edit(note_id, "unquoted", title="other")) == (400, "malformed-condition")
    read = await user.get(f"/{note_id}", headers={"If-None-Match": tag.strip('"')})
    assert code_of(read) == (400, "malformed-condition")


async def test_a_key_and_its_request(user: Any) -> None:
    key = str(uuid4())
    await user.create(key=key)

    assert code_of(await user.create(key=key, title="other")) == (422, "key-reused")


async def test_an_expired_token(replica: Any) -> None:
    headers = replica.headers(uuid4(), seconds=-1)

    assert code_of(await replica.http.get(API, headers=headers)) == (401, "token-expired")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}], ids=["no token", "a bad token"])
async def test_a_body_is_read_for_a_signed_in_user_only(replica: Any, headers: dict[str, str]) -> None:
    read = 0

    async def body() -> Any:
        nonlocal read
        for _ in range(100):
            read += 1
            yield b" " * 1024 * 1024

    refused = await replica.http.post(API, content=body(), headers=headers)

    assert refused.status_code == 401
    assert read <= 1


async def test_a_list_of_faults_costs_no_more_than_one(user: Any) -> None:
    for tags in ([0] * 9_000, [str(number) for number in range(9_000)], [0] * 3_000_000):
        response = await user.send("POST", json={"title": "a", "tags": tags})

        assert code_of(response) == (422, "validation")
        assert len(response.json()["errors"]) == 1


async def test_a_limit_of_requests(service: Any) -> None:
    async with service.replica(user_rate=1) as replica:
        user = replica.user()
        responses = [await user.get() for _ in range(4)]

    assert code_of(responses[-1]) == (429, "rate-limited")
