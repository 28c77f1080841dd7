"""The token check at the edge: where it applies, what it remembers, and how it gets public keys."""

import asyncio
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway_config.testing.harness import GatewayHarness, Platform, Release, publishing
from gateway_config.testing.tokens import make_token
from servicekit.testing.tokens import TestIssuer
from servicekit.testing.wire_server import Received, reply, responding

pytestmark = pytest.mark.servers

USER = UUID(int=1)
PROFILE = "/api/v1/users/profile"
KEYS = pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "once"}], ids=["plain", "keyed"])

PROTECTED = [
    ("GET", "/api/v1/users/profile"),
    ("PATCH", "/api/v1/users/profile"),
    ("POST", "/api/v1/users/password"),
    ("POST", "/api/v1/users/api-keys"),
    ("DELETE", "/api/v1/users/api-keys/1"),
    ("POST", "/api/v1/users/email"),
    ("POST", "/api/v1/users/verification"),
    ("POST", "/api/v1/users/invitations"),
    ("DELETE", "/api/v1/users/1"),
    ("POST", "/api/v1/analytics/events"),
    ("GET", "/api/v1/analytics/stats"),
    ("POST", "/api/v1/notes"),
    ("POST", "/api/v1/assets"),
    ("GET", "/api/v1/assets/1/content"),
    ("GET", "/api/users/profile"),
    ("OPTIONS", "/api/v1/users/profile"),
    # Similar to public routes.
    ("GET", "/api/v1/users/login"),
    ("POST", "/api/v1/users/stats/count"),
    ("GET", "/api/v1/notes/public/a/b"),
    ("GET", "/api/v1/notes/public/..%2f1"),
]

PUBLIC = [
    ("POST", "/api/v1/users/register"),
    ("POST", "/api/v1/users/login"),
    ("POST", "/api/v1/users/token"),
    ("POST", "/api/users/token?a=b"),
    ("POST", "/api/v1/users/refresh"),
    ("POST", "/api/users/login"),
    ("POST", "/api/v1/users/password/forgot"),
    ("POST", "/api/v1/users/password/reset"),
    ("POST", "/api/v1/users/verification/confirm"),
    ("POST", "/api/v1/users/invitations/accept"),
    ("GET", "/api/v1/users/stats/count"),
    ("GET", "/api/v1/notes/public/a-slug"),
    ("GET", "/.well-known/jwks.json"),
]


@KEYS
@pytest.mark.parametrize(("method", "path"), PROTECTED)
async def test_a_protected_route_refuses_a_forged_token_and_passes_a_valid_one(
    platform: Platform, method: str, path: str, key: dict[str, str]
) -> None:
    refused = await platform.gateway.send(method, path, headers=key, token="a.b.c")
    assert (refused.status, platform.reached()) == (401, [])

    token = platform.issuer.token(USER)
    assert (await platform.gateway.send(method, path, headers=key, token=token)).status == 200
    (request,) = platform.reached()
    assert request.headers["authorization"] == f"Bearer {token}"


@KEYS
@pytest.mark.parametrize("authorization", ["Bearer a.b.c", "Basic dXNlcjpwYXNz", "garbage", "Bearer"])
@pytest.mark.parametrize("path", ["/api/v1/users/logout", "/api/users/logout"])
async def test_a_logout_reaches_its_service_whatever_authorization_holds(
    platform: Platform, path: str, authorization: str, key: dict[str, str]
) -> None:
    response = await platform.gateway.send("POST", path, headers={"Authorization": authorization, **key})

    assert response.status == 200
    (request,) = platform.reached()
    assert request.headers["authorization"] == authorization


@KEYS
@pytest.mark.parametrize("authorization", ["Bearer a.b.c", "Basic dXNlcjpwYXNz", "garbage", "Bearer"])
@pytest.mark.parametrize(("method", "path"), PUBLIC)
async def test_a_public_route_ignores_authorization(
    platform: Platform, method: str, path: str, authorization: str, key: dict[str, str]
) -> None:
    response = await platform.gateway.send(method, path, headers={"Authorization": authorization, **key})

    assert response.status == 200
    # The gateway fetches keys at any time.
    fetched = [request for backend in platform.backends for request in backend.requests if request.target == path]
    # The token endpoint gets the credentials of an API key.
    is_for_service = "/token" in path and authorization.startswith("Basic")
    expected = authorization if is_for_service else None
    assert {request.headers.get("authorization") for request in platform.reached() or fetched} == {expected}


