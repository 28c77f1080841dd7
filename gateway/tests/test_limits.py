"""Limits by client address, and limits of bodies."""

import asyncio
import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from gateway_config import GatewaySettings
from gateway_config.render import STATIC_FILES
from gateway_config.testing.client import Response
from gateway_config.testing.harness import SERVICES, UNLIMITED, GatewayHarness, Platform
from gateway_config.testing.running import RunningGateway

pytestmark = pytest.mark.servers

MIB = 1024 * 1024
AUTH_ROUTES = [
    *("register", "login", "token", "refresh", "password", "password/forgot", "password/reset", "email"),
    *("verification", "verification/confirm", "invitations/accept"),
]
KEYS = pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "once"}], ids=["plain", "keyed"])

LimitedGateway = Callable[..., Awaitable[RunningGateway]]
_addresses = (f"127.0.{number // 250 + 1}.{number % 250 + 1}" for number in count())


@dataclass(frozen=True, slots=True)
class Burst:
    """The responses to requests that were sent at once, and the time that they took."""

    statuses: Counter[int]
    seconds: float

    def met_a_limit_of_one_per_second(self, *, addresses: int = 1) -> bool:
        """Whether each address got one request and twice the rate, one more in each full second, and no others."""
        at_once = 3 * addresses
        passed = self.statuses.total() - self.statuses[429]
        return at_once <= passed <= at_once + addresses * int(self.seconds)


async def burst(requests: Iterable[Awaitable[Response]]) -> Burst:
    """Send all these requests at once."""
    began = time.monotonic()
    responses = await asyncio.gather(*requests)
    return Burst(Counter(response.status for response in responses), time.monotonic() - began)


@pytest.fixture(scope="module")
async def limited(module_harness: GatewayHarness) -> LimitedGateway:
    """Return what gives the gateway with these limits; the others are off. Tests share it."""
    backend = await module_harness.backend("any")
    servers = {service: [backend.address] for service in SERVICES}
    gateways: dict[GatewaySettings, RunningGateway] = {}

    async def limited(**limits: Any) -> RunningGateway:
        settings = replace(UNLIMITED, **limits)
        if settings not in gateways:
            gateways[settings] = await module_harness.gateway(servers, settings, wait_for_keys=False)
        return gateways[settings]

    return limited


@pytest.fixture
def address() -> str:
    """A client address of this test's own, whose requests no gateway has counted."""
    return next(_addresses)


async def test_one_request_and_twice_the_rate_pass_at_once(limited: LimitedGateway, address: str) -> None:
    gateway = await limited(rate_general=1)

    sent = await burst(gateway.get("/api/v1/notes", address=address) for _ in range(20))

    assert sent.met_a_limit_of_one_per_second()


async def test_a_refusal_says_when_to_retry(limited: LimitedGateway, address: str) -> None:
    gateway = await limited(rate_general=1)
    responses = await asyncio.gather(*(gateway.get("/api/v1/notes", address=address) for _ in range(10)))

    refused = [response for response in responses if response.status == 429]
    assert refused
    for response in refused:
        assert response.problem()["title"] == "Too Many Requests"
        assert response.get("Retry-After") == "1"


@KEYS
async def test_password_routes_share_a_stricter_limit(
    limited: LimitedGateway, address: str, key: dict[str, str]
) -> None:
    gateway = await limited(rate_general=1000, rate_auth=1)
    paths = [f"/api/{version}users/{route}" for version in ("v1/", "") for route in AUTH_ROUTES] * 2

    sent = await burst(gateway.post(path, headers=key, address=address) for path in paths)

    assert sent.met_a_limit_of_one_per_second()
    others = await burst(gateway.get("/api/v1/users/profile", address=address) for _ in range(20))
    assert others.statuses == {200: 20}


