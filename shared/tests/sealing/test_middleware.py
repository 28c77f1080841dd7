"""Sealed requests reach their routes as if they were plain, and the responses are sealed, errors included."""

import secrets
import time
from typing import Any, get_args
from uuid import uuid4

import httpx2
import pytest

from servicekit.dispatcher.transport import CannotOpen
from servicekit.sealing import envelope
from servicekit.sealing.ciphers import CipherName
from servicekit.sealing.envelope import Direction, MessageBinding, Refusal
from servicekit.sealing.keyring import Keyring
from servicekit.sealing.wire import MAX_SEALED_BYTES, MEDIA_TYPE

PATH = "/api/v1/parcels"

ciphers = pytest.mark.parametrize("cipher", get_args(CipherName))


@ciphers
async def test_a_sealed_request_is_validated_and_executed_after_it_is_opened(
    replica: Any, make_peer: Any, cipher: CipherName
) -> None:
    response = await make_peer(replica, cipher=cipher).call("POST", PATH, json={"weight": 3})

    assert (response.status, response.json()) == (201, {"weight": 3, "caller": "user"})
    assert replica.executed == ["create"]


@ciphers
async def test_the_callee_seals_with_its_own_cipher_whatever_the_caller_used(
    make_replica: Any, make_peer: Any, cipher: CipherName
) -> None:
    other: CipherName = "fernet" if cipher == "aes-256-gcm" else "aes-256-gcm"
    replica = make_replica(cipher=cipher)
    peer = make_peer(replica, cipher=other)
    recorded = peer.seal("GET", f"{PATH}/any")
    response = await peer.send(recorded)

    assert response.content.startswith(f"v1.{cipher}.".encode())
    assert peer.open(recorded, response).json() == {"caller": "user"}


async def test_content_and_headers_do_not_show_on_the_wire(replica: Any, make_peer: Any) -> None:
    peer = make_peer(replica)
    recorded = peer.seal("POST", PATH, json={"weight": 31337}, headers={"idempotency-key": "hush-hush"})
    response = await peer.send(recorded)

    sent = repr(recorded.message.headers).encode() + recorded.message.body
    came = repr(response.headers.multi_items()).encode() + response.content
    for word in (b"31337", b"hush-hush", b"Location", b"v1/parcels/1", b"caller"):
        assert word not in sent
        assert word not in came
    assert response.headers["content-type"] == MEDIA_TYPE
    assert response.headers["cache-control"] == "no-store"
    assert peer.open(recorded, response).headers["Location"] == f"{PATH}/1"


async def test_headers_of_the_response_arrive_inside_the_seal(replica: Any, make_peer: Any) -> None:
    response = await make_peer(replica).call("POST", PATH, json={"weight": 3})

    assert response.headers["Location"] == f"{PATH}/1"
    assert response.headers["ETag"] == '"v1"'
    assert response.headers["Content-Type"] == "application/json"


async def test_get_head_and_delete_carry_the_envelope_in_a_header(replica: Any, make_peer: Any) -> None:
    peer = make_peer(replica)

    read = await peer.call("GET", f"{PATH}/sealed?q=%C3%A9%20x")
    looked = await peer.call("HEAD", f"{PATH}/sealed")
    deleted = await peer.call("DELETE", f"{PATH}/7")

    assert read.json()["q"] == "é x"
    assert (looked.status, looked.body, looked.headers["x-parcels"]) == (200, b"", "3")
    assert (deleted.status, deleted.body) == (204, b"")
    assert replica.executed == ["read", "look", "delete"]


async def test_a_response_without_a_body_is_sealed(replica: Any, make_peer: Any) -> None:
    peer = make_peer(replica)
    unchanged = await peer.call("GET", f"{PATH}/unchanged", headers={"if-none-match": '"v1"'})
    assert (unchanged.status, unchanged.headers["ETag"], unchanged.body) == (304, '"v1"', b"")

    recorded = peer.seal("DELETE", f"{PATH}/7")
    response = await peer.send(recorded)
    assert (response.status_code, response.content) == (204, b"")
    del response.headers["x-service-envelope"]
    with pytest.raises(CannotOpen):
        peer.open(recorded, response)


