"""Content is sent whole and in parts, to its owner alone, and so that no browser runs it."""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest

from servicekit.web.entity_tags import MalformedCondition

API = "/api/v1/assets"
ACCELERATED = {"X-Sendfile-Type": "X-Accel-Redirect"}
CONTENT = bytes(range(32, 127)) * 40_000


@pytest.fixture
async def asset(replica: Any, user: UUID) -> Any:
    """A text of several chunks."""
    return await replica.stored(user, CONTENT, name="Mai €.txt")


async def test_content_has_headers_that_describe_it_and_keep_browsers_from_running_it(
    replica: Any, user: UUID, asset: Any
) -> None:
    response = await replica.content(user, asset["id"])

    assert response.status_code == 200
    assert response.content == CONTENT
    expected = {
        "content-type": "text/plain; charset=utf-8",
        "content-length": str(len(CONTENT)),
        "content-disposition": "attachment; filename=\"Mai .txt\"; filename*=UTF-8''Mai%20%E2%82%AC.txt",
        "accept-ranges": "bytes",
        "etag": f'"{asset["sha256"]}"',
        "cache-control": "private, no-cache",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    }
    assert {name: response.headers[name] for name in expected} == expected


async def test_head_is_get_without_content(replica: Any, user: UUID, asset: Any) -> None:
    head = await replica.http.head(f"{API}/{asset['id']}/content", headers=replica.headers(user))
    get = await replica.content(user, asset["id"])

    assert head.status_code == 200
    assert head.content == b""
    ignored = {"date", "x-request-id"}
    assert {name: value for name, value in head.headers.items() if name not in ignored} == {
        name: value for name, value in get.headers.items() if name not in ignored
    }


async def test_ranges_and_conditions_are_decided_by_the_request(replica: Any, user: UUID, asset: Any) -> None:
    part = await replica.content(user, asset["id"], Range="bytes=1000000-2500000")
    assert (part.status_code, part.content) == (206, CONTENT[1_000_000:2_500_001])
    parts = await replica.content(user, asset["id"], Range="bytes=10-19, 2000000-3500000, -5")
    assert parts.status_code == 206
    assert parts.headers["content-length"] == str(len(parts.content))
    assert CONTENT[2_000_000:3_500_001] in parts.content

    unchanged = await replica.content(user, asset["id"], **{"If-None-Match": f'"{asset["sha256"]}"'})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert (await replica.content(user, asset["id"], **{"If-Match": '"other"'})).status_code == 412
    unquoted = await replica.content(user, asset["id"], **{"If-Match": asset["sha256"]})
    assert (unquoted.status_code, unquoted.json()["type"]) == (400, MalformedCondition.type)
    beyond = await replica.content(user, asset["id"], Range="bytes=99999999-")
    assert beyond.status_code == 416
    assert beyond.headers["content-range"] == f"bytes */{len(CONTENT)}"
    assert beyond.headers["content-type"] == "application/problem+json"


async def test_other_users_find_nothing_and_a_request_without_a_token_gets_401(replica: Any, asset: Any) -> None:
    path = f"{API}/{asset['id']}"
    for headers, status in (
        (replica.headers(uuid4()), 404),
        (replica.headers(uuid4(), roles=("admin",)), 404),
        ({}, 401),
        ({"Authorization": "Bearer x"}, 401),
    ):
        responses = [
            await replica.http.get(path, headers=headers),
            await replica.http.get(f"{path}/content", headers=headers),
            await replica.http.head(f"{path}/content", headers=headers),
            await replica.http.post(f"{path}/link", headers=headers),
            await replica.http.delete(path, headers=headers),
            # Before any 304, 412 or 416.
            await replica.http.get(f"{path}/content", headers={**headers, "If-None-Match": "*"}),
            await replica.http.get(f"{path}/content", headers={**headers, "If-Match": '"x"'}),
            await replica.http.get(f"{path}/content", headers={**headers, "Range": "bytes=99999999-"}),
        ]
        assert [response.status_code for response in responses] == [status] * len(responses)
    other_user = await replica.http.get(path, headers=replica.headers(uuid4()))
    nowhere = await replica.http.get(f"{API}/{uuid4()}", headers=replica.headers(uuid4()))
    assert other_user.json()["detail"] == nowhere.json()["detail"]


@pytest.mark.needs("analytics")
async def test_a_deleted_file_is_gone_with_its_bytes(replica: Any, user: UUID, asset: Any, nothing_left: Any) -> None:
    path = f"{API}/{asset['id']}"
    link = (await replica.http.post(f"{path}/link", headers=replica.headers(user))).json()["url"]

    assert (await replica.http.delete(path, headers=replica.headers(user))).status_code == 204

    assert (await replica.http.get(path, headers=replica.headers(user))).status_code == 404
    assert (await replica.content(user, asset["id"])).status_code == 404
    assert (await replica.http.get(link)).status_code == 404
    assert (await replica.http.delete(path, headers=replica.headers(user))).status_code == 404
    await nothing_left(events=1)


async def test_of_concurrent_deletions_one_succeeds(replicas: Any, user: UUID) -> None:
    asset = await replicas[0].stored(user)
    headers = replicas[0].headers(user)
    responses = await asyncio.gather(
        *(replicas[number % 2].http.delete(f"{API}/{asset['id']}", headers=headers) for number in range(8))
    )
    assert sorted(response.status_code for response in responses) == [204] + [404] * 7


async def test_content_whose_bytes_are_missing_is_not_found(
    replica: Any, user: UUID, asset: Any, deployment: Any
) -> None:
    next(deployment.settings.assets_dir.rglob(asset["id"])).unlink()

    assert (await replica.content(user, asset["id"])).status_code == 404


async def test_the_gateway_is_told_where_the_bytes_are(deployment: Any, user: UUID) -> None:
    async with deployment.replica(assets_x_accel=True) as replica:
        asset = await replica.stored(user, b"content")

        response = await replica.content(user, asset["id"], **ACCELERATED)
        assert response.headers["x-accel-redirect"] == f"/-/files/{asset['id'][-2:]}/{asset['id']}"
        assert response.content == b""
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert (await replica.content(uuid4(), asset["id"], **ACCELERATED)).status_code == 404


async def test_browsers_show_pictures_on_request_and_save_everything_else(
    replica: Any, user: UUID, samples: Mapping[str, bytes]
) -> None:
    shown = []
    for media_type, content in samples.items():
        asset = await replica.stored(user, content, name="file")
        path = f"{API}/{asset['id']}/content"
        saved = await replica.http.get(path, headers=replica.headers(user))
        asked = await replica.http.get(path, params={"inline": "1"}, headers=replica.headers(user))

        assert saved.headers["content-disposition"] == 'attachment; filename="file"'
        if asked.headers["content-disposition"] == 'inline; filename="file"':
            shown.append(media_type)
        ignored = {"content-disposition", "date", "x-request-id"}
        assert {name: value for name, value in asked.headers.items() if name not in ignored} == {
            name: value for name, value in saved.headers.items() if name not in ignored
        }
    assert shown == ["image/png", "image/jpeg", "image/gif", "image/webp"]


async def test_a_link_may_show_a_picture(replica: Any, user: UUID, samples: Mapping[str, bytes]) -> None:
    asset = await replica.stored(user, samples["image/png"], name="file")
    link = await replica.http.post(f"{API}/{asset['id']}/link", headers=replica.headers(user))

    response = await replica.http.get(f"{link.json()['url']}&inline=1")

    assert response.headers["content-disposition"] == 'inline; filename="file"'
    assert response.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
