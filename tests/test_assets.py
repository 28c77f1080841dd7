"""Files through the gateway: sent by NGINX, in parts and by links; erased with their account."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from servicekit.testing.serving import http_client

pytestmark = pytest.mark.needs("assets")

API = "/api/v1/assets"
CONTENT = bytes(range(32, 127)) * 40_000
SignIn = Callable[[], Awaitable[Any]]


async def _stored(gateway: httpx2.AsyncClient, user: Any, content: bytes = CONTENT, **headers: str) -> dict[str, Any]:
    response = await gateway.post(
        API, files={"file": ("Mai €.txt", content, "text/plain")}, headers={**user.headers, **headers}
    )
    assert response.status_code == 201, response.text
    asset: dict[str, Any] = response.json()
    return asset


async def test_a_file_is_stored_listed_and_deleted(gateway: httpx2.AsyncClient, sign_in: SignIn) -> None:
    user = await sign_in()
    form = await _stored(gateway, user)
    raw = await gateway.post(
        "/api/assets",
        content=CONTENT,
        headers={**user.headers, "Content-Type": "application/octet-stream", "X-Filename": "Mai%20%E2%82%AC.txt"},
    )
    assert raw.status_code == 201
    assert raw.json()["sha256"] == form["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    listed = await gateway.get(API, headers=user.headers)
    assert [item["id"] for item in listed.json()["items"]] == [raw.json()["id"], form["id"]]

    assert (await gateway.delete(f"{API}/{form['id']}", headers=user.headers)).status_code == 204
    assert (await gateway.get(f"{API}/{form['id']}/content", headers=user.headers)).status_code == 404


async def test_nginx_sends_what_the_service_would_send(
    gateway: httpx2.AsyncClient, sign_in: SignIn, running: Any
) -> None:
    """The responses have the same bytes and headers, with and without ranges."""
    user = await sign_in()
    asset = await _stored(gateway, user)
    path, tag = f"{API}/{asset['id']}/content", f'"{asset["sha256"]}"'
    compared = ("content-length", "content-range", "content-disposition", "etag", "cache-control", "last-modified")
    compared += ("content-security-policy", "x-content-type-options")
    conditions: list[dict[str, str]] = [
        {},
        {"Range": "bytes=0-0"},
        {"Range": "bytes=1000000-2500000"},
        {"Range": "bytes=-7"},
        {"Range": "bytes=3799990-99999999"},
        {"Range": "bytes=0-0,9999999-"},
        {"Range": "bytes=0-9223372036854775806"},
        {"Range": "bytes=7-9223372036854775808"},
        {"Range": "bytes=7-" + "9" * 100},
        {"Range": "bytes=-" + "9" * 100},
        {"Range": "bytes=" + "9" * 30 + "-"},
        {"Range": "bytes=" + ",".join(["0-0"] * 40)},
        {"Range": "bytes=0-,0-"},
        {"Range": "items=0-1"},
        {"Range": "bytes=99999999-"},
        {"Range": "bytes=5-2"},
        {"Range": "bytes=0-1", "If-Range": tag},
        {"Range": "bytes=0-1", "If-Range": '"other"'},
        {"Range": "bytes=0-1", "If-Range": "Sat, 21 Nov 2026 07:00:00 GMT"},
        {"If-None-Match": tag},
        {"If-None-Match": '"other"'},
        {"If-Modified-Since": "Sat, 21 Nov 2099 07:00:00 GMT"},
        {"If-Match": tag},
        {"If-Match": '"other"'},
        {"If-Unmodified-Since": "Sat, 21 Nov 2000 07:00:00 GMT"},
        {"Accept-Encoding": "gzip"},
    ]
    async with http_client(running.urls("assets")[0]) as direct:
        for headers in conditions:
            sent = await gateway.get(path, headers={**user.headers, **headers})
            own = await direct.get(path, headers={**user.headers, **headers})
            assert sent.status_code == own.status_code, headers
            if own.is_success:
                assert sent.content == own.content, headers
                assert sent.headers["content-type"] == own.headers["content-type"], headers
                sent_headers = {name: sent.headers.get_list(name) for name in compared}
                assert sent_headers == {name: own.headers.get_list(name) for name in compared}, headers
            elif sent.status_code >= 400:
                assert sent.headers["content-type"] == "application/problem+json"
        parts = await gateway.get(path, headers={**user.headers, "Range": "bytes=10-19,2000000-3500000,-5"})
        head = await gateway.head(path, headers=user.headers)
    assert head.headers.get_list("accept-ranges") == ["bytes"]
    assert parts.status_code == 206
    bodies = re.split(rb"\r\n--\w+(?:--)?\r\n", parts.content)[1:-1]
    assert [body.partition(b"\r\n\r\n")[2] for body in bodies] == [
        CONTENT[10:20],
        CONTENT[2_000_000:3_500_001],
        CONTENT[-5:],
    ]
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))


async def test_the_bytes_do_not_pass_through_the_service(
    gateway: httpx2.AsyncClient, sign_in: SignIn, running: Any
) -> None:
    user = await sign_in()
    asset = await _stored(gateway, user)
    # The service still names the file once it is gone, and NGINX finds nothing to send.
    file = next((running.data_dir / "assets" / "objects").rglob(asset["id"]))
    file.unlink()
    gone = await gateway.get(f"{API}/{asset['id']}/content", headers=user.headers)
    assert gone.status_code == 404
    assert gone.headers["content-type"].startswith("application/problem+json")


@pytest.mark.parametrize("path", ["/-/files/00/x", "/-/content/api/v1/assets", "/%2d/files/00/x"])
async def test_the_folder_cannot_be_requested(gateway: httpx2.AsyncClient, path: str) -> None:
    assert (await gateway.get(path)).status_code == 404


async def test_a_client_cannot_pose_as_the_gateway(gateway: httpx2.AsyncClient, sign_in: SignIn) -> None:
    """The gateway removes the headers by which it offers to send files."""
    user = await sign_in()
    asset = await _stored(gateway, user, b"content")
    headers = {**user.headers, "X-Sendfile-Type": "X-Accel-Redirect", "X-Accel-Redirect": "/-/files/"}

    for path in (f"{API}/{asset['id']}/content", f"{API}/{asset['id']}"):
        response = await gateway.get(path, headers=headers)
        assert response.status_code == 200
        assert "x-accel-redirect" not in response.headers


async def test_a_link_needs_no_token_and_is_in_no_log(
    gateway: httpx2.AsyncClient, sign_in: SignIn, running: Any
) -> None:
    user = await sign_in()
    asset = await _stored(gateway, user)
    link = await gateway.post(f"{API}/{asset['id']}/link", headers=user.headers)
    url = link.json()["url"]

    response = await gateway.get(url)
    assert response.status_code == 200
    assert response.content == CONTENT
    assert (await gateway.get(url, headers={"Range": "bytes=0-1"})).content == CONTENT[:2]
    assert (await gateway.get(url[:-1])).status_code == 403
    assert (await gateway.get(f"{API}/{asset['id']}/content")).status_code == 401

    signature = url.rpartition("signature=")[2]
    async with asyncio.timeout(60):
        while asset["id"] not in (running.data_dir / "gateway" / "access.log").read_text():
            await asyncio.sleep(0.1)
    logs = [path for path in running.data_dir.rglob("*.log") if path.is_file()]
    assert not [path.name for path in logs if signature in path.read_text(errors="replace")]


async def test_other_users_get_404_and_requests_without_a_token_401(
    gateway: httpx2.AsyncClient, sign_in: SignIn
) -> None:
    owner, other_user = await sign_in(), await sign_in()
    asset = await _stored(gateway, owner)

    for path in (f"{API}/{asset['id']}", f"{API}/{asset['id']}/content"):
        assert (await gateway.get(path, headers=other_user.headers)).status_code == 404
        assert (await gateway.get(path)).status_code == 401
    assert (await gateway.delete(f"{API}/{asset['id']}", headers=other_user.headers)).status_code == 404


async def test_ten_uploads_with_one_key_make_one_file(gateway: httpx2.AsyncClient, sign_in: SignIn) -> None:
    user, key = await sign_in(), str(uuid4())

    async def upload() -> httpx2.Response:
        return await gateway.post(
            API, files={"file": ("a.txt", CONTENT)}, headers={**user.headers, "Idempotency-Key": key}
        )

    responses = await asyncio.gather(*(upload() for _ in range(10)))

    assert {response.status_code for response in responses} <= {201, 409}
    listed = (await gateway.get(API, headers=user.headers)).json()["items"]
    assert {response.json()["id"] for response in responses if response.status_code == 201} == {
        item["id"] for item in listed
    }
    assert len(listed) == 1


async def test_a_file_that_is_too_large_is_refused_by_the_gateway(
    gateway: httpx2.AsyncClient, sign_in: SignIn, running: Any
) -> None:
    user = await sign_in()
    port = int(running.gateway_url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST {API} HTTP/1.1\r\nHost: a\r\nAuthorization: {user.headers['Authorization']}\r\n"
        f"X-Filename: a\r\nContent-Length: {2 * 1024**3}\r\n\r\n".encode()
    )
    async with asyncio.timeout(60):
        assert b" 413 " in await reader.readline()
    writer.close()


@pytest.mark.needs("analytics")
async def test_an_upload_shows_in_statistics_and_a_deleted_account_leaves_no_file(
    gateway: httpx2.AsyncClient, sign_in: SignIn, running: Any
) -> None:
    user = await sign_in()
    asset = await _stored(gateway, user)
    link = (await gateway.post(f"{API}/{asset['id']}/link", headers=user.headers)).json()["url"]
    async with asyncio.timeout(60):
        while True:
            events = await gateway.get("/api/v1/analytics/events?type=asset.uploaded", headers=user.headers)
            if items := events.json()["items"]:
                break
            await asyncio.sleep(0.1)
    assert [item["properties"]["asset_id"] for item in items] == [asset["id"]]

    assert (await gateway.delete("/api/v1/users/profile", headers=user.headers)).status_code == 204

    async with asyncio.timeout(60):
        while (await gateway.get(link)).status_code != 404:
            await asyncio.sleep(0.1)