async def test_the_route_gets_the_sealed_headers_and_those_that_may_travel_outside(
    replica: Any, make_peer: Any
) -> None:
    peer = make_peer(replica)
    recorded = peer.seal(
        "GET", f"{PATH}/sealed", headers={"if-match": '"sealed"', "content-type": "text/plain", "accept": "text/sealed"}
    )
    outside = {
        **recorded.message.headers,
        "If-Match": '"forged"',
        "Accept": "text/forged",
        "Idempotency-Key": "forged",
        "Authorization": "Bearer forged",
        "Cookie": "forged",
        "X-Real-IP": "10.0.0.1",
        "X-Request-Id": "request-1",
        "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
    }
    response = peer.open(recorded, await peer.send(recorded, headers=outside))

    seen = response.json()["headers"]
    assert seen["if-match"] == '"sealed"'
    assert seen["content-type"] == "text/plain"
    assert seen["accept"] == "text/sealed"
    assert seen["x-request-id"] == "request-1"
    assert seen["content-length"] == "0"
    assert "forged" not in repr(seen)
    assert not [name for name in seen if name.startswith("x-service")]
    assert response.json()["caller"] == "user"


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", PATH, {"weight": "heavy"}, 422),
        ("POST", PATH, {"weight": 1, "color": "red"}, 422),
        ("POST", PATH, None, 422),
        ("GET", f"{PATH}/nowhere/else", None, 404),
        ("PATCH", f"{PATH}/public", {}, 405),
        ("GET", f"{PATH}/broken", None, 500),
        ("GET", f"{PATH}/busy", None, 503),
    ],
)
async def test_errors_are_sealed(
    replica: Any, make_peer: Any, method: str, target: str, body: Any, status: int
) -> None:
    peer = make_peer(replica)
    recorded = peer.seal(method, target, json=body)
    response = await peer.send(recorded)
    opened = peer.open(recorded, response)

    assert response.headers["content-type"] == MEDIA_TYPE
    assert (response.status_code, opened.status, opened.json()["status"]) == (status, status, status)
    assert opened.headers["content-type"] == "application/problem+json"
    assert opened.json()["request_id"] == response.headers["x-request-id"]
    assert opened.headers.get("retry-after") == ("7" if status == 503 else None)
    assert b"hunter2" not in opened.body


