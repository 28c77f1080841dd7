"""Recorded exchanges: the wire format of sealed messages stays, byte for byte.

An earlier release sealed them with a fixed key, clock and source of randomness. During a roll-out, services of two
releases talk to each other, so each release must open these bytes and seal into them. Only a new format version may
differ.
"""

import base64
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import FastAPI
from multidict import CIMultiDict
from starlette.types import Message, Receive, Scope, Send

from servicekit.sealing.client import MessageSealer, SentMessage
from servicekit.sealing.envelope import Direction, MessageBinding, open_response
from servicekit.sealing.key_files import file_name, write_key_file
from servicekit.sealing.keyring import Keyring
from servicekit.sealing.middleware import SealedReceiver
from servicekit.sealing.replay import ReplayGuard
from servicekit.sealing.route_policy import install_policies, optional
from servicekit.testing.sealed import MemoryNonces

FOLDER = Path(__file__).parent / "vectors" / "envelopes"
VECTORS = [vector for path in sorted(FOLDER.glob("*.json")) for vector in orjson.loads(path.read_bytes())]

Vector = dict[str, Any]


def vectors(wanted: Callable[[Vector], bool] = lambda _: True) -> pytest.MarkDecorator:
    """Run a test with these vectors."""
    chosen = [vector for vector in VECTORS if wanted(vector)]
    assert chosen
    ids = [f"{vector['cipher']}: {vector['name']}" for vector in chosen]
    return pytest.mark.parametrize("vector", chosen, ids=ids, indirect=True)


def is_sealed(vector: Vector) -> bool:
    """Whether the request is sealed, too, and not the response alone."""
    return vector["sealed_request"] is not None


@pytest.fixture
def vector(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Vector:
    """One exchange, with the clock and the randomness of its recording."""
    recorded: Vector = request.param
    monkeypatch.setattr(time, "time", lambda: recorded["now"])
    monkeypatch.setattr(os, "urandom", lambda size: bytes.fromhex(recorded["random"])[:size])
    return recorded


@pytest.fixture
def keyrings(vector: Vector, tmp_path: Path) -> dict[str, Keyring]:
    caller, callee = vector["caller"], vector["callee"]
    document = orjson.dumps({"caller": caller, "callee": callee, "keys": [vector["key"]]})
    for service in (caller, callee):
        write_key_file(tmp_path / service / file_name(caller, callee), document)
    return {service: Keyring(service, tmp_path / service) for service in (caller, callee)}


@pytest.fixture
def sealer(vector: Vector, keyrings: dict[str, Keyring]) -> MessageSealer:
    return MessageSealer(vector["caller"], keyrings[vector["caller"]], vector["cipher"], clock=time.time)


def _sealed_now(vector: Vector, sealer: MessageSealer) -> SentMessage:
    request = vector["request"]
    body = base64.b64decode(request["body"])
    return sealer.seal_request(vector["callee"], request["method"], request["target"], request["headers"], body)


class Application:
    """Records the request that it gets and sends the response of the vector."""

    def __init__(self, response: dict[str, Any]) -> None:
        self.headers: dict[str, str] = {}
        self.body = b""
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers = dict(_text(scope["headers"]))
        self.body = (await receive())["body"]
        headers = [(name.encode(), value.encode()) for name, value in self._response["headers"]]
        await send({"type": "http.response.start", "status": self._response["status"], "headers": headers})
        await send({"type": "http.response.body", "body": base64.b64decode(self._response["body"])})


async def _receive(vector: Vector, keyring: Keyring, application: Application) -> tuple[Message, Message]:
    """Give the recorded request to the receiver; return the head and the body of the response on the wire."""
    plain = {"x-encrypt-response": "true", "x-service-name": vector["caller"], "x-service-nonce": vector["nonce"]}
    headers, body = (vector["sealed_request"] or {"headers": plain, "body": ""}).values()
    path, _, query = vector["request"]["target"].partition("?")
    scope = {
        "type": "http",
        "app": _application_open_to_services(),
        "method": vector["request"]["method"],
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": base64.b64decode(body)}

    async def send(message: Message) -> None:
        sent.append(message)

    async with ReplayGuard(MemoryNonces()) as replays:
        receiver = SealedReceiver(
            application, service=vector["callee"], keyring=keyring, cipher=vector["cipher"], replays=replays
        )
        await receiver(scope, receive, send)
    response_head, response_body = sent
    return response_head, response_body


def _application_open_to_services() -> FastAPI:
    async def endpoint() -> None:
        return None

    app = FastAPI()
    app.add_api_route("/{path:path}", endpoint, methods=["GET", "POST", "PUT", "DELETE"], dependencies=[optional()])
    install_policies(app)
    return app


def _text(headers: Any) -> list[tuple[str, str]]:
    return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]


@vectors(is_sealed)
async def test_recorded_request_opens(vector: Vector, keyrings: dict[str, Keyring]) -> None:
    application = Application(vector["response"])
    await _receive(vector, keyrings[vector["callee"]], application)

    assert application.body == base64.b64decode(vector["request"]["body"])
    assert application.headers.items() >= vector["request"]["headers"].items()


@vectors(is_sealed)
async def test_recorded_response_opens(vector: Vector, sealer: MessageSealer) -> None:
    status, headers, body = vector["sealed_response"].values()
    message = _sealed_now(vector, sealer)
    opened = sealer.open_response(vector["callee"], message, status, CIMultiDict(headers), base64.b64decode(body))

    assert [[name.lower(), value] for name, value in opened.headers.items()] == vector["response"]["headers"]
    assert opened.body == base64.b64decode(vector["response"]["body"])


@vectors(lambda vector: not is_sealed(vector))
async def test_recorded_response_to_a_plain_request_opens(vector: Vector, keyrings: dict[str, Keyring]) -> None:
    caller, callee, request = vector["caller"], vector["callee"], vector["request"]
    opened = open_response(
        base64.b64decode(vector["sealed_response"]["body"]),
        MessageBinding(caller, callee, request["method"], request["target"].encode()),
        lambda key_id: keyrings[caller].opening_key(caller, callee, key_id),
        nonce=vector["nonce"],
        status=vector["sealed_response"]["status"],
        now=vector["now"],
        direction=Direction.PLAIN_RESPONSE,
    )

    assert opened.body == base64.b64decode(vector["response"]["body"])


@vectors(is_sealed)
async def test_request_is_sealed_into_the_recorded_bytes(vector: Vector, sealer: MessageSealer) -> None:
    message = _sealed_now(vector, sealer)

    assert message.headers == vector["sealed_request"]["headers"]
    assert message.body == base64.b64decode(vector["sealed_request"]["body"])


@vectors()
async def test_response_is_sealed_into_the_recorded_bytes(vector: Vector, keyrings: dict[str, Keyring]) -> None:
    head, body = await _receive(vector, keyrings[vector["callee"]], Application(vector["response"]))

    status, headers, sealed = vector["sealed_response"].values()
    assert (head["status"], [list(pair) for pair in _text(head["headers"])]) == (status, headers)
    assert body["body"] == base64.b64decode(sealed)
