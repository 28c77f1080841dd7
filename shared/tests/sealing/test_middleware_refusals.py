"""Invalid sealed messages, and those of callers without permission, are refused with one text and never executed."""

import time
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest

from servicekit.sealing.ciphers import CipherName
from servicekit.sealing.client import MessageSealer
from servicekit.sealing.envelope import Refusal
from servicekit.sealing.keyring import Keyring
from servicekit.sealing.middleware import REFUSED
from servicekit.sealing.wire import MAX_SEALED_BYTES, MEDIA_TYPE
from servicekit.testing.logs import logged_lines
from servicekit.testing.sealed import Recorded

PATH = "/api/v1/parcels"

ciphers = pytest.mark.parametrize("cipher", get_args(CipherName))


ONE_TEXT = {
    "type": "urn:baseplate:problem:message-refused",
    "title": "Unauthorized",
    "status": 401,
    "detail": "This needs a valid sealed message.",
}


async def _refused(replica: Any, response: Any) -> None:
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"] == "ServiceEnvelope"
    if response.request.method != "HEAD":
        # The rest of the text names the request itself.
        assert response.json().items() >= ONE_TEXT.items()
        assert response.json().keys() == ONE_TEXT.keys() | {"instance", "request_id"}
    assert replica.executed == []


def _resealed(keyrings: dict[str, Keyring], age: float = 0, **changes: Any) -> Recorded:
    """Return a request sealed `age` seconds ago, or by or for another service."""
    parts = {"caller": "user", "callee": "analytics"} | changes
    sealer = MessageSealer(parts["caller"], keyrings[parts["caller"]], "fernet", clock=lambda: time.time() - age)
    headers = {"content-type": "application/json"}
    return Recorded("POST", PATH, sealer.seal_request(parts["callee"], "POST", PATH, headers, b'{"weight": 3}'))


@ciphers
async def test_a_recorded_request_is_refused_when_it_is_sent_again(
    replica: Any, make_peer: Any, cipher: CipherName
) -> None:
    peer = make_peer(replica, cipher=cipher)
    for recorded in (peer.seal("POST", PATH, json={"weight": 3}), peer.seal("GET", f"{PATH}/sealed")):
        peer.open(recorded, await peer.send(recorded))
        replica.executed.clear()
        for _ in range(3):
            await _refused(replica, await peer.send(recorded))


@ciphers
async def test_a_recorded_request_is_refused_at_another_path_query_or_method(
    replica: Any, make_peer: Any, cipher: CipherName
) -> None:
    peer = make_peer(replica, cipher=cipher)
    post = peer.seal("POST", PATH, json={"weight": 3})
    get = peer.seal("GET", f"{PATH}/sealed?q=1")

    await _refused(replica, await peer.send(post, url=f"{PATH}/other", method="PUT"))
    await _refused(replica, await peer.send(post, method="PUT", url=f"{PATH}/x"))
    await _refused(replica, await peer.send(post, url=f"{PATH}?weight=4"))
    await _refused(replica, await peer.send(get, url=f"{PATH}/optional?q=1"))
    await _refused(replica, await peer.send(get, url=f"{PATH}/sealed?q=2"))
    await _refused(replica, await peer.send(get, url=f"{PATH}/sealed"))
    await _refused(replica, await peer.send(get, method="DELETE"))
    await _refused(replica, await peer.send(get, method="HEAD"))


@ciphers
async def test_a_request_altered_in_any_byte_is_refused(replica: Any, make_peer: Any, cipher: CipherName) -> None:
    peer = make_peer(replica, cipher=cipher)
    recorded = peer.seal("POST", PATH, json={"weight": 3})
    wire = recorded.message.body
    for position in range(len(wire)):
        altered = wire[:position] + bytes([wire[position] ^ 1]) + wire[position + 1 :]
        await _refused(replica, await peer.send(recorded, content=altered))

    # None of these attempts has used up the nonce of the genuine message.
    assert peer.open(recorded, await peer.send(recorded)).status == 201


async def test_a_request_for_another_service_is_refused(replica: Any, make_peer: Any, keyrings: Any) -> None:
    peer = make_peer(replica)
    await _refused(replica, await peer.send(_resealed(keyrings, callee="notes")))


