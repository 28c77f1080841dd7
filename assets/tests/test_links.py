"""A link works without a token, for one file, until it expires."""

from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

API = "/api/v1/assets"


async def _link(replica: Any, user: UUID, asset_id: str) -> str:
    response = await replica.http.post(f"{API}/{asset_id}/link", headers=replica.headers(user))
    assert response.status_code == 200
    assert response.json().keys() == {"url", "expires_at"}
    url: str = response.json()["url"]
    return url


async def _links(replica: Any, user: UUID, ids: list[str]) -> Any:
    return await replica.http.post(f"{API}/links", json={"ids": ids}, headers=replica.headers(user))


async def test_a_link_gives_the_content_to_anyone_who_has_it(replica: Any, user: UUID) -> None:
    asset = await replica.stored(user, b"content")
    url = await _link(replica, user, asset["id"])

    for headers in ({}, replica.headers(uuid4()), {"Range": "bytes=0-2"}):
        response = await replica.http.get(url, headers=headers)
        assert response.content == (b"con" if "Range" in headers else b"content")
        assert response.headers["content-disposition"].startswith("attachment")
    assert (await replica.http.head(url)).status_code == 200


async def test_a_link_ignores_a_token_that_is_not_valid(replica: Any, user: UUID) -> None:
    asset = await replica.stored(user, b"content")
    url = await _link(replica, user, asset["id"])

    expired = replica.headers(user, seconds=-60)["Authorization"]
    for authorization in (expired, "Bearer a.b.c", "Bearer", "Basic dXNlcjpwYXNz", "garbage", ""):
        response = await replica.http.get(url, headers={"Authorization": authorization})
        assert (response.status_code, response.content) == (200, b"content")
        assert (await replica.http.head(url, headers={"Authorization": authorization})).status_code == 200
        # A link that is refused is refused as a link, and the content alone still needs a token.
        refused = await replica.http.get(f"{url}x", headers={"Authorization": authorization})
        assert refused.status_code == 403
        own = await replica.http.get(url.partition("?")[0], headers={"Authorization": authorization})
        assert own.status_code == 401


async def test_a_link_expires(replica: Any, user: UUID, clock: Any) -> None:
    asset = await replica.stored(user)
    url = await _link(replica, user, asset["id"])

    clock.advance(minutes=9)
    assert (await replica.http.get(url)).status_code == 200
    clock.advance(minutes=6, seconds=1)
    assert (await replica.http.get(url)).status_code == 403


async def test_a_changed_link_is_refused(replica: Any, user: UUID) -> None:
    asset, other = await replica.stored(user), await replica.stored(user, b"other")
    url = await _link(replica, user, asset["id"])
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    path = f"{API}/{asset['id']}/content"
    forged = [
        (f"{API}/{other['id']}/content", query),
        (path, {**query, "expires": str(int(query["expires"]) + 1)}),
        (path, {**query, "expires": ""}),
        (path, {**query, "signature": "ü\u202e"}),
        (path, {**query, "signature": ""}),
        (path, {"expires": query["expires"]}),
        (path, {"signature": query["signature"]}),
    ]
    for target, changed in forged:
        response = await replica.http.get(target, params=changed)
        assert response.status_code == 403, changed
        assert response.json()["detail"] == "This link is invalid or has expired."
    # The link decides, also with the owner's token.
    refused = await replica.http.get(path, params={"expires": "1", "signature": "x"}, headers=replica.headers(user))
    assert refused.status_code == 403


async def test_links_to_many_files_are_made_at_once(replica: Any, user: UUID, clock: Any) -> None:
    clock.stopped_at = clock()
    ids = [(await replica.stored(user, content))["id"] for content in (b"one", b"two", b"three")]

    response = await _links(replica, user, [ids[2], ids[0], ids[2], ids[1]])

    assert response.status_code == 200
    links = response.json()["items"]
    assert [link["id"] for link in links] == [ids[2], ids[0], ids[1]]
    assert [(await replica.http.get(link["url"])).content for link in links] == [b"three", b"one", b"two"]
    assert links[0]["url"] == await _link(replica, user, ids[2])
    assert (await _links(replica, user, [])).json() == {"items": []}
    assert (await _links(replica, user, [str(uuid4()) for _ in range(101)])).status_code == 422


async def test_links_to_files_of_others_are_refused_with_their_ids(replica: Any, user: UUID) -> None:
    own, foreign, missing = await replica.stored(user), await replica.stored(uuid4()), str(uuid4())

    response = await _links(replica, user, [own["id"], foreign["id"], missing])

    assert response.status_code == 422
    assert [error["message"] for error in response.json()["errors"]] == [
        f"not one of your assets: {asset_id}" for asset_id in (foreign["id"], missing)
    ]


async def test_a_link_gives_access_to_the_content_only(replica: Any, user: UUID) -> None:
    asset = await replica.stored(user)
    query = urlsplit(await _link(replica, user, asset["id"])).query

    assert (await replica.http.get(f"{API}/{asset['id']}?{query}")).status_code == 401
    assert (await replica.http.delete(f"{API}/{asset['id']}?{query}")).status_code == 401
    assert (await replica.http.post(f"{API}/{asset['id']}/link?{query}")).status_code == 401


async def test_links_end_with_their_secret(deployment: Any, replica: Any, user: UUID) -> None:
    asset = await replica.stored(user)
    async with deployment.replica(link_secret=SecretStr("m" * 32)) as other:
        assert (await other.http.get(await _link(replica, user, asset["id"]))).status_code == 403


@pytest.mark.parametrize("asset_id", ["x", "..%2F..%2Fetc%2Fpasswd", "0", "' OR 1=1 --"])
async def test_a_malformed_id_is_refused(replica: Any, user: UUID, asset_id: str) -> None:
    for path in (f"{API}/{asset_id}", f"{API}/{asset_id}/content"):
        response = await replica.http.get(path, headers=replica.headers(user))
        assert response.status_code in (404, 422)