@pytest.mark.parametrize("authorization", ["Bearer a.b.c", "Basic dXNlcjpwYXNz", "garbage", "Bearer"])
@pytest.mark.parametrize(
    "query", ["expires=1&signature=x", "a=b&signature=x", "expires=", "signature=", "inline=1&note=x"]
)
async def test_a_signed_link_ignores_authorization(platform: Platform, query: str, authorization: str) -> None:
    headers = {"Authorization": authorization}
    for method, path in (("GET", "/api/v1/assets/1/content"), ("HEAD", "/api/assets/1/content")):
        assert (await platform.gateway.send(method, f"{path}?{query}", headers=headers)).status == 200
        assert "authorization" not in platform.assets.only().headers

    for method, path in (
        ("GET", f"/api/v1/assets/1?{query}"),
        ("POST", f"/api/v1/assets/1/content?{query}"),
        ("GET", f"/api/v1/assets/1/content/?{query}"),
        ("GET", f"/api/v1/notes/1?{query}"),
        ("GET", "/api/v1/assets/1/content?q=signature=x"),
        ("GET", "/api/v1/assets/signature=x/content"),
    ):
        assert (await platform.gateway.send(method, path, headers=headers)).status in (401, 404)
    assert platform.reached() == []


async def test_a_signed_link_ignores_authorization_during_a_release(release: Release) -> None:
    response = await release.gateway.get("/api/v1/assets/1/content?expires=1&signature=x", token="a.b.c")

    assert (response.status, release.arrivals()) == (200, (0, 1))


# Their bodies may be large, so NGINX buffers them on disk.
TOKEN_REQUIRED = [
    ("POST", "/api/v1/analytics/events"),
    ("POST", "/api/v1/notes"),
    ("PUT", "/api/v1/notes/1"),
    ("PATCH", "/api/notes/1"),
    ("POST", "/api/v1/assets"),
    ("POST", "/api/assets"),
]
NO_TOKEN = {"Authorization": ""}


@pytest.mark.parametrize(("method", "path"), [route for route in PROTECTED if route not in TOKEN_REQUIRED])
async def test_without_authorization_the_service_decides(platform: Platform, method: str, path: str) -> None:
    assert (await platform.gateway.send(method, path, headers=NO_TOKEN)).status == 200
    assert len(platform.reached()) == 1


@KEYS
@pytest.mark.parametrize(
    "length", [("Content-Length", "2000000"), ("Transfer-Encoding", "chunked")], ids=["sized", "chunked"]
)
@pytest.mark.parametrize(("method", "path"), TOKEN_REQUIRED)
async def test_a_request_with_a_large_body_needs_a_token_before_the_body_is_read(
    platform: Platform, method: str, path: str, length: tuple[str, str], key: dict[str, str]
) -> None:
    # The response comes although the body does not.
    unsigned = await platform.gateway.send(method, path, headers=[*key.items(), length, *NO_TOKEN.items()])
    assert unsigned.status == 401
    assert unsigned.get("WWW-Authenticate") == 'Bearer realm="baseplate"'
    assert unsigned.problem()["detail"] == "Valid credentials are required."

    forged = await platform.gateway.send(method, path, headers=[*key.items(), length], token="a.b.c")
    assert forged.status == 401
    assert "invalid_token" in (forged.get("WWW-Authenticate") or "")
    assert platform.reached() == []