async def test_a_request_in_the_name_of_another_service_is_refused(replica: Any, make_peer: Any, keyrings: Any) -> None:
    peer = make_peer(replica, "notes")
    recorded = _resealed(keyrings, caller="notes")
    for name in ("user", "analytics", "assets", "USER", "", "nötes", "../user"):
        headers = {**recorded.message.headers, "x-service-name": name.encode()}
        await _refused(replica, await peer.send(recorded, headers=headers))


@pytest.mark.parametrize("age", [31.0, 120.0, -6.0, -120.0])
async def test_a_request_that_is_stale_or_from_the_future_is_refused(
    replica: Any, make_peer: Any, keyrings: Any, age: float
) -> None:
    await _refused(replica, await make_peer(replica).send(_resealed(keyrings, age)))


async def test_a_response_sent_as_a_request_is_refused(replica: Any, make_peer: Any) -> None:
    peer = make_peer(replica)
    recorded = peer.seal("POST", PATH, json={"weight": 3})
    response = await peer.send(recorded)
    replica.executed.clear()

    await _refused(replica, await peer.send(recorded, content=response.content))


async def test_a_request_with_a_missing_repeated_or_misplaced_part_is_refused(replica: Any, make_peer: Any) -> None:
    peer = make_peer(replica)
    post, get = peer.seal("POST", PATH, json={"weight": 3}), peer.seal("GET", f"{PATH}/sealed")
    post_headers, get_headers = list(post.message.headers.items()), list(get.message.headers.items())

    for name in ("x-service-name", "content-type"):
        await _refused(replica, await peer.send(post, headers=[h for h in post_headers if h[0] != name]))
    await _refused(replica, await peer.send(post, headers=[*post_headers, ("x-service-name", "user")]))
    await _refused(replica, await peer.send(post, headers=[*post_headers, ("x-service-envelope", "x")]))
    await _refused(replica, await peer.send(post, headers={**post.message.headers, "content-type": "text/plain"}))
    await _refused(replica, await peer.send(post, content=b""))
    await _refused(replica, await peer.send(post, content=b"\xff" * 300))
    await _refused(replica, await peer.send(post, content="v1.fernet.ключ.токен".encode()))
    await _refused(replica, await peer.send(get, headers=[h for h in get_headers if h[0] != "x-service-envelope"]))
    await _refused(replica, await peer.send(get, headers=[*get_headers, get_headers[-1]]))
    await _refused(replica, await peer.send(get, content=b"smuggled"))


async def test_a_plain_request_to_a_sealed_route_is_refused_before_its_body_is_read(replica: Any) -> None:
    json = {"content-type": "application/json"}
    await _refused(replica, await replica.http.post(PATH, json={"weight": 3}))
    await _refused(replica, await replica.http.post(PATH, content=b"{", headers=json))
    await _refused(
        replica, await replica.http.post(PATH, content=b"x" * 100, headers=json | {"x-service-name": "user"})
    )
    await _refused(replica, await replica.http.get(f"{PATH}/sealed"))
    await _refused(replica, await replica.http.delete(f"{PATH}/1"))
    await _refused(replica, await replica.http.head(f"{PATH}/sealed"))


async def test_an_envelope_without_the_communication_header_is_a_plain_request(replica: Any, make_peer: Any) -> None:
    peer = make_peer(replica)
    recorded = peer.seal("POST", PATH, json={"weight": 3})

    await _refused(replica, await peer.send(recorded, headers={"content-type": MEDIA_TYPE, "x-service-name": "user"}))


async def test_a_known_service_that_the_route_does_not_allow_gets_a_sealed_403(replica: Any, make_peer: Any) -> None:
    notes = make_peer(replica, "notes")
    for method, target, json in (
        ("POST", PATH, {"weight": 3}),
        ("POST", PATH, {"weight": "invalid"}),
        ("GET", f"{PATH}/sealed", None),
        ("GET", f"{PATH}/optional", None),
        ("GET", f"{PATH}/public", None),
        ("GET", "/openapi.json", None),
        ("GET", "/health", None),
    ):
        recorded = notes.seal(method, target, json=json)
        response = await notes.send(recorded)
        opened = notes.open(recorded, response)
        assert (response.status_code, opened.status) == (403, 403)
        assert opened.json()["detail"] == "This route is not open to the calling service."
    assert replica.executed == []

    user = make_peer(replica)
    assert (await user.call("GET", f"{PATH}/public")).status == 403
    assert (await user.call("GET", f"{PATH}/optional")).json() == {"caller": "user"}
    assert (await notes.call("GET", f"{PATH}/any")).json() == {"caller": "notes"}
    assert replica.executed == ["maybe", "anyone"]


