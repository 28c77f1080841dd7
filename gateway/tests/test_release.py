"""Releases: which requests reach the canary, and what the gateway does meanwhile."""

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from gateway_config import Canary
from gateway_config.testing.harness import SERVICES, UNLIMITED, GatewayHarness, Platform, Release
from gateway_config.testing.requests import (
    ASK_FOR_CANARY,
    FAILURES,
    KEY,
    NOT_RETRYABLE,
    RETRYABLE,
    Request,
    send,
)
from servicekit.testing.kept_alive import KeptAliveClients
from servicekit.testing.wire_server import Behaviour, reply, responding

pytestmark = pytest.mark.servers

# Which requests reach the canary


async def test_the_canary_gets_its_share_of_the_requests(harness: GatewayHarness) -> None:
    """A difference of six standard deviations fails once in five hundred million runs."""
    release = await harness.release(weight=25, settings=replace(UNLIMITED, traced_share=0.25))

    async with KeptAliveClients(release.gateway.port, path="/api/v1/users/login", pause=0) as clients:
        await clients.more(1500)

    assert clients.lost == {}
    stable, canary = release.arrivals()
    total = stable + canary
    assert abs(canary - total * 0.25) < 6 * (total * 0.25 * 0.75) ** 0.5
    # Whether a request is traced is drawn independently: the share among the canary's requests is that of all.
    traced = sum(request.headers["traceparent"].endswith("01") for request in release.canary.seen())
    assert abs(traced - canary * 0.25) < 6 * (canary * 0.25 * 0.75) ** 0.5


@pytest.fixture(scope="module")
async def release_at_0(module_harness: GatewayHarness) -> Release:
    return await module_harness.release(weight=0)


async def test_at_weight_0_the_canary_gets_only_requests_that_ask_for_it(release_at_0: Release) -> None:
    gateway = release_at_0.gateway

    assert [(await gateway.get("/api/v1/notes")).body for _ in range(20)] == [b"stable"] * 20
    assert (await gateway.get("/api/v1/notes", headers=ASK_FOR_CANARY)).body == b"canary"
    assert (await gateway.get("/.well-known/other", headers=ASK_FOR_CANARY)).status == 404


@pytest.mark.parametrize("sent", [*RETRYABLE, *NOT_RETRYABLE])
async def test_at_weight_100_the_canary_gets_every_request(release: Release, sent: Request) -> None:
    assert (await send(release.gateway, sent)).status == 200
    assert release.arrivals() == (0, 1)


@pytest.mark.parametrize("value", ["v1", "v22", "v2, v2", "", "notes_v2"])
async def test_only_release_v2_can_be_asked_for(release_at_0: Release, value: str) -> None:
    assert (await release_at_0.gateway.get("/api/v1/notes", headers={"X-Release": value})).body == b"stable"


async def test_without_a_release_the_header_is_ignored(platform: Platform) -> None:
    assert (await platform.gateway.get("/api/v1/notes", headers=ASK_FOR_CANARY)).body == b"notes"
    assert "x-release" not in platform.notes.only().headers


async def test_one_service_is_released_and_the_others_are_not(harness: GatewayHarness) -> None:
    stable, canary = await harness.backend("stable"), await harness.backend("canary")
    gateway = await harness.gateway(
        {name: [stable.address] for name in ("notes", "assets")}, canaries={"notes": Canary([canary.address], 100)}
    )

    assert (await gateway.get("/api/v1/notes")).body == b"canary"
    assert (await gateway.get("/api/v1/assets", headers=ASK_FOR_CANARY)).body == b"stable"


# What the gateway does during a release


async def test_limits_count_a_retried_request_once(harness: GatewayHarness) -> None:
    release = await harness.release(settings=replace(UNLIMITED, rate_auth=1), wait_for_keys=False)
    release.canary.respond = FAILURES["500"]

    began = time.monotonic()
    responses = [await release.gateway.post("/api/v1/users/register", headers=KEY) for _ in range(10)]

    statuses = [response.status for response in responses]
    assert statuses[:3] == [200] * 3
    # One more passes in each second that it takes.
    assert statuses.count(429) >= 7 - int(time.monotonic() - began)
    for refused in (response for response in responses if response.status == 429):
        refused.problem()


@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
async def test_a_body_that_is_too_large_reaches_neither_pool(release: Release, chunked: bool) -> None:
    body = b"x" * 20_000
    if chunked:
        body, framing = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), {"Transfer-Encoding": "chunked"}
    else:
        framing = {"Content-Length": "20000"}

    response = await release.gateway.post("/api/v1/users/register", headers={**KEY, **framing}, body=body)

    assert response.status == 413
    response.problem()
    assert release.arrivals() == (0, 0)


async def test_a_malformed_body_reaches_neither_pool(release: Release) -> None:
    head = b"POST /api/v1/notes HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n"

    response = await release.gateway.raw(head + b"Connection: close\r\n\r\nnonsense\r\n")

    assert response.status == 400
    response.problem()
    assert release.arrivals() == (0, 0)


@pytest.mark.parametrize("sent", [RETRYABLE[0], RETRYABLE[4], RETRYABLE[7], RETRYABLE[8]])
async def test_a_forged_token_reaches_neither_pool(release: Release, sent: Request) -> None:
    response = await send(release.gateway, sent, {"Authorization": "Bearer a.b.c"})

    assert response.status == 401
    response.problem()
    assert release.arrivals() == (0, 0)


async def test_a_valid_token_is_passed_to_both_pools(release: Release) -> None:
    release.canary.respond = FAILURES["502"]
    token = release.issuer.token(uuid4())

    assert (await release.gateway.get("/api/v1/users/profile", token=token)).body == b"stable"
    for backend in (release.canary, release.stable):
        assert backend.only().headers["authorization"] == f"Bearer {token}"


