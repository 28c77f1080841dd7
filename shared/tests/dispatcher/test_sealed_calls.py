"""Sealed calls: nothing plain goes out, and nothing plain is taken for a response."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest

from servicekit.dispatcher import (
    CallPolicy,
    Dispatcher,
    InvalidCall,
    Peer,
    PeerFailed,
    PeerRefused,
    PeerResponse,
    ResponseRejected,
    create_transport,
)
from servicekit.dispatcher.transport import CannotOpen, ConnectionLost, OpenedResponse, SealedRequest
from servicekit.sealing.ciphers import CipherName
from servicekit.sealing.client import MessageSealer
from servicekit.sealing.key_files import file_name, pair_document, read_entries, write_key_file
from servicekit.sealing.keyring import Keyring
from servicekit.testing.scripted_transport import (
    OK,
    PATH,
    UNAVAILABLE,
    ScriptedTransport,
    scripted_dispatcher,
)
from servicekit.testing.sealed import make_keyrings

PARCELS = "/api/v1/parcels"

ONCE = CallPolicy(attempts=1)


@dataclass
class MarkedRequest:
    number: int
    body: bytes
    headers: Mapping[str, str]


@dataclass
class MarkingSealer:
    """A fake `Sealer` that records what it seals, and uses a number in place of a nonce."""

    sealed: list[tuple[str, str, str, Mapping[str, str], bytes]] = field(default_factory=list)

    def seal_request(
        self, peer: str, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> MarkedRequest:
        self.sealed.append((peer, method, target, dict(headers), body))
        number = len(self.sealed)
        return MarkedRequest(number, b"envelope %d" % number, {"X-Service-Communication": "encrypted"})

    def open_response(
        self, peer: str, request: SealedRequest, status: int, headers: Mapping[str, str], body: bytes
    ) -> OpenedResponse:
        assert isinstance(request, MarkedRequest)
        if headers.get("X-Sealed-For") != str(request.number):
            raise CannotOpen("not for this request")
        return OpenedResponse({"Content-Type": "application/json", "ETag": '"inner"'}, body)


def sealed_response(status: int, number: int, body: bytes = b"{}") -> PeerResponse:
    return PeerResponse.of(status, {"X-Sealed-For": str(number), "X-Outside": "1"}, body)


async def test_sealed_call_shows_nothing_of_its_content_on_the_wire() -> None:
    transport = ScriptedTransport(sealed_response(200, 1, b'{"n": 2}'))
    sealer = MarkingSealer()
    response = await scripted_dispatcher(transport, sealer=sealer).call(
        "analytics",
        PATH,
        method="POST",
        params={"a": "b c"},
        json={"secret": 1},
        headers={"If-Match": '"7"'},
        idempotency_key="my-key",
        encrypted=True,
    )

    inner = {"content-type": "application/json", "if-match": '"7"', "idempotency-key": "my-key"}
    assert sealer.sealed == [("analytics", "POST", PATH + "?a=b%20c", inner, b'{"secret":1}')]
    (request,) = transport.requests
    assert request.body == b"envelope 1"
    assert request.headers["X-Service-Communication"] == "encrypted"
    assert not {"content-type", "if-match", "idempotency-key"} & set(request.headers)
    # Nor does the response show anything that the seal did not cover.
    assert dict(response.headers) == {"Content-Type": "application/json", "ETag": '"inner"'}
    assert response.json() == {"n": 2}


async def test_retry_is_sealed_anew_under_the_same_idempotency_key() -> None:
    transport = ScriptedTransport(ConnectionLost("x"), sealed_response(503, 2), sealed_response(202, 3))
    sealer = MarkingSealer()
    await scripted_dispatcher(transport, sealer=sealer).call(
        "analytics", PATH, method="POST", idempotency_key=True, encrypted=True
    )

    assert [request.body for request in transport.requests] == [b"envelope 1", b"envelope 2", b"envelope 3"]
    assert len({sealed[3]["idempotency-key"] for sealed in sealer.sealed}) == 1


@pytest.mark.parametrize("status", [200, 204, 304, 302, 400, 403, 404, 409, 422])
async def test_unsealed_response_to_a_sealed_call_is_rejected(status: int) -> None:
    transport = ScriptedTransport(PeerResponse.of(status, {}, b"{}"))
    with pytest.raises(ResponseRejected):
        await scripted_dispatcher(transport, sealer=MarkingSealer()).call("analytics", PATH, encrypted=True)


async def test_response_to_another_attempt_is_rejected() -> None:
    transport = ScriptedTransport(ConnectionLost("x"), sealed_response(200, 1))
    with pytest.raises(ResponseRejected):
        await scripted_dispatcher(transport, sealer=MarkingSealer()).call("analytics", PATH, encrypted=True)


async def test_unsealed_401_is_raised_as_a_refusal() -> None:
    transport = ScriptedTransport(PeerResponse.of(401))
    with pytest.raises(PeerRefused) as caught:
        await scripted_dispatcher(transport, sealer=MarkingSealer()).call("analytics", PATH, encrypted=True)

    assert caught.value.response.status == 401
    assert len(transport.requests) == 1


async def test_unsealed_failure_is_retried() -> None:
    transport = ScriptedTransport(UNAVAILABLE, sealed_response(200, 2))

    response = await scripted_dispatcher(transport, sealer=MarkingSealer()).call("analytics", PATH, encrypted=True)

    assert response.status == 200


async def test_sealed_refusal_is_raised_with_its_sealed_content() -> None:
    transport = ScriptedTransport(sealed_response(404, 1, b"why"))
    with pytest.raises(PeerRefused) as caught:
        await scripted_dispatcher(transport, sealer=MarkingSealer()).call("analytics", PATH, encrypted=True)

    assert (caught.value.response.status, caught.value.response.body) == (404, b"why")


async def test_without_a_sealer_a_sealed_call_is_refused_and_nothing_is_sent() -> None:
    transport = ScriptedTransport(OK)
    with pytest.raises(InvalidCall):
        await scripted_dispatcher(transport).call("analytics", PATH, encrypted=True)

    assert transport.requests == []


async def test_failing_sealer_never_makes_the_call_plain() -> None:
    class BrokenSealer(MarkingSealer):
        def seal_request(self, *_args: object) -> MarkedRequest:
            raise LookupError("no key")

    transport = ScriptedTransport(OK)
    dispatcher = scripted_dispatcher(transport, sealer=BrokenSealer(), max_in_flight=1)
    for _ in range(10):
        with pytest.raises(LookupError):
            await dispatcher.call("analytics", PATH, encrypted=True)

    assert transport.requests == []


def dispatcher_of(caller: str, keyring: Keyring, url: str, cipher: CipherName = "fernet") -> Dispatcher:
    sealer = MessageSealer(caller, keyring, cipher)
    return Dispatcher([Peer("analytics", (url,))], transport=create_transport("aiohttp"), sealer=sealer)


@pytest.fixture(params=get_args(CipherName))
async def dispatcher(listening_replica: Any, request: pytest.FixtureRequest) -> AsyncIterator[Dispatcher]:
    """Calls a real server over real connections, sealed with either cipher."""
    keyring = listening_replica.keyrings["user"]
    async with dispatcher_of("user", keyring, listening_replica.url, request.param) as made:
        yield made


async def test_sealed_calls_of_every_method_arrive_and_return(dispatcher: Dispatcher, listening_replica: Any) -> None:
    created = await dispatcher.call("analytics", PARCELS, method="POST", json={"weight": 3}, encrypted=True)
    replaced = await dispatcher.call("analytics", f"{PARCELS}/a%20b", method="PUT", json={"weight": 4}, encrypted=True)
    read = await dispatcher.call("analytics", f"{PARCELS}/sealed", params={"q": "é ?&=/%"}, encrypted=True)
    looked = await dispatcher.call("analytics", f"{PARCELS}/sealed", method="HEAD", encrypted=True)
    deleted = await dispatcher.call("analytics", f"{PARCELS}/x", method="DELETE", encrypted=True)

    assert (created.status, created.json()) == (201, {"weight": 3, "caller": "user"})
    assert (created.headers["location"], created.headers["etag"]) == (f"{PARCELS}/1", '"v1"')
    assert (replaced.status, replaced.json()) == (200, {"weight": 4})
    assert read.json()["q"] == "é ?&=/%"
    assert (looked.status, looked.headers["x-parcels"], looked.body) == (200, "3", b"")
    assert (deleted.status, deleted.body) == (204, b"")
    assert listening_replica.replica.executed == ["create", "replace", "read", "look", "delete"]


async def test_a_sealed_304_arrives(dispatcher: Dispatcher) -> None:
    response = await dispatcher.call(
        "analytics", f"{PARCELS}/unchanged", headers={"If-None-Match": '"v7"'}, encrypted=True
    )

    assert (response.status, response.headers["etag"]) == (304, '"v7"')


async def test_the_reason_of_a_sealed_refusal_arrives(dispatcher: Dispatcher) -> None:
    with pytest.raises(PeerRefused) as invalid:
        await dispatcher.call("analytics", PARCELS, method="POST", json={"weight": "heavy"}, encrypted=True)
    assert invalid.value.response.json()["errors"][0]["field"] == "body.weight"

    with pytest.raises(PeerFailed) as busy:
        await dispatcher.call("analytics", f"{PARCELS}/busy", encrypted=True, policy=ONCE)
    assert busy.value.response.headers["retry-after"] == "7"

    with pytest.raises(PeerRefused) as forbidden:
        await dispatcher.call("analytics", f"{PARCELS}/public", encrypted=True)
    assert forbidden.value.response.status == 403


async def test_a_large_message_arrives_and_a_too_large_one_is_not_sent(
    dispatcher: Dispatcher, listening_replica: Any
) -> None:
    large = await dispatcher.call("analytics", f"{PARCELS}/long", params={"size": 500_000}, encrypted=True)
    assert len(large.body) == 500_000

    with pytest.raises(InvalidCall, match="1048576"):
        await dispatcher.call("analytics", PARCELS, method="POST", content=b"x" * 1_050_000, encrypted=True)

    assert listening_replica.replica.executed == []


async def test_a_caller_without_the_right_key_is_refused(listening_replica: Any, tmp_path: Path) -> None:
    other_keys = make_keyrings(tmp_path, {"user": ["analytics"]})
    async with dispatcher_of("user", other_keys["user"], listening_replica.url) as dispatcher:
        with pytest.raises(PeerRefused) as refused:
            await dispatcher.call("analytics", f"{PARCELS}/any", encrypted=True)
        assert refused.value.response.status == 401
    async with dispatcher_of("user", listening_replica.keyrings["notes"], listening_replica.url) as dispatcher:
        with pytest.raises(InvalidCall, match="no key"):
            await dispatcher.call("analytics", f"{PARCELS}/any", encrypted=True)

    assert listening_replica.replica.executed == []


async def test_a_plain_response_of_a_real_server_is_rejected(
    dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pass_on(receiver: Any, scope: Any, receive: Any, send: Any) -> None:
        await receiver._app(scope, receive, send)

    monkeypatch.setattr("servicekit.sealing.middleware.SealedReceiver.__call__", pass_on)

    with pytest.raises(ResponseRejected):
        await dispatcher.call("analytics", f"{PARCELS}/public", encrypted=True)


async def test_calls_succeed_in_each_phase_of_a_key_rotation_with_either_cipher(
    listening_replica: Any, tmp_path: Path
) -> None:
    """The phases are: add the new key everywhere, seal with it, remove the old key."""
    name = file_name("user", "analytics")
    files = {side: listening_replica.keys / side / name for side in ("user", "analytics")}
    make_keyrings(tmp_path, {"user": ["analytics"]})
    old, new = read_entries(files["user"]), read_entries(tmp_path / "user" / name)

    for entries in (old + new, new + old, new):
        for side, file in files.items():
            write_key_file(file, pair_document("user", "analytics", entries))
            listening_replica.keyrings[side].refresh()
        for cipher in get_args(CipherName):
            keyring = listening_replica.keyrings["user"]
            async with dispatcher_of("user", keyring, listening_replica.url, cipher) as dispatcher:
                response = await dispatcher.call("analytics", f"{PARCELS}/any", encrypted=True)
            assert response.json() == {"caller": "user"}

    assert listening_replica.replica.executed == ["anyone"] * 6
