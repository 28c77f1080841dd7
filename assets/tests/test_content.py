"""Content goes out whole and in parts, to its owner alone, and so that no browser runs it."""

import asyncio
import re
from email import message_from_bytes
from typing import Any
from uuid import UUID, uuid4

import pytest

API = "/api/v1/assets"
ACCELERATED = {"X-Sendfile-Type": "X-Accel-Redirect"}
CONTENT = bytes(range(32, 127)) * 40_000


@pytest.fixture
async def asset(assets: Any, user: UUID) -> Any:
    """A text of a few pieces."""
    return await assets.stored(user, CONTENT, name="Mai €.txt")


async def test_content_says_what_it_is_and_that_it_must_not_run(assets: Any, user: UUID, asset: Any) -> None:
    answer = await assets.content(user, asset["id"])

    assert answer.status_code == 200
    assert answer.content == CONTENT
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
    assert {name: answer.headers[name] for name in expected} == expected


async def test_head_is_get_without_content(assets: Any, user: UUID, asset: Any) -> None:
    head = await assets.http.head(f"{API}/{asset['id']}/content", headers=assets.headers(user))
    get = await assets.content(user, asset["id"])

    assert head.status_code == 200
    assert head.content == b""
    ignored = {"date", "x-request-id"}
    assert {name: value for name, value in head.headers.items() if name not in ignored} == {
        name: value for name, value in get.headers.items() if name not in ignored
    }


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, None),
        ("bytes=1000000-2500000", 1_000_000, 2_500_001),
        ("bytes=-7", -7, None),
        ("bytes=3799990-99999999", 3_799_990, None),
        ("bytes=0-0,9999999-", 0, 1),
    ],
)
async def test_a_part_is_that_part(
    assets: Any, user: UUID, asset: Any, header: str, start: int, stop: int | None
) -> None:
    answer = await assets.content(user, asset["id"], Range=header)

    assert answer.status_code == 206
    assert answer.content == CONTENT[start:stop]
    first = start % len(CONTENT)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(CONTENT)}"
    assert answer.headers["content-length"] == str(len(answer.content))


async def test_several_parts_come_in_one_body(assets: Any, user: UUID, asset: Any) -> None:
    answer = await assets.content(user, asset["id"], Range="bytes=10-19, 2000000-3500000, -5")

    assert answer.status_code == 206
    assert answer.headers["content-length"] == str(len(answer.content))
    message = message_from_bytes(b"Content-Type: " + answer.headers["content-type"].encode() + b"\r\n" + answer.content)
    parts: list[Any] = list(message.walk())[1:]
    assert [part["Content-Range"] for part in parts] == [
        f"bytes 10-19/{len(CONTENT)}",
        f"bytes 2000000-3500000/{len(CONTENT)}",
        f"bytes {len(CONTENT) - 5}-{len(CONTENT) - 1}/{len(CONTENT)}",
    ]
    bodies = re.split(rb"\r\n--[0-9a-f]{32}(?:--)?\r\n", answer.content)[1:-1]
    assert [body.partition(b"\r\n\r\n")[2] for body in bodies] == [
        CONTENT[10:20],
        CONTENT[2_000_000:3_500_001],
        CONTENT[-5:],
    ]


@pytest.mark.parametrize("header", ["bytes=99999999-", "bytes=5-2", "bytes=x", "bytes=", "bytes=-0"])
async def test_no_such_part_is_416_with_the_size(assets: Any, user: UUID, asset: Any, header: str) -> None:
    answer = await assets.content(user, asset["id"], Range=header)

    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"
    assert answer.headers["content-type"] == "application/problem+json"


async def test_parts_that_nobody_needs_are_the_whole(assets: Any, user: UUID, asset: Any) -> None:
    for header in ("items=0-1", "bytes=" + ",".join(["0-"] * 9), "bytes=" + ",".join(["0-0"] * 1000)):
        answer = await assets.content(user, asset["id"], Range=header)
        assert (answer.status_code, len(answer.content)) == (200, len(CONTENT))


async def test_conditions(assets: Any, user: UUID, asset: Any) -> None:
    tag = f'"{asset["sha256"]}"'
    same = (
        {"If-None-Match": tag},
        {"If-None-Match": f"W/{tag}"},
        {"If-None-Match": f'"x", {tag}'},
        {"If-None-Match": "*"},
    )
    for headers in same:
        answer = await assets.content(user, asset["id"], **headers)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
        assert answer.headers["cache-control"] == "private, no-cache"

    for headers, status in (
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Match": tag}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": f"W/{tag}"}, 412),
        ({"If-Range": tag, "Range": "bytes=0-1"}, 206),
        ({"If-Range": '"other"', "Range": "bytes=0-1"}, 200),
        ({"If-Range": f"W/{tag}", "Range": "bytes=0-1"}, 200),
        ({"If-Range": "Sat, 21 Nov 2026 07:00:00 GMT", "Range": "bytes=0-1"}, 200),
        ({"If-Range": '"other"', "Range": "bytes=99999999-"}, 200),
    ):
        assert (await assets.content(user, asset["id"], **headers)).status_code == status, headers