def _request_of(length: int, keyrings: dict[str, Keyring]) -> Recorded:
    """Return a request whose ciphertext has exactly this many bytes."""
    sealer = MessageSealer("user", keyrings["user"], "aes-256-gcm")
    headers = {"content-type": "application/json"}

    def seal(size: int) -> Recorded:
        body = b'{"weight": 3}'.ljust(size)
        return Recorded("POST", PATH, sealer.seal_request("analytics", "POST", PATH, headers, body))

    return seal(length - len(seal(100).message.body) + 100)


async def test_a_message_of_exactly_the_limit_is_opened_and_a_longer_one_gets_413(
    make_replica: Any, make_peer: Any, keyrings: dict[str, Keyring]
) -> None:
    recorded = _request_of(MAX_SEALED_BYTES, keyrings)
    body = recorded.message.body
    assert len(body) == MAX_SEALED_BYTES

    exact, small = make_replica(), make_replica(max_bytes=MAX_SEALED_BYTES - 1)
    assert (await make_peer(exact).send(recorded)).status_code == 201
    assert exact.executed == ["create"]
    assert (await make_peer(exact).send(recorded, content=body + b"x")).status_code == 413

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    for content in (body, in_pieces()):
        response = await make_peer(small).send(recorded, content=content)
        assert response.status_code == 413
        assert response.headers["content-type"] == "application/problem+json"
    assert small.executed == []


async def test_a_message_declared_too_long_is_refused_before_it_is_read(replica: Any, make_peer: Any) -> None:
    peer = make_peer(replica)
    recorded = peer.seal("POST", PATH, json={"weight": 3})

    async def never_read() -> AsyncIterator[bytes]:
        yield b""
        raise AssertionError("the body was read")

    headers = {**recorded.message.headers, "content-length": str(MAX_SEALED_BYTES + 1)}
    assert (await peer.send(recorded, content=never_read(), headers=headers)).status_code == 413


async def test_an_envelope_in_a_header_is_limited_too(make_replica: Any, make_peer: Any) -> None:
    replica = make_replica(max_bytes=300)
    peer = make_peer(replica)
    response = await peer.send(peer.seal("GET", f"{PATH}/sealed?q={'x' * 300}"))

    assert response.status_code == 413
    assert replica.executed == []


async def test_the_log_and_a_metric_tell_the_reason_that_the_response_omits(
    replica: Any, make_peer: Any, keyrings: Any
) -> None:
    peer = make_peer(replica)
    genuine = peer.seal("POST", PATH, json={"weight": 3})
    await peer.send(genuine)
    before = {reason: REFUSED.labels(reason.value)._value.get() for reason in Refusal}
    replica.executed.clear()
    with logged_lines() as lines:
        await _refused(replica, await peer.send(genuine))
        await _refused(replica, await peer.send(_resealed(keyrings, 31)))
        await _refused(replica, await peer.send(_resealed(keyrings), url=f"{PATH}?x"))
        await _refused(
            replica,
            await peer.send(_resealed(keyrings), headers={**genuine.message.headers, "x-service-name": "x" * 999}),
        )
        await _refused(replica, await replica.http.post(PATH, json={"weight": 3}))

    for reason in (Refusal.REPLAYED, Refusal.STALE, Refusal.OTHER_PATH, Refusal.UNKNOWN_CALLER, Refusal.NOT_SEALED):
        assert REFUSED.labels(reason.value)._value.get() == before[reason] + 1
        assert sum(f"message refused: {reason.value};" in line for line in lines) == 1
    assert max(map(len, lines)) < 300


async def test_a_caller_whose_keys_were_removed_is_refused(replica: Any, make_peer: Any, keyrings: Any) -> None:
    peer = make_peer(replica)
    recorded = peer.seal("GET", f"{PATH}/any")
    keyrings["analytics"]._pairs = {}

    await _refused(replica, await peer.send(recorded))