@KEYS
async def test_uploads_have_their_own_limit(limited: LimitedGateway, address: str, key: dict[str, str]) -> None:
    gateway = await limited(rate_general=1000, rate_upload=1)

    sent = await burst(gateway.post("/api/v1/assets", headers=key, address=address) for _ in range(20))

    assert sent.met_a_limit_of_one_per_second()
    others = await burst(gateway.get("/api/v1/assets", address=address) for _ in range(20))
    assert others.statuses == {200: 20}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/notes"),
        ("PUT", "/api/v1/notes/1"),
        ("POST", "/api/v1/notes"),
        ("POST", "/api/v1/assets"),
        ("POST", "/api/v1/users/login"),
        ("POST", "/api/v1/users/register"),
        ("POST", "/api/v1/users/password"),
        ("GET", "/api/v1/users/stats/count"),
        ("GET", "/.well-known/jwks.json"),
        ("GET", "/lb-health"),
    ],
)
async def test_the_general_limit_applies_to_every_route(
    limited: LimitedGateway, address: str, method: str, path: str
) -> None:
    gateway = await limited(rate_general=1)

    sent = await burst(
        gateway.send(method, path, headers=headers, address=address)
        for headers in ({}, {"Idempotency-Key": "once"})
        for _ in range(10)
    )

    assert sent.met_a_limit_of_one_per_second()


async def test_a_rate_of_zero_is_no_limit(limited: LimitedGateway, address: str) -> None:
    gateway = await limited()
    requests = [("POST", "/api/v1/users/login"), ("POST", "/api/v1/assets"), ("GET", "/api/v1/notes")] * 40

    sent = await burst(gateway.send(method, path, address=address) for method, path in requests)

    assert sent.statuses == {200: 120}


async def test_refused_tokens_count_as_requests(limited: LimitedGateway, address: str) -> None:
    gateway = await limited(rate_general=1)

    sent = await burst(gateway.get("/api/v1/users/profile", token="a.b.c", address=address) for _ in range(10))

    assert sent.met_a_limit_of_one_per_second()


BEHIND_A_PROXY: dict[str, Any] = {"rate_general": 1, "trusted_proxies": ("127.0.0.0/8", "10.0.0.0/8")}


async def forwarded(gateway: RunningGateway, addresses: list[str], **options: Any) -> Burst:
    """Send a request with each of these addresses in X-Forwarded-For."""
    return await burst(
        gateway.get("/api/v1/notes", headers={"X-Forwarded-For": address}, **options) for address in addresses
    )


async def test_each_address_behind_a_trusted_proxy_is_counted_separately(limited: LimitedGateway) -> None:
    gateway = await limited(**BEHIND_A_PROXY)

    sent = await forwarded(gateway, ["203.0.113.1"] * 6 + ["203.0.113.2"] * 6)

    assert sent.met_a_limit_of_one_per_second(addresses=2)


async def test_an_address_before_an_untrusted_one_is_ignored(limited: LimitedGateway) -> None:
    """The client writes the left part of the list; the proxies append to it."""
    gateway = await limited(**BEHIND_A_PROXY)

    sent = await forwarded(gateway, [f"198.51.100.{number}, 203.0.113.3, 10.0.0.1" for number in range(10)])

    assert sent.met_a_limit_of_one_per_second()


async def test_without_trusted_proxies_no_header_changes_the_address(limited: LimitedGateway, address: str) -> None:
    gateway = await limited(rate_general=1)

    sent = await forwarded(gateway, [f"203.0.113.{number}" for number in range(10)], address=address)

    assert sent.met_a_limit_of_one_per_second()


async def test_ipv6_addresses_of_a_network_are_counted_together(limited: LimitedGateway) -> None:
    gateway = await limited(**BEHIND_A_PROXY)

    one_network = ["2001:db8:0:7::1", "2001:db8:0:7:ffff:ffff:ffff:ffff", "2001:db8:0:7:a:b:c:d", "2001:db8:0:7::a0a:d"]
    assert (await forwarded(gateway, one_network * 3)).met_a_limit_of_one_per_second()
    another_network = ["2001:db8:0:8::1", "2001:db8:0:8:0:a::"]
    assert (await forwarded(gateway, another_network * 3)).met_a_limit_of_one_per_second()


async def test_an_ipv4_address_mapped_into_ipv6_counts_as_the_ipv4_address(limited: LimitedGateway) -> None:
    gateway = await limited(**BEHIND_A_PROXY)

    assert (await forwarded(gateway, ["::ffff:203.0.113.4", "203.0.113.4"] * 3)).met_a_limit_of_one_per_second()
    assert (await forwarded(gateway, ["::ffff:203.0.113.5"] * 3)).statuses == {200: 3}


