"""Development ports: requests reach the service unchanged, and responses come back unchanged."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from gateway_config.testing.client import Response, exchange
from gateway_config.testing.harness import UNLIMITED, Backend, GatewayHarness
from opskit.catalog import ServiceEntry
from servicekit.testing.wire_server import Received, reply, responding

pytestmark = pytest.mark.servers

# A sealed call, and headers that the gateway's own port would drop or refuse.
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
class DirectPort:
    """The direct port of a service with two servers."""

    port: int
    first: Backend
    second: Backend

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Response:
        lines = {"Host": "a.test:8003", "Content-Length": str(len(body)), **headers, "Connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return await exchange(self.port, f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)

    def only(self) -> Received:
        (request,) = [*self.first.requests, *self.second.requests]
        return request


@pytest.fixture(scope="module")
async def shared_direct(module_harness: GatewayHarness) -> DirectPort:
    first, second = await module_harness.backend("first"), await module_harness.backend("second")
    port = module_harness.port()
    catalog = {"notes": ServiceEntry("notes", "notes", port, "mongo")}
    settings = replace(UNLIMITED, direct_ports=True)
    await module_harness.gateway({"notes": [first.address, second.address]}, settings, catalog=catalog)
    return DirectPort(port, first, second)


@pytest.fixture
def direct(shared_direct: DirectPort) -> DirectPort:
    shared_direct.first.reset()
    shared_direct.second.reset()
    return shared_direct


async def test_a_sealed_call_arrives_as_it_was_sent(direct: DirectPort) -> None:
    target = "/api//v1/../x/%2e%2E/%41?q=a%20b&c"
    response = await direct.send("PUT", target, HEADERS, b"sealed")

    assert response.status == 200
    request = direct.only()
    assert (request.method, request.target, request.body) == ("PUT", target, b"sealed")
    assert {name: request.headers[name.lower()] for name in HEADERS} == HEADERS
    assert request.headers["host"] == "a.test:8003"


async def test_a_caller_cannot_forge_its_address(direct: DirectPort) -> None:
    await direct.send("GET", "/", {"X-Real-IP": "192.0.2.1", "X-Forwarded-For": "192.0.2.1"})

    headers = direct.only().headers
    assert (headers["x-real-ip"], headers["x-forwarded-for"]) == ("127.0.0.1", "127.0.0.1")


@pytest.mark.parametrize("target", ["/metrics", "/docs", "/openapi.json", "/ready", "/health", "/internal/facts", "/"])
async def test_every_path_reaches_the_service(direct: DirectPort, target: str) -> None:
    assert (await direct.send("GET", target, {})).status == 200
    assert direct.only().target == target


async def test_a_response_comes_back_unchanged(direct: DirectPort) -> None:
    sent = {
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
    direct.first.respond = direct.second.respond = responding(
        reply(404, body, **{name.replace("-", "_"): value for name, value in sent.items()})
    )

    response = await direct.send("GET", "/", {"Accept-Encoding": "gzip"})

    assert (response.status, response.body) == (404, body)
    assert {name: response.get(name) for name in sent} == sent


async def test_a_large_body_is_accepted(direct: DirectPort) -> None:
    body = b"x" * 3_000_000

    assert (await direct.send("POST", "/", {}, body)).status == 200
    assert direct.only().body == body


async def test_requests_are_spread_over_the_servers(direct: DirectPort) -> None:
    for _ in range(10):
        assert (await direct.send("GET", "/", {})).status == 200

    assert min(len(direct.first.requests), len(direct.second.requests)) >= 2
