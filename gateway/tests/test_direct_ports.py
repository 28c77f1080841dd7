"""Development ports: everything reaches the one service as it was sent, and every answer comes back as it is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateway_config import GatewaySettings, render
from gateway_config.testing import Answer, RunningGateway, exchange
from opskit.catalog import ServiceEntry
from servicekit.testing.wire_server import answering, reply

# What a sealed call and its body look like on the way, and what the gateway's own door would drop or refuse.
HEADERS = {
    "X-Service-Name": "user",
    "X-Service-Communication": "encrypted",
    "X-Service-Envelope": "v1.fernet.k1.abc",
    "X-Encrypt-Response": "true",
    "X-Request-Deadline-Ms": "500",
    "X-Request-Id": "any thing at all",
    "Authorization": "Basic dXNlcjpwYXNz",
    "Accept-Encoding": "gzip",
    "Cookie": "a=b",
    "Under_Score": "kept",
    "traceparent": "not well-formed",
}


@dataclass(frozen=True, slots=True)
class Direct:
    """The direct port of one service, before two servers of it."""

    port: int
    first: Any
    second: Any

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        lines = {"Host": "a.test:8003", "Content-Length": str(len(body)), **headers, "Connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return await exchange(self.port, f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)

    def only(self) -> Any:
        (request,) = [*self.first.requests, *self.second.requests]
        return request


@pytest.fixture
async def direct(world: Any, machine: GatewaySettings, nginx: str, tmp_path: Path) -> Direct:
    first, second = await world.backend("first"), await world.backend("second")
    port, own = world.port(), world.port()
    catalog = {"notes": ServiceEntry("notes", "notes", port, "mongo")}
    settings = replace(machine, port=own, direct_ports=True)
    render(settings, catalog, {"notes": [first.address, second.address]}, tmp_path)
    gateway = RunningGateway(tmp_path, own, lambda *_: None)
    world.stack.push_async_callback(gateway.stop)
    await gateway.start(nginx)
    return Direct(port, first, second)


async def test_a_sealed_call_arrives_as_it_was_sent(direct: Direct) -> None:
    target = "/api//v1/../x/%2e%2E/%41?q=a%20b&c"
    answer = await direct.send("PUT", target, HEADERS, b"sealed")

    assert answer.status == 200
    request = direct.only()
    assert (request.method, request.target, request.body) == ("PUT", target, b"sealed")
    assert {name: request.headers[name.lower()] for name in HEADERS} == HEADERS
    assert request.headers["host"] == "a.test:8003"


async def test_the_services_believe_no_address_that_a_caller_made_up(direct: Direct) -> None:
    await direct.send("GET", "/", {"X-Real-IP": "192.0.2.1", "X-Forwarded-For": "192.0.2.1"})

    headers = direct.only().headers
    assert (headers["x-real-ip"], headers["x-forwarded-for"]) == ("127.0.0.1", "127.0.0.1")


@pytest.mark.parametrize("target", ["/metrics", "/docs", "/openapi.json", "/ready", "/health", "/internal/facts", "/"])
async def test_every_path_of_the_service_is_there(direct: Direct, target: str) -> None:
    assert (await direct.send("GET", target, {})).status == 200
    assert direct.only().target == target


async def test_an_answer_comes_back_as_it_is(direct: Direct) -> None:
    said = {
        "content-type": "application/json",
        "etag": '"strong"',
        "access-control-allow-origin": "*",
        "x-request-id": "of the service",
        "x-content-type-options": "nosniff",
        "strict-transport-security": "max-age=1",
        "server": "uvicorn",
        "date": "Sat, 21 Nov 2026 00:00:00 GMT",
    }
    body = b"[" + b"1," * 2000 + b"1]"
    direct.first.answer = direct.second.answer = answering(
        reply(404, body, **{name.replace("-", "_"): value for name, value in said.items()})
    )

    answer = await direct.send("GET", "/", {"Accept-Encoding": "gzip"})

    assert (answer.status, answer.body) == (404, body)
    assert {name: answer.get(name) for name in said} == said


async def test_a_large_body_is_no_problem(direct: Direct) -> None:
    body = b"x" * 3_000_000

    assert (await direct.send("POST", "/", {}, body)).status == 200
    assert direct.only().body == body


async def test_requests_spread_over_the_servers(direct: Direct) -> None:
    for _ in range(10):
        assert (await direct.send("GET", "/", {})).status == 200

    assert min(len(direct.first.requests), len(direct.second.requests)) >= 2


async def test_there_are_none_unless_they_are_asked_for(world: Any) -> None:
    notes = await world.backend("notes")
    gateway = await world.gateway({"notes": [notes.address]})

    assert (gateway.target / "rendered" / "http" / "direct_listeners.conf").read_text() == ""