async def test_the_canary_of_a_release_gets_no_large_body_without_a_token(release: Release) -> None:
    for path in ("/api/v1/notes", "/api/v1/assets", "/api/v1/analytics/events"):
        headers = {"Idempotency-Key": "once", "Content-Length": "2000000", **NO_TOKEN}
        assert (await release.gateway.post(path, headers=headers)).status == 401
    assert release.arrivals() == (0, 0)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/notes"),
        ("GET", "/api/v1/users/stats/count"),
        ("GET", "/api/v1/notes/public/slug"),
        ("GET", "/api/v1/assets/1/content"),
        ("PATCH", "/api/v1/users/profile"),
        ("DELETE", "/api/v1/notes/1"),
        ("POST", "/api/v1/users/logout"),
        ("POST", "/api/v1/users/register"),
    ],
)
async def test_no_body_is_buffered_on_disk_without_a_token(platform: Platform, method: str, path: str) -> None:
    refused = await platform.gateway.send(method, path, headers={"Content-Length": str(64 * 1024 + 1), **NO_TOKEN})
    assert refused.status == 413

    # All but the last byte of a body that is accepted.
    reader, writer = await asyncio.open_connection("127.0.0.1", platform.gateway.port)
    size = 16 * 1024
    try:
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        writer.write(b"x" * (size - 1))
        await writer.drain()
        # A later request is answered, so the gateway has read what was sent before.
        await platform.gateway.get("/gateway-health")
        assert [file for file in (platform.gateway.target / "temp" / "body").rglob("*") if file.is_file()] == []
        writer.write(b"x")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    finally:
        writer.close()


@pytest.mark.parametrize("aud", ["baseplate", ["another", "baseplate"]])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_valid_token_passes_in_each_of_its_forms(platform: Platform, scheme: str, aud: Any) -> None:
    headers = {"Authorization": f"{scheme} {make_token(platform.issuer, aud=aud)}"}

    assert (await platform.gateway.get(PROFILE, headers=headers)).status == 200


async def test_the_token_of_an_api_key_passes(platform: Platform) -> None:
    headers = platform.issuer.key_headers(uuid4(), "users:read")

    assert (await platform.gateway.get(PROFILE, headers=headers)).status == 200


async def test_a_large_upload_with_a_token_passes(platform: Platform) -> None:
    """The check is a subrequest with the same Content-Length, which must not count as its size."""
    body = b"x" * (3 * 1024 * 1024)

    response = await platform.gateway.post("/api/v1/assets", token=platform.issuer.token(USER), body=body)

    assert response.status == 200
    assert platform.assets.only().body == body


async def test_a_token_is_refused_once_it_has_expired_even_if_it_was_verified_before(platform: Platform) -> None:
    # On a busy machine the first request may be later than the expiry; then the measurement is repeated with more time.
    for seconds in (1, 5, 25):
        # The script compares whole milliseconds.
        expires = round(time.time() + seconds, 3)
        token = make_token(platform.issuer, exp=expires)
        statuses: list[int] = []
        while not statuses or statuses[-1] == 200:
            sent = time.time()
            statuses.append((await platform.gateway.get(PROFILE, token=token)).status)
            assert statuses[-1] == 401 or sent < expires
        assert statuses[-1] == 401
        assert time.time() >= expires
        if statuses[0] == 200:
            break

    assert statuses[0] == 200


async def test_an_altered_copy_of_a_verified_token_is_refused(platform: Platform) -> None:
    token = platform.issuer.token(USER)
    assert (await platform.gateway.get(PROFILE, token=token)).status == 200

    letter = "B" if token[-10] != "B" else "C"
    altered = token[:-10] + letter + token[-9:]

    assert (await platform.gateway.get(PROFILE, token=altered)).status == 401


async def test_tokens_pass_to_the_service_until_keys_were_fetched(harness: GatewayHarness) -> None:
    user = await harness.backend("user")
    user.keys = responding(reply(503))
    gateway = await harness.gateway({"user": [user.address]}, wait_for_keys=False)

    assert (await gateway.get(PROFILE, token="a.b.c")).status == 200
    assert (await gateway.get(PROFILE, token=harness.issuer.token(USER))).status == 200
    assert len(user.seen()) == 2


@pytest.mark.parametrize(
    "response",
    [
        reply(200, b"no json"),
        reply(200, b"{}"),
        reply(200, b'{"keys": []}'),
        reply(200, b'{"keys": [{"kty": "oct", "kid": "first", "k": "AAAA"}]}'),
        reply(200, b"[]"),
        reply(500),
    ],
)
async def test_an_unusable_key_set_does_not_replace_the_last_keys(harness: GatewayHarness, response: bytes) -> None:
    user = await harness.backend("user")
    gateway = await harness.gateway({"user": [user.address]})
    user.keys = responding(response)

    # An unknown key id makes the gateway fetch the unusable set.
    unknown = make_token(harness.issuer, header={"kid": "new"})
    assert (await gateway.get(PROFILE, token=unknown)).status == 401
    assert (await gateway.get(PROFILE, token=harness.issuer.token(USER))).status == 200
    assert (await gateway.get(PROFILE, token="a.b.c")).status == 401


