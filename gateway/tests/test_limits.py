"""Limits by address, and limits of bodies."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pytest

from gateway_config import GatewaySettings

MIB = 1024 * 1024
AUTH_ROUTES = ["register", "login", "token", "refresh", "password"]


def limited(**settings: Any) -> GatewaySettings:
    return replace(GatewaySettings(rate_general=0, rate_auth=0, rate_upload=0), **settings)


@dataclass(frozen=True, slots=True)
class Burst:
    """What came of requests that were sent at once, and how long that took: on a busy machine, not no time."""

    statuses: Counter[int]
    seconds: float

    def met_a_limit_of_one_per_second(self, *, addresses: int = 1) -> bool:
        """Whether one request and twice the rate passed for each address, one more in each full second, and no more."""
        at_once = 3 * addresses
        passed = self.statuses.total() - self.statuses[429]
        return at_once <= passed <= at_once + addresses * int(self.seconds)


async def burst(requests: Iterable[Awaitable[Any]]) -> Burst:
    """Send all these requests at once."""
    began = time.monotonic()
    answers = await asyncio.gather(*requests)
    return Burst(Counter(answer.status for answer in answers), time.monotonic() - began)


async def sent(gateway: Any, requests: list[tuple[str, str]], **options: Any) -> Burst:
    return await burst(gateway.send(method, path, **options) for method, path in requests)


async def start(world: Any, **settings: Any) -> Any:
    backend = await world.backend("any")
    services = ("user", "analytics", "notes", "assets")
    servers = {service: [backend.address] for service in services}
    return await world.gateway(servers, limited(**settings), keys_known=False)


async def test_one_request_and_twice_the_rate_pass_at_once_and_no_more(world: Any) -> None:
    gateway = await start(world, rate_general=1)

    assert (await sent(gateway, [("GET", "/api/v1/notes")] * 20)).met_a_limit_of_one_per_second()


async def test_a_refusal_tells_when_to_come_back(world: Any) -> None:
    gateway = await start(world, rate_general=1)
    answers = await asyncio.gather(*(gateway.get("/api/v1/notes") for _ in range(10)))

    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    for answer in refused:
        assert answer.problem()["title"] == "Too Many Requests"
        assert answer.get("Retry-After") == "1"


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "once"}], ids=["plain", "keyed"])
async def test_password_routes_share_a_stricter_limit(world: Any, key: dict[str, str]) -> None:
    gateway = await start(world, rate_general=1000, rate_auth=1)

    requests = [("POST", f"/api/v1/users/{route}") for route in AUTH_ROUTES]
    requests += [("POST", f"/api/users/{route}") for route in AUTH_ROUTES]
    assert (await sent(gateway, requests * 2, headers=key)).met_a_limit_of_one_per_second()
    assert (await sent(gateway, [("GET", "/api/v1/users/profile")] * 20)).statuses == {200: 20}


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "once"}], ids=["plain", "keyed"])
async def test_uploads_have_a_limit_of_their_own(world: Any, key: dict[str, str]) -> None:
    gateway = await start(world, rate_general=1000, rate_upload=1)

    assert (await sent(gateway, [("POST", "/api/v1/assets")] * 20, headers=key)).met_a_limit_of_one_per_second()
    assert (await sent(gateway, [("GET", "/api/v1/assets")] * 20)).statuses == {200: 20}


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
async def test_the_general_limit_holds_on_every_route(world: Any, method: str, path: str) -> None:
    gateway = await start(world, rate_general=1)

    requests = [
        gateway.send(method, path, headers=headers) for headers in ({}, {"Idempotency-Key": "once"}) for _ in range(10)
    ]
    assert (await burst(requests)).met_a_limit_of_one_per_second()


async def test_a_rate_of_zero_is_no_limit(world: Any) -> None:
    gateway = await start(world)

    requests = [("POST", "/api/v1/users/login"), ("POST", "/api/v1/assets"), ("GET", "/api/v1/notes")] * 40
    assert (await sent(gateway, requests)).statuses == {200: 120}


async def test_refused_tokens_count_as_requests(world: Any) -> None:
    gateway = await start(world, rate_general=1)

    assert (await sent(gateway, [("GET", "/api/v1/users/profile")] * 10, token="a.b.c")).met_a_limit_of_one_per_second()


BEHIND_A_PROXY = {"rate_general": 1, "trusted_proxies": ("127.0.0.0/8", "10.0.0.0/8")}


async def asked_by(gateway: Any, addresses: list[str]) -> Burst:
    return await burst(gateway.get("/api/v1/notes", headers={"X-Forwarded-For": address}) for address in addresses)


async def test_every_address_behind_a_trusted_proxy_has_its_own_allowance(world: Any) -> None:
    gateway = await start(world, **BEHIND_A_PROXY)

    asked = await asked_by(gateway, ["203.0.113.1"] * 6 + ["203.0.113.2"] * 6)
    assert asked.met_a_limit_of_one_per_second(addresses=2)


async def test_an_address_in_front_of_an_untrusted_one_is_not_believed(world: Any) -> None:
    """The client writes the left part of the list; the proxies append to it."""
    gateway = await start(world, **BEHIND_A_PROXY)

    forged = [f"198.51.100.{number}, 203.0.113.1, 10.0.0.1" for number in range(10)]
    assert (await asked_by(gateway, forged)).met_a_limit_of_one_per_second()


async def test_without_trusted_proxies_no_header_changes_the_address(world: Any) -> None:
    gateway = await start(world, rate_general=1)

    asked = await asked_by(gateway, [f"203.0.113.{number}" for number in range(10)])
    assert asked.met_a_limit_of_one_per_second()


async def test_ipv6_addresses_of_one_network_share_an_allowance(world: Any) -> None:
    gateway = await start(world, **BEHIND_A_PROXY)

    one_network = ["2001:db8:0:7::1", "2001:db8:0:7:ffff:ffff:ffff:ffff", "2001:db8:0:7:a:b:c:d", "2001:db8:0:7::a0a:d"]
    assert (await asked_by(gateway, one_network * 3)).met_a_limit_of_one_per_second()
    another_network = ["2001:db8:0:8::1", "2001:db8:0:8:0:a::"]
    assert (await asked_by(gateway, another_network * 3)).met_a_limit_of_one_per_second()


async def test_an_ipv4_address_within_ipv6_counts_as_that_address(world: Any) -> None:
    gateway = await start(world, **BEHIND_A_PROXY)

    assert (await asked_by(gateway, ["::ffff:203.0.113.1", "203.0.113.1"] * 3)).met_a_limit_of_one_per_second()
    assert (await asked_by(gateway, ["::ffff:203.0.113.2"] * 3)).statuses == {200: 3}


async def test_services_get_the_address_that_is_counted(world: Any) -> None:
    """It is the last one that is no trusted proxy; what stands before it is the client's own text."""
    backend = await world.backend("notes")
    settings = limited(trusted_proxies=("127.0.0.1/32", "10.0.0.0/8"))
    gateway = await world.gateway({"notes": [backend.address]}, settings, keys_known=False)

    await gateway.get("/api/v1/notes", headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.1, 10.0.0.1"})

    assert backend.only().headers["x-real-ip"] == "203.0.113.1"


async def test_one_address_has_at_most_256_requests_in_progress(world: Any) -> None:
    """Requests whose bodies never end: their number is what the rate does not bound."""
    gateway = await start(world, rate_general=100_000)
    unfinished = b"POST /api/v1/notes HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
    connections = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(300)]
    answers = [asyncio.create_task(reader.readline()) for reader, _ in connections]
    try:
        for _, writer in connections:
            writer.write(unfinished)
        for refusal in islice(asyncio.as_completed(answers, timeout=60), 300 - 256):
            assert await refusal == b"HTTP/1.1 429 Too Many Requests\r\n"
        answer = await gateway.get("/api/v1/notes")
        assert answer.status == 429
        answer.problem()
        assert sum(task.done() for task in answers) == 300 - 256
    finally:
        for task in answers:
            task.cancel()
        for _, writer in connections:
            writer.close()


@pytest.mark.parametrize(
    ("path", "largest"),
    [
        ("/api/v1/users/login", 16 * 1024),
        ("/api/v1/users/register", 16 * 1024),
        ("/api/v1/users/password", 16 * 1024),
        ("/api/v1/users/logout", MIB),
        ("/api/v1/analytics/events", 9 * MIB),
        ("/api/v1/notes", 9 * MIB),
        ("/api/v1/assets", 2 * MIB + 64 * 1024),
    ],
)
async def test_a_body_may_be_as_large_as_its_route_allows(world: Any, path: str, largest: int) -> None:
    gateway = await start(world, max_upload_bytes=2 * MIB)

    for headers in ({}, {"Idempotency-Key": "once"}):
        assert (await gateway.post(path, headers=headers, body=b"x" * largest)).status == 200
        refused = await gateway.post(path, headers={**headers, "Content-Length": str(largest + 1)})
        assert refused.status == 413
        refused.problem()