async def test_an_exception_past_the_error_handling_becomes_a_sealed_500(
    make_replica: Any, make_peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def explode(self: object, scope: object, receive: object, send: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr("servicekit.web.middleware.ErrorBoundary.__call__", explode)
    replica = make_replica()
    transport = httpx2.ASGITransport(replica.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://analytics.test") as replica.http:
        response = await make_peer(replica).call("GET", f"{PATH}/any")

    assert (response.status, response.json()["detail"]) == (500, "The service failed.")


async def test_a_response_too_long_to_be_sealed_becomes_a_sealed_500(replica: Any, make_peer: Any) -> None:
    peer = make_peer(replica)
    for size in (MAX_SEALED_BYTES * 3 // 4, MAX_SEALED_BYTES + 1, MAX_SEALED_BYTES * 3):
        response = await peer.call("GET", f"{PATH}/long?size={size}")
        assert (response.status, response.json()["detail"]) == (500, "The response is too long to be sealed.")

    response = await peer.call("GET", f"{PATH}/long?size={MAX_SEALED_BYTES // 2}")
    assert (response.status, len(response.body)) == (200, MAX_SEALED_BYTES // 2)


async def test_a_response_with_a_changed_status_does_not_open(replica: Any, make_peer: Any) -> None:
    peer = make_peer(replica)
    recorded = peer.seal("GET", f"{PATH}/busy")
    response = await peer.send(recorded)
    response.status_code = 200

    with pytest.raises(CannotOpen):
        peer.open(recorded, response)


async def test_a_response_to_another_request_or_a_plain_response_does_not_open(replica: Any, make_peer: Any) -> None:
    peer = make_peer(replica)
    first, second = peer.seal("GET", f"{PATH}/any"), peer.seal("GET", f"{PATH}/any")
    response = await peer.send(first)
    assert peer.open(first, response).status == 200

    with pytest.raises(CannotOpen):
        peer.open(second, response)
    with pytest.raises(CannotOpen, match=Refusal.NOT_SEALED):
        peer.open(second, await replica.http.get(f"{PATH}/any"))


async def test_a_sealed_head_is_run_as_get_under_its_policy(replica: Any, make_peer: Any) -> None:
    peer = make_peer(replica)

    response = await peer.call("HEAD", f"{PATH}/optional")
    assert (response.status, response.body) == (200, b"")
    assert (await peer.call("HEAD", f"{PATH}/public")).status == 403
    assert replica.executed == ["maybe"]


async def test_a_plain_request_may_ask_for_a_sealed_response(replica: Any, keyrings: dict[str, Keyring]) -> None:
    nonce = envelope.new_nonce()
    asking = {"X-Encrypt-Response": "true", "X-Service-Name": "user", "X-Service-Nonce": nonce}
    response = await replica.http.get(f"{PATH}/any?x=1", headers=asking)

    binding = MessageBinding("user", "analytics", "GET", f"{PATH}/any?x=1".encode())
    opened = envelope.open_response(
        response.content,
        binding,
        lambda key_id: keyrings["user"].opening_key("user", "analytics", key_id),
        nonce=nonce,
        status=200,
        now=time.time(),
        direction=Direction.PLAIN_RESPONSE,
    )
    # The name proves nothing, so the route sees no caller.
    assert opened.body == b'{"caller":null}'


@pytest.mark.parametrize(
    "nonce",
    [uuid4().hex, str(uuid4()), secrets.token_urlsafe(48), secrets.token_hex(8)],
    ids=["hexadecimal UUID", "UUID", "base64url", "hexadecimal"],
)
async def test_a_plain_request_may_use_any_usual_kind_of_nonce(
    replica: Any, keyrings: dict[str, Keyring], nonce: str
) -> None:
    asking = {"X-Encrypt-Response": "true", "X-Service-Name": "user", "X-Service-Nonce": nonce}
    response = await replica.http.get(f"{PATH}/any", headers=asking)

    opened = envelope.open_response(
        response.content,
        MessageBinding("user", "analytics", "GET", f"{PATH}/any".encode()),
        lambda key_id: keyrings["user"].opening_key("user", "analytics", key_id),
        nonce=nonce,
        status=200,
        now=time.time(),
        direction=Direction.PLAIN_RESPONSE,
    )
    assert opened.nonce == nonce


async def test_a_plain_request_that_asks_for_a_sealed_response_never_gets_a_plain_one(replica: Any) -> None:
    asking = {"X-Encrypt-Response": "true", "X-Service-Name": "user", "X-Service-Nonce": envelope.new_nonce()}
    for change in ({"X-Service-Name": "assets"}, {"X-Service-Nonce": "short"}, {"X-Service-Nonce": "n" * 21 + "."}):
        response = await replica.http.get(f"{PATH}/any", headers=asking | change)
        assert response.status_code == 401
    for missing in ("X-Service-Name", "X-Service-Nonce"):
        headers = {name: value for name, value in asking.items() if name != missing}
        response = await replica.http.get(f"{PATH}/any", headers=headers)
        assert response.status_code == 401
    refused = await replica.http.get(f"{PATH}/sealed", headers=asking)

    assert (refused.status_code, refused.headers["content-type"]) == (401, MEDIA_TYPE)
    assert replica.executed == []