async def test_keys_stay_while_the_user_service_is_unavailable(harness: GatewayHarness) -> None:
    user, notes = await harness.backend("user"), await harness.backend("notes")
    gateway = await harness.gateway({"user": [user.address], "notes": [notes.address]})
    await user.stop()

    unknown = make_token(harness.issuer, header={"kid": "new"})
    assert (await gateway.get("/api/v1/notes", token=harness.issuer.token(USER))).status == 200
    assert (await gateway.get("/api/v1/notes", token="a.b.c")).status == 401
    assert (await gateway.get("/api/v1/notes", token=unknown)).status == 401


async def test_keys_are_fetched_soon_after_the_user_service_starts(
    harness: GatewayHarness, short_timeouts: Path
) -> None:
    """Services may start after the gateway. No token of this test causes a fetch."""
    user = await harness.backend("user")
    user.keys = responding(reply(503))
    gateway = await harness.gateway({"user": [user.address]}, wait_for_keys=False, static_files=short_timeouts)
    assert (await gateway.get(PROFILE, token="a.b.c")).status == 200

    user.keys = publishing(harness.issuer)

    await gateway.wait_for_keys()


async def test_keys_come_from_any_replica(harness: GatewayHarness) -> None:
    stopped, running = await harness.backend("user"), await harness.backend("user")
    await stopped.stop()

    gateway = await harness.gateway({"user": [stopped.address, running.address]})

    assert (await gateway.get(PROFILE, token=harness.issuer.token(USER))).status == 200


async def test_the_first_token_of_a_new_key_passes(harness: GatewayHarness) -> None:
    user = await harness.backend("user")
    gateway = await harness.gateway({"user": [user.address]})
    new = TestIssuer(kid="second")
    user.keys = publishing(harness.issuer, new)

    assert (await gateway.get(PROFILE, token=new.token(USER))).status == 200
    assert (await gateway.get(PROFILE, token=harness.issuer.token(USER))).status == 200


async def test_all_tokens_of_a_new_key_wait_for_one_fetch(harness: GatewayHarness) -> None:
    """All of them arrive before the key set does: one of them fetches it, and none is refused."""
    user = await harness.backend("user")
    gateway = await harness.gateway({"user": [user.address]})
    new = TestIssuer(kid="second")
    publish, arrived, released = publishing(new), asyncio.Event(), asyncio.Event()

    async def held(request: Received, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await released.wait()
        await publish(request, writer)

    user.keys = held
    before = user.key_fetches
    requests = [asyncio.create_task(gateway.get(PROFILE, token=new.token(USER))) for _ in range(20)]
    await arrived.wait()
    released.set()

    assert {response.status for response in await asyncio.gather(*requests)} == {200}
    assert user.key_fetches - before == 1


async def test_a_withdrawn_key_is_refused_even_if_its_tokens_were_verified_before(harness: GatewayHarness) -> None:
    user = await harness.backend("user")
    gateway = await harness.gateway({"user": [user.address]})
    old = harness.issuer.token(USER)
    assert (await gateway.get(PROFILE, token=old)).status == 200
    new = TestIssuer(kid="second")
    user.keys = publishing(new)

    assert (await gateway.get(PROFILE, token=new.token(USER))).status == 200
    assert (await gateway.get(PROFILE, token=old)).status == 401


async def test_unknown_key_ids_cause_at_most_one_fetch_in_five_seconds(harness: GatewayHarness) -> None:
    user = await harness.backend("user")
    gateway = await harness.gateway({"user": [user.address]})
    before, started = user.key_fetches, time.monotonic()
    tokens = (make_token(harness.issuer, header={"kid": f"unknown-{number}"}) for number in range(300))

    responses = await asyncio.gather(*(gateway.get(PROFILE, token=token) for token in tokens))

    assert {response.status for response in responses} == {401}
    assert user.seen() == []
    # One at once and one after each full five seconds; the periodic fetch may add one.
    assert user.key_fetches - before <= 2 + int((time.monotonic() - started) / 5)
