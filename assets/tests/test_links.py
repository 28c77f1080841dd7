"""A link works without a token, for one file, until it expires; nobody can make one up."""

from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest

API = "/api/v1/assets"


async def _link(assets: Any, user: UUID, asset_id: str) -> str:
    answer = await assets.http.post(f"{API}/{asset_id}/link", headers=assets.headers(user))
    assert answer.status_code == 200
    assert answer.json().keys() == {"url", "expires_at"}
    url: str = answer.json()["url"]
    return url


async def test_a_link_gives_the_content_to_whoever_has_it(assets: Any, user: UUID) -> None:
    asset = await assets.stored(user, b"content")
    url = await _link(assets, user, asset["id"])

    for headers in ({}, assets.headers(uuid4()), {"Range": "bytes=0-2"}):
        answer = await assets.http.get(url, headers=headers)
        assert answer.content == (b"con" if "Range" in headers else b"content")
        assert answer.headers["content-disposition"].startswith("attachment")
    assert (await assets.http.head(url)).status_code == 200


async def test_a_link_ends(assets: Any, user: UUID, clock: Any) -> None:
    asset = await assets.stored(user)
    url = await _link(assets, user, asset["id"])

    clock.advance(minutes=14)
    assert (await assets.http.get(url)).status_code == 200
    clock.advance(minutes=1, seconds=1)
    assert (await assets.http.get(url)).status_code == 403


async def test_no_part_of_a_link_can_be_changed(assets: Any, user: UUID) -> None:
    mine, other = await assets.stored(user), await assets.stored(user, b"other")
    url = await _link(assets, user, mine["id"])
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    path = f"{API}/{mine['id']}/content"
    forged = [
        (f"{API}/{other['id']}/content", query),
        (path, {**query, "expires": str(int(query["expires"]) + 1)}),
        (path, {**query, "expires": query["expires"] + "0"}),
        (path, {**query, "expires": " " + query["expires"]}),
        (path, {**query, "expires": "9" * 5000}),
        (path, {**query, "expires": "never"}),
        (path, {**query, "expires": ""}),
        (path, {**query, "signature": query["signature"][:-1]}),
        (path, {**query, "signature": query["signature"].swapcase()}),
        (path, {**query, "signature": "ü\u202e"}),
        (path, {**query, "signature": ""}),
        (path, {"expires": query["expires"]}),
        (path, {"signature": query["signature"]}),
    ]
    for target, changed in forged:
        answer = await assets.http.get(target, params=changed)
        assert answer.status_code == 403, changed
        assert answer.json()["detail"] == "This link is not valid, or not any more."
    # Not even with the owner's token: it is either a link or not.
    refused = await assets.http.get(path, params={"expires": "1", "signature": "x"}, headers=assets.headers(user))
    assert refused.status_code == 403


async def test_a_link_opens_nothing_but_the_content(assets: Any, user: UUID) -> None:
    asset = await assets.stored(user)
    query = urlsplit(await _link(assets, user, asset["id"])).query

    assert (await assets.http.get(f"{API}/{asset['id']}?{query}")).status_code == 401
    assert (await assets.http.delete(f"{API}/{asset['id']}?{query}")).status_code == 401
    assert (await assets.http.post(f"{API}/{asset['id']}/link?{query}")).status_code == 401


async def test_another_secret_makes_other_links(deployment: Any, assets: Any, user: UUID) -> None:
    from pydantic import SecretStr

    asset = await assets.stored(user)
    async with deployment.replica(link_secret=SecretStr("m" * 32)) as other:
        assert (await other.http.get(await _link(assets, user, asset["id"]))).status_code == 403


@pytest.mark.parametrize("asset_id", ["x", "..%2F..%2Fetc%2Fpasswd", "0", "' OR 1=1 --"])
async def test_what_is_no_id_is_refused(assets: Any, user: UUID, asset_id: str) -> None:
    for path in (f"{API}/{asset_id}", f"{API}/{asset_id}/content"):
        answer = await assets.http.get(path, headers=assets.headers(user))
        assert answer.status_code in (404, 422)
