"""The bearer check at the edge: where it applies, what it remembers, and how it learns of keys."""

import asyncio
import json
import time
from typing import Any

import pytest

from gateway_config.testing import Issuer
from servicekit.testing.wire_server import Received, answering, reply

PROTECTED = [
    ("GET", "/api/v1/users/profile"),
    ("PATCH", "/api/v1/users/profile"),
    ("POST", "/api/v1/users/logout"),
    ("POST", "/api/v1/users/password"),
    ("DELETE", "/api/v1/users/1"),
    ("POST", "/api/v1/analytics/events"),
    ("GET", "/api/v1/analytics/stats"),
    ("POST", "/api/v1/notes"),
    ("POST", "/api/v1/assets"),
    ("GET", "/api/v1/assets/1/content"),
    ("GET", "/api/users/profile"),
    ("OPTIONS", "/api/v1/users/profile"),
    # Beside public routes, not on them.
    ("GET", "/api/v1/users/login"),
    ("POST", "/api/v1/users/stats/count"),
    ("POST", "/api/v1/users/login/"),
    ("GET", "/api/v1/notes/public/a/b"),
    ("GET", "/api/v1/notes/public/..%2f1"),
]

PUBLIC = [
    ("POST", "/api/v1/users/register"),
    ("POST", "/api/v1/users/login"),
    ("POST", "/api/v1/users/token"),
    ("POST", "/api/v1/users/refresh"),
    ("POST", "/api/users/login"),
    ("GET", "/api/v1/users/stats/count"),
    ("GET", "/api/v1/notes/public/a-slug"),
    ("GET", "/.well-known/jwks.json"),
]


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "once"}], ids=["plain", "keyed"])
@pytest.mark.parametrize(("method", "path"), PROTECTED)
async def test_a_protected_route_refuses_a_forged_token_and_passes_a_good_one(
    platform: Any, method: str, path: str, key: dict[str, str]
) -> None:
    refused = await platform.gateway.send(method, path, headers=key, token="a.b.c")
    assert (refused.status, platform.reached()) == (401, [])

    token = platform.issuer.token()
    assert (await platform.gateway.send(method, path, headers=key, token=token)).status == 200
    (request,) = platform.reached()
    assert request.headers["authorization"] == f"Bearer {token}"


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "once"}], ids=["plain", "keyed"])
@pytest.mark.parametrize("authorization", ["Bearer a.b.c", "Basic dXNlcjpwYXNz", "garbage", "Bearer"])
@pytest.mark.parametrize(("method", "path"), PUBLIC)
async def test_a_public_route_ignores_authorization(
    platform: Any, method: str, path: str, authorization: str, key: dict[str, str]
) -> None:
    answer = await platform.gateway.send(method, path, headers={"Authorization": authorization, **key})

    assert answer.status == 200
    (request,) = [request for backend in platform.backends for request in backend.requests]
    assert "authorization" not in request.headers


@pytest.mark.parametrize(("method", "path"), PROTECTED)
async def test_without_authorization_the_service_decides(platform: Any, method: str, path: str) -> None:
    assert (await platform.gateway.send(method, path)).status == 200
    assert len(platform.reached()) == 1


@pytest.mark.parametrize("aud", ["baseplate", ["another", "baseplate"]])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_good_token_passes_in_each_of_its_forms(platform: Any, scheme: str, aud: Any) -> None:
    headers = {"Authorization": f"{scheme} {platform.issuer.token(aud=aud)}"}

    assert (await platform.gateway.get("/api/v1/users/profile", headers=headers)).status == 200


async def test_a_large_upload_with_a_token_passes(platform: Any) -> None:
    """The check is a subrequest with the same Content-Length; it must not be measured by that."""
    body = b"x" * (3 * 1024 * 1024)

    answer = await platform.gateway.post("/api/v1/assets", token=platform.issuer.token(), body=body)

    assert answer.status == 200
    assert platform.assets.only().body == body


async def test_a_token_is_refused_from_its_expiry_on_even_when_it_was_verified_before(platform: Any) -> None:
    statuses: list[int] = []
    # On a machine that is busy just then, the first request may come later than the token's end.
    for seconds in (1, 5, 25):
        expires = time.time() + seconds
        token = platform.issuer.token(exp=expires)
        statuses.clear()
        while not statuses or statuses[-1] == 200:
            asked = time.time()
            statuses.append((await platform.gateway.get("/api/v1/users/profile", token=token)).status)
            assert statuses[-1] == 401 or asked < expires
        assert statuses[-1] == 401
        assert time.time() >= expires
        if statuses[0] == 200:
            break

    assert statuses[0] == 200


async def test_an_altered_copy_of_a_verified_token_is_refused(platform: Any) -> None:
    token = platform.issuer.token()
    assert (await platform.gateway.get("/api/v1/users/profile", token=token)).status == 200

    last = "B" if token[-10] != "B" else "C"
    altered = token[:-10] + last + token[-9:]

    assert (await platform.gateway.get("/api/v1/users/profile", token=altered)).status == 401