async def test_strangers_find_nothing_and_nobody_is_told_to_sign_in(assets: Any, asset: Any) -> None:
    path = f"{API}/{asset['id']}"
    for headers, status in (
        (assets.headers(uuid4()), 404),
        (assets.headers(uuid4(), roles=("admin",)), 404),
        ({}, 401),
        ({"Authorization": "Bearer x"}, 401),
    ):
        answers = [
            await assets.http.get(path, headers=headers),
            await assets.http.get(f"{path}/content", headers=headers),
            await assets.http.head(f"{path}/content", headers=headers),
            await assets.http.post(f"{path}/link", headers=headers),
            await assets.http.delete(path, headers=headers),
            # Before any 304, 412 or 416.
            await assets.http.get(f"{path}/content", headers={**headers, "If-None-Match": "*"}),
            await assets.http.get(f"{path}/content", headers={**headers, "If-Match": '"x"'}),
            await assets.http.get(f"{path}/content", headers={**headers, "Range": "bytes=99999999-"}),
        ]
        assert [answer.status_code for answer in answers] == [status] * len(answers)
    stranger = await assets.http.get(path, headers=assets.headers(uuid4()))
    nowhere = await assets.http.get(f"{API}/{uuid4()}", headers=assets.headers(uuid4()))
    assert stranger.json()["detail"] == nowhere.json()["detail"]


async def test_a_deleted_file_is_gone_with_its_bytes(assets: Any, user: UUID, asset: Any, nothing_left: Any) -> None:
    path = f"{API}/{asset['id']}"
    link = (await assets.http.post(f"{path}/link", headers=assets.headers(user))).json()["url"]

    assert (await assets.http.delete(path, headers=assets.headers(user))).status_code == 204

    assert (await assets.http.get(path, headers=assets.headers(user))).status_code == 404
    assert (await assets.content(user, asset["id"])).status_code == 404
    assert (await assets.http.get(link)).status_code == 404
    assert (await assets.http.delete(path, headers=assets.headers(user))).status_code == 404
    await nothing_left(facts=1)


async def test_deleting_at_once_deletes_once(replicas: Any, user: UUID) -> None:
    asset = await replicas[0].stored(user)
    headers = replicas[0].headers(user)
    answers = await asyncio.gather(
        *(replicas[number % 2].http.delete(f"{API}/{asset['id']}", headers=headers) for number in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [204] + [404] * 7


async def test_bytes_that_are_missing_are_not_found(assets: Any, user: UUID, asset: Any, deployment: Any) -> None:
    next(deployment.folder.rglob(asset["id"])).unlink()

    for headers in ({}, {"Range": "bytes=0-1,5-6"}):
        assert (await assets.content(user, asset["id"], **headers)).status_code == 404


async def test_the_gateway_is_told_where_the_bytes_are_and_nobody_else(deployment: Any, user: UUID) -> None:
    async with deployment.replica(assets_x_accel=True) as assets:
        asset = await assets.stored(user, b"content")

        told = await assets.content(user, asset["id"], **ACCELERATED)
        assert told.headers["x-accel-redirect"] == f"/-/files/{asset['id'][-2:]}/{asset['id']}"
        assert told.content == b""
        assert told.headers["content-type"] == "text/plain; charset=utf-8"

        direct = await assets.content(user, asset["id"])
        assert direct.content == b"content"
        assert "x-accel-redirect" not in direct.headers
        # NGINX could not compare the tag.
        assert (await assets.content(user, asset["id"], **ACCELERATED, **{"If-Match": "*"})).content == b"content"
        assert (await assets.content(uuid4(), asset["id"], **ACCELERATED)).status_code == 404
        assert (await assets.content(user, asset["id"], **ACCELERATED, Range="bytes=99-")).status_code == 416


async def test_without_the_setting_everything_streams(assets: Any, user: UUID, asset: Any) -> None:
    assert (await assets.content(user, asset["id"], **ACCELERATED)).content == CONTENT


async def test_a_bucket_streams_whatever_the_setting(deployment: Any, user: UUID, bucket_settings: Any) -> None:
    bucket = bucket_settings.model_dump(exclude={"assets_dir"})
    async with deployment.replica(assets_x_accel=True, **bucket) as assets:
        asset = await assets.stored(user, b"content")
        assert (await assets.content(user, asset["id"], **ACCELERATED)).content == b"content"