async def test_each_pool_has_its_own_copies(release: Release) -> None:
    path = "/api/v1/notes/public/copies"
    for backend in (release.stable, release.canary):
        content = reply(body=backend.name.encode(), cache_control="public, max-age=60", content_type="text/plain")
        backend.respond = responding(content)

    first, second = await release.gateway.get(path), await release.gateway.get(path)
    assert [(response.body, response.get("X-Cache")) for response in (first, second)] == [
        (b"canary", "MISS"),
        (b"canary", "HIT"),
    ]

    release.canary.respond = FAILURES["500"]
    other = path + "-2"
    first, second = await release.gateway.get(other), await release.gateway.get(other)
    assert [(response.body, response.get("X-Cache")) for response in (first, second)] == [
        (b"stable", "MISS"),
        (b"stable", "HIT"),
    ]
    # The stable response to a failure of the canary is not kept for the canary, so the canary is tried each time.
    assert [request.target for request in release.canary.seen()] == [path, other, other]


async def test_files_are_sent_for_both_pools(harness: GatewayHarness, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "one").write_bytes(b"one")
    (folder / "two").write_bytes(b"two")
    release = await harness.release(settings=replace(UNLIMITED, files_dir=str(folder)), wait_for_keys=False)
    release.canary.respond = responding(reply(x_accel_redirect="/-/files/one"))
    release.stable.respond = responding(reply(x_accel_redirect="/-/files/two"))

    assert (await release.gateway.get("/api/v1/assets/1/content")).body == b"one"
    release.canary.respond = FAILURES["500"]
    response = await release.gateway.get("/api/v1/assets/1/content", headers={"Range": "bytes=1-"})
    assert (response.status, response.body) == (206, b"wo")


async def test_public_keys_come_from_the_canary_when_the_stable_pool_has_none(harness: GatewayHarness) -> None:
    stable, canary = await harness.backend("stable"), await harness.backend("canary")
    stable.keys = responding(reply(503))

    # This waits until an invalid token is refused, which takes keys.
    await harness.gateway({"user": [stable.address]}, canaries={"user": Canary([canary.address], 0)})

    assert canary.key_fetches > 0


@pytest.mark.parametrize(
    ("stable_up", "canary_up", "state"), [(True, False, "up"), (False, True, "up"), (False, False, "down")]
)
async def test_a_service_is_up_while_one_of_its_pools_is(
    release: Release, stable_up: bool, canary_up: bool, state: str
) -> None:
    for backend, up in ((release.stable, stable_up), (release.canary, canary_up)):
        backend.health = responding(reply(200 if up else 503))

    response = await release.gateway.get("/lb-health")

    assert response.status == (200 if state == "up" else 503)
    assert response.json() == {"services": dict.fromkeys(SERVICES, state)}


async def test_the_merged_document_lists_a_released_service_once(release: Release) -> None:
    def document(title: str) -> Behaviour:
        paths = {f"/api/v1/{title}": {"get": {}}}
        return responding(reply(body=json.dumps({"info": {"title": title}, "paths": paths}).encode()))

    release.stable.respond, release.canary.respond = document("old"), document("new")
    assert list((await release.gateway.get("/openapi.json")).json()["paths"]) == ["/api/v1/old"]

    release.stable.respond = responding(reply(503))
    merged = (await release.gateway.get("/openapi.json")).json()
    assert (list(merged["paths"]), len(merged["tags"])) == (["/api/v1/new"], len(SERVICES))


async def test_the_access_line_names_the_release_and_every_attempt(release: Release) -> None:
    async def line(request_id: str, method: str = "GET", **headers: str) -> tuple[str, str, str, int]:
        await release.gateway.send(method, "/api/v1/notes/1", headers={"X-Request-Id": request_id, **headers})
        entry = await release.gateway.log_line(request_id)
        return entry["route"], entry["release"], entry["upstream_status"], entry["status"]

    assert await line("ok") == ("read", "v2", "200", 200)
    release.canary.respond = FAILURES["503"]
    assert await line("fallback") == ("read", "v2", "503 : 200", 200)
    assert await line("canary", **ASK_FOR_CANARY) == ("read", "v2", "503", 503)
    assert await line("write", "DELETE") == ("write", "v2", "503", 503)


async def test_without_a_release_the_access_line_names_the_stable_pool(platform: Platform) -> None:
    for request_id, path, release in (("logged-stable", "/api/v1/notes", "v1"), ("logged-own", "/nowhere", "")):
        await platform.gateway.get(path, headers={"X-Request-Id": request_id})
        assert (await platform.gateway.log_line(request_id))["release"] == release


# A release from its beginning to its end


async def test_a_release_that_begins_moves_and_ends_loses_no_request(harness: GatewayHarness) -> None:
    stable, canary = await harness.backend("stable"), await harness.backend("canary")
    servers = {"notes": [stable.address]}
    gateway = await harness.gateway(servers, wait_for_keys=False)

    async with KeptAliveClients(gateway.port, path="/api/v1/notes", token=gateway.token) as clients:
        await clients.more(50)
        for weight in (0, 50, 100):
            await gateway.reload(servers, {"notes": Canary([canary.address], weight)})
            await clients.more(150)
        await gateway.reload(servers)
        await clients.more(150)

    assert clients.lost == {}
    assert set(clients.statuses) == {200}
    assert stable.seen()
    assert canary.seen()
    async with asyncio.timeout(60):
        while (await gateway.get("/api/v1/notes", headers=ASK_FOR_CANARY)).body != b"stable":
            await asyncio.sleep(0.01)
