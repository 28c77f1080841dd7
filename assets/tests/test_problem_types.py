"""Each error that a client can act on has its own type (docs/errors.md)."""

from typing import Any
from uuid import UUID

import httpx2

from servicekit.core.errors import TYPE_PREFIX

API = "/api/v1/assets"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


def code_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"].removeprefix(TYPE_PREFIX)


async def test_what_is_wrong_with_an_upload(replica: Any, user: UUID) -> None:
    assert code_of(await replica.http.post(API, content=b"x")) == (401, "token-missing")
    mismatch = await replica.upload(user, b"hello", media_type="image/png")
    assert code_of(mismatch) == (415, "file-type-mismatch")
    assert code_of(await replica.upload(user, b"\x7fELF\x02\x01\x01" + bytes(64))) == (415, "unsupported-file-type")
    coded = await replica.upload_raw(user, b"x", **{"Content-Encoding": "br"})
    assert code_of(coded) == (415, "unsupported-media-type")
    assert code_of(await replica.upload_raw(user, b"x", name=None)) == (422, "invalid-filename")
    assert code_of(await replica.upload(user, b"")) == (422, "validation")


async def test_what_is_wrong_with_a_read(replica: Any, user: UUID) -> None:
    asset = await replica.stored(user)
    path = f"{API}/{asset['id']}/content"

    assert code_of(await replica.content(user, asset["id"], Range="bytes=9-")) == (416, "range-not-satisfiable")
    assert code_of(await replica.content(user, asset["id"], **{"If-Match": '"other"'})) == (412, "stale-version")
    forged = await replica.http.get(path, params={"expires": "1", "signature": "x"})
    assert code_of(forged) == (403, "link-refused")
    assert code_of(await replica.content(user, str(user))) == (404, "not-found")


async def test_who_may_call_an_internal_route(replica: Any, user: UUID) -> None:
    body = {"user_id": str(user), "asset_ids": []}
    plain = await replica.http.post("/internal/owned", json=body)
    foreign = await replica.service("analytics").call("POST", "/internal/owned", json=body)

    assert code_of(plain) == (401, "message-refused")
    assert (foreign.status, foreign.json()["type"]) == (403, f"{TYPE_PREFIX}caller-not-allowed")