async def test_services_get_the_address_that_is_counted(harness: GatewayHarness) -> None:
    """It is the last one that is not a trusted proxy; the client writes what stands before it."""
    backend = await harness.backend("notes")
    settings = replace(UNLIMITED, trusted_proxies=("127.0.0.1/32", "10.0.0.0/8"))
    gateway = await harness.gateway({"notes": [backend.address]}, settings)

    await gateway.get("/api/v1/notes", headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.1, 10.0.0.1"})

    assert backend.only().headers["x-real-ip"] == "203.0.113.1"


async def test_an_address_has_at_most_256_requests_in_progress(limited: LimitedGateway) -> None:
    """The requests have bodies that never end, so the rate does not limit their number."""
    gateway = await limited(rate_general=100_000)
    unfinished = b"POST /api/v1/users/login HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
    connections = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(300)]
    status_lines = [asyncio.create_task(reader.readline()) for reader, _ in connections]
    try:
        for _, writer in connections:
            writer.write(unfinished)
        for refusal in islice(asyncio.as_completed(status_lines, timeout=60), 300 - 256):
            assert await refusal == b"HTTP/1.1 429 Too Many Requests\r\n"
        response = await gateway.get("/api/v1/notes")
        assert response.status == 429
        response.problem()
        assert sum(task.done() for task in status_lines) == 300 - 256
    finally:
        for task in status_lines:
            task.cancel()
        for _, writer in connections:
            writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n"], ids=["silent", "half a head"])
async def test_connections_without_a_request_do_not_count_and_are_closed(
    harness: GatewayHarness, tmp_path: Path, sent: bytes
) -> None:
    shutil.copytree(STATIC_FILES, static_files := tmp_path / "nginx")
    client = static_files / "http" / "client.conf"
    usual = client.read_text()
    client.write_text(usual.replace("client_header_timeout 10s;", "client_header_timeout 2s;"))
    assert client.read_text() != usual
    notes = await harness.backend("notes")
    settings = replace(UNLIMITED, rate_general=1000)
    gateway = await harness.gateway({"notes": [notes.address]}, settings, static_files=static_files)

    connections = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(300)]
    for _, writer in connections:
        writer.write(sent)
    assert (await gateway.get("/api/v1/notes")).status == 200
    async with asyncio.timeout(60):
        for reader, writer in connections:
            # It ends without a response, or by a reset.
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()


@KEYS
async def test_an_address_has_as_many_uploads_in_progress_as_its_rate_lets_through_at_once(
    limited: LimitedGateway, address: str, key: dict[str, str]
) -> None:
    gateway = await limited(rate_general=1000, rate_upload=1)
    head = "POST /api/v1/assets HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n"
    head += "".join(
        f"{name}: {value}\r\n" for name, value in {**key, "Authorization": f"Bearer {gateway.token}"}.items()
    )
    writers = []
    try:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, local_addr=(address, 0))
            writers.append(writer)
            writer.write(f"{head}\r\n".encode())
            # NGINX says this when it begins to read the body, which never comes.
            assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        # In this time the rate alone would let at least two pass.
        until = time.monotonic() + 3
        while time.monotonic() < until:
            refused = await gateway.post("/api/v1/assets", headers=key, address=address)
            assert refused.status == 429
            await asyncio.sleep(0.1)
        refused.problem()
        assert (await gateway.get("/api/v1/assets", address=address)).status == 200
        assert (await gateway.post("/api/v1/assets", address=next(_addresses))).status == 200
    finally:
        for writer in writers:
            writer.close()


@pytest.mark.parametrize(
    ("path", "largest"),
    [
        ("/api/v1/users/login", 16 * 1024),
        ("/api/v1/users/register", 16 * 1024),
        ("/api/v1/users/password", 16 * 1024),
        ("/api/v1/users/logout", 16 * 1024),
        ("/api/v1/analytics/events", 2 * MIB),
        ("/api/v1/notes", 7 * MIB),
        ("/api/v1/assets", 4 * MIB + 64 * 1024),
    ],
)
async def test_a_body_may_be_as_large_as_its_route_allows(platform: Platform, path: str, largest: int) -> None:
    for headers in ({}, {"Idempotency-Key": "once"}):
        assert (await platform.gateway.post(path, headers=headers, body=b"x" * largest)).status == 200
        refused = await platform.gateway.post(path, headers={**headers, "Content-Length": str(largest + 1)})
        assert refused.status == 413
        refused.problem()