async def test_before_any_key_was_fetched_tokens_pass_to_the_service(world: Any) -> None:
    user = await world.backend("user")
    user.keys = answering(reply(503))
    gateway = await world.gateway({"user": [user.address]}, keys_known=False)

    assert (await gateway.get("/api/v1/users/profile", token="a.b.c")).status == 200
    assert (await gateway.get("/api/v1/users/profile", token=world.issuer.token())).status == 200
    assert len(user.seen()) == 2


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b"no json"),
        reply(200, b"{}"),
        reply(200, b'{"keys": []}'),
        reply(200, b'{"keys": [{"kty": "oct", "kid": "first", "k": "AAAA"}]}'),
        reply(200, b"[]"),
        reply(500),
    ],
)
async def test_a_useless_key_set_leaves_the_last_keys_in_place(world: Any, answer: bytes) -> None:
    user = await world.backend("user")
    gateway = await world.gateway({"user": [user.address]})
    user.keys = answering(answer)

    # An unknown key id makes the gateway fetch the useless set.
    assert (await gateway.get("/api/v1/users/profile", token=world.issuer.token(header={"kid": "new"}))).status == 401
    assert (await gateway.get("/api/v1/users/profile", token=world.issuer.token())).status == 200
    assert (await gateway.get("/api/v1/users/profile", token="a.b.c")).status == 401


async def test_keys_stay_while_the_user_service_is_away(world: Any) -> None:
    user, notes = await world.backend("user"), await world.backend("notes")
    gateway = await world.gateway({"user": [user.address], "notes": [notes.address]})
    await user.__aexit__(None, None, None)

    assert (await gateway.get("/api/v1/notes", token=world.issuer.token())).status == 200
    assert (await gateway.get("/api/v1/notes", token="a.b.c")).status == 401
    assert (await gateway.get("/api/v1/notes", token=world.issuer.token(header={"kid": "new"}))).status == 401


async def test_keys_are_known_soon_after_the_user_service_comes(world: Any) -> None:
    """Nobody need start the gateway last; the tokens here are such that none of them causes a fetch."""
    user = await world.backend("user")
    user.keys = answering(reply(503))
    gateway = await world.gateway({"user": [user.address]}, keys_known=False)
    assert (await gateway.get("/api/v1/users/profile", token="a.b.c")).status == 200

    user.keys = answering(reply(body=world.issuer.key_set()))

    await gateway.until_keys_are_known()


async def test_keys_come_from_any_replica(world: Any) -> None:
    dead, alive = await world.backend("user"), await world.backend("user")
    await dead.__aexit__(None, None, None)

    gateway = await world.gateway({"user": [dead.address, alive.address]})

    assert (await gateway.get("/api/v1/users/profile", token=world.issuer.token())).status == 200


async def test_the_first_token_of_a_new_key_passes(world: Any) -> None:
    user = await world.backend("user")
    gateway = await world.gateway({"user": [user.address]})
    new = Issuer("second")
    both = json.dumps({"keys": [world.issuer.jwk(), new.jwk()]}).encode()
    user.keys = answering(reply(body=both))

    assert (await gateway.get("/api/v1/users/profile", token=new.token())).status == 200
    assert (await gateway.get("/api/v1/users/profile", token=world.issuer.token())).status == 200


async def test_tokens_of_a_new_key_wait_for_the_one_fetch_that_runs(world: Any) -> None:
    """All of them arrive before the key set does: one fetches, none is refused."""
    user = await world.backend("user")
    gateway = await world.gateway({"user": [user.address]})
    new = Issuer("second")
    arrived, may_answer = asyncio.Event(), asyncio.Event()

    async def slowly(_request: Received, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await may_answer.wait()
        writer.write(reply(body=new.key_set()))

    user.keys = slowly
    before = user.key_fetches
    requests = [
        asyncio.create_task(gateway.get("/api/v1/users/profile", token=new.token(jti=str(number))))
        for number in range(20)
    ]
    await arrived.wait()
    may_answer.set()

    assert {answer.status for answer in await asyncio.gather(*requests)} == {200}
    assert user.key_fetches - before == 1


async def test_a_withdrawn_key_is_refused_though_its_tokens_were_verified_before(world: Any) -> None:
    user = await world.backend("user")
    gateway = await world.gateway({"user": [user.address]})
    old = world.issuer.token()
    assert (await gateway.get("/api/v1/users/profile", token=old)).status == 200
    new = Issuer("second")
    user.keys = answering(reply(body=new.key_set()))

    assert (await gateway.get("/api/v1/users/profile", token=new.token())).status == 200
    assert (await gateway.get("/api/v1/users/profile", token=old)).status == 401


async def test_a_storm_of_unknown_key_ids_fetches_at_most_once_in_five_seconds(world: Any) -> None:
    user = await world.backend("user")
    gateway = await world.gateway({"user": [user.address]})
    before, started = user.key_fetches, time.monotonic()
    tokens = (world.issuer.token(header={"kid": f"unknown-{number}"}) for number in range(300))

    answers = await asyncio.gather(*(gateway.get("/api/v1/users/profile", token=token) for token in tokens))

    assert {answer.status for answer in answers} == {401}
    assert user.seen() == []
    # One at once and one after each full five seconds; one more may have been due anyway.
    assert user.key_fetches - before <= 2 + int((time.monotonic() - started) / 5)
