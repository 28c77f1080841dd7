"""Sealed calls: nothing plain goes out, nothing plain is taken in."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from servicekit.dispatcher import (
    InvalidCall,
    PeerRefused,
    PeerResponse,
    ResponseRejected,
)
from servicekit.dispatcher.transport import CannotOpen, ConnectionLost, OpenedResponse, SealedRequest
from servicekit.testing.scripted_transport import (
    OK,
    PATH,
    UNAVAILABLE,
    ScriptedTransport,
    scripted_dispatcher,
)


@dataclass
class MarkedRequest:
    number: int
    body: bytes
    headers: Mapping[str, str]


@dataclass
class MarkingSealer:
    """Stands in for the real seals: says who sealed what, with a number in place of a nonce."""

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


def sealed_answer(status: int, number: int, body: bytes = b"{}") -> PeerResponse:
    return PeerResponse.of(status, {"X-Sealed-For": str(number), "X-Outside": "1"}, body)


async def test_sealed_call_shows_nothing_of_itself_on_the_wire() -> None:
    transport = ScriptedTransport(sealed_answer(200, 1, b'{"n": 2}'))
    sealer = MarkingSealer()
    answer = await scripted_dispatcher(transport, sealer=sealer).call(
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
    # Nor does the answer show anything that the seal did not cover.
    assert dict(answer.headers) == {"Content-Type": "application/json", "ETag": '"inner"'}
    assert answer.json() == {"n": 2}


async def test_retry_is_sealed_anew_under_the_same_key() -> None:
    transport = ScriptedTransport(ConnectionLost("x"), sealed_answer(503, 2), sealed_answer(202, 3))
    sealer = MarkingSealer()
    await scripted_dispatcher(transport, sealer=sealer).call(
        "analytics", PATH, method="POST", idempotency_key=True, encrypted=True
    )

    assert [request.body for request in transport.requests] == [b"envelope 1", b"envelope 2", b"envelope 3"]
    assert len({sealed[3]["idempotency-key"] for sealed in sealer.sealed}) == 1


@pytest.mark.parametrize("status", [200, 204, 304, 302, 400, 403, 404, 409, 422])
async def test_unsealed_answer_to_a_sealed_call_is_never_taken(status: int) -> None:
    with pytest.raises(ResponseRejected):
        await scripted_dispatcher(ScriptedTransport(PeerResponse.of(status, {}, b"{}")), sealer=MarkingSealer()).call(
            "analytics", PATH, encrypted=True
        )


async def test_answer_of_another_attempt_is_not_taken() -> None:
    transport = ScriptedTransport(ConnectionLost("x"), sealed_answer(200, 1))
    with pytest.raises(ResponseRejected):
        await scripted_dispatcher(transport, sealer=MarkingSealer()).call("analytics", PATH, encrypted=True)


async def test_peer_that_could_not_open_the_request_says_so_in_plain_text() -> None:
    transport = ScriptedTransport(PeerResponse.of(401))
    with pytest.raises(PeerRefused) as caught:
        await scripted_dispatcher(transport, sealer=MarkingSealer()).call("analytics", PATH, encrypted=True)

    assert caught.value.response.status == 401
    assert len(transport.requests) == 1


async def test_failure_that_nobody_could_seal_is_retried() -> None:
    transport = ScriptedTransport(UNAVAILABLE, sealed_answer(200, 2))

    assert (
        await scripted_dispatcher(transport, sealer=MarkingSealer()).call("analytics", PATH, encrypted=True)
    ).status == 200


async def test_sealed_refusal_is_raised_with_what_was_sealed() -> None:
    with pytest.raises(PeerRefused) as caught:
        await scripted_dispatcher(ScriptedTransport(sealed_answer(404, 1, b"why")), sealer=MarkingSealer()).call(
            "analytics", PATH, encrypted=True
        )

    assert (caught.value.response.status, caught.value.response.body) == (404, b"why")


async def test_without_a_sealer_a_sealed_call_is_refused_and_not_sent_plainly() -> None:
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
