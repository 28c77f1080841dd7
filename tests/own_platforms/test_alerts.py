"""Prometheus, with the rules of production, watches a platform whose parts fail, and one that works.

The rules' durations are shortened. `make test QUIET_MINUTES=15 ARGS=tests/own_platforms/test_alerts.py` keeps them, and
watches a platform that works for so many minutes.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2
import psutil
import pytest
from redis.asyncio import Redis

from deploy.observability.tests.rules import ALERTS
from servicekit.core.clock import utc_now
from servicekit.sealing.key_files import file_name, new_key, pair_document, read_entries, write_key_file
from servicekit.testing.serving import http_client
from servicekit.testing.wire_server import WireServer, closing, reply, responding
from tests.conftest import PASSWORD, Run, Running, SignedIn, SignUp
from tests.monitoring import ALERTMANAGER, PATIENCE_SECONDS, PROMETHEUS, Alerts, watching

QUIET_MINUTES = float(os.environ.get("QUIET_MINUTES") or 0)
QUIET_SECONDS = QUIET_MINUTES * 60 or 20.0
NEW_ACCOUNT_SECONDS = 60.0
# Alerts that are tested with made-up series only. Here the disk is the machine's, nothing is released, connections are
# few, and so are calls, which leaves a budget for retries.
UNPROVOKED = {"DiskAlmostFull", "DiskFull", "GatewayConnectionsHigh", "ReleaseUnfinished", "RetryBudgetExhausted"}
USERS = "/api/v1/users"
PROFILE, STATS, NOTES = f"{USERS}/profile", "/api/v1/analytics/stats", "/api/v1/notes"

pytestmark = [
    pytest.mark.timeout(180 + QUIET_SECONDS),
    pytest.mark.needs("analytics", "notes", "assets"),
]


@dataclass(slots=True)
class Watched:
    """A platform, its alerts, and a user of it."""

    running: Running
    alerts: Alerts
    gateway: httpx2.AsyncClient
    # A client of one replica of the user service, where the gateway limits nothing.
    direct: httpx2.AsyncClient
    collector: WireServer
    user: SignedIn

    async def send(self, method: str, *paths: str, times: int = 1, **request: Any) -> None:
        """Send requests of the user through the gateway, all at once."""
        request = {"headers": self.user.headers} | request
        await asyncio.gather(*(self.gateway.request(method, path, **request) for path in paths * times))

    async def log_in(self) -> str:
        """Return the refresh token of a new session."""
        login = {"username_or_email": self.user.username, "password": PASSWORD}
        return str((await self.direct.post(f"{USERS}/login", json=login)).json()["refresh_token"])


def client(url: str) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None)
    return http_client(url, timeout=60, limits=limits)


@pytest.fixture(scope="module")
async def watched(run: Run, sign_up: SignUp, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    if PROMETHEUS is None or ALERTMANAGER is None:
        pytest.skip("prometheus is not built: make observability-tools")
    folder = tmp_path_factory.mktemp("watched")
    async with WireServer(responding(reply())) as collector:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_TRACES_SAMPLER_ARG": "1",
            "GATEWAY_RATE_AUTH": "1",
            "USER_RATE": "1000",
        }
        async with (
            run(folder / "platform", replicas=2, CONSOLE="on", **settings) as running,
            client(running.gateway_url) as gateway,
            client(running.urls("user")[0]) as direct,
            watching(running, folder / "prometheus", short=not QUIET_MINUTES) as alerts,
        ):
            yield Watched(running, alerts, gateway, direct, collector, await sign_up(direct))


async def test_a_platform_that_works_fires_no_alert(watched: Watched, sign_up: SignUp) -> None:
    fired: set[str] = set()
    clock = asyncio.get_running_loop().time
    end = clock() + QUIET_SECONDS
    new_account_at = clock() + NEW_ACCOUNT_SECONDS
    while clock() < end:
        if clock() >= new_account_at:
            watched.user, new_account_at = await sign_up(watched.direct), clock() + NEW_ACCOUNT_SECONDS
        await watched.send("GET", PROFILE, NOTES, STATS)
        await watched.send("POST", NOTES, json={"title": "a note"})
        fired |= await watched.alerts.firing()
        await asyncio.sleep(0.5)

    assert fired == set()


async def test_a_counter_whose_increase_fires_an_alert_begins_at_zero(watched: Watched) -> None:
    counters = {counter for rule in ALERTS.values() for counter in re.findall(r"increase\(([^[]+)\[", rule["expr"])}

    assert counters
    assert [counter for counter in sorted(counters) if not await watched.alerts.value(f"count({counter})")] == []


# The request that is sent again and again while a fault lasts.
Request = Callable[[], Awaitable[object]]
Fault = Callable[[Watched], AbstractAsyncContextManager[Request]]
FAULTS: dict[str, tuple[Fault, Sequence[str]]] = {}


def fires(*alerts: str) -> Callable[[Callable[[Watched], AsyncIterator[Request]]], None]:
    """Declare a fault, and which alerts it fires. While the context is open, the request is sent again and again."""

    def declare(fault: Callable[[Watched], AsyncIterator[Request]]) -> None:
        FAULTS[fault.__name__] = asynccontextmanager(fault), alerts

    return declare


async def nothing() -> None:
    """Send no request."""


@asynccontextmanager
async def stopped(watched: Watched, *names: str) -> AsyncIterator[None]:
    """Stop processes while the context is open."""
    platform = watched.running.platform
    await asyncio.gather(*map(platform.stop_process, names))
    try:
        yield
    finally:
        await asyncio.gather(*map(platform.start_process, names))


@asynccontextmanager
async def frozen(watched: Watched, name: str) -> AsyncIterator[None]:
    """Let a process and its children do nothing while the context is open."""
    process = psutil.Process(watched.running.pid(name))
    processes = [process, *process.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


@fires("LimitsHit")
async def clients_beyond_a_limit(watched: Watched) -> AsyncIterator[Request]:
    login = {"username_or_email": "a", "password": PASSWORD}
    yield lambda: watched.send("POST", f"{USERS}/login", times=10, json=login)


@fires("TokensRefused")
async def clients_with_a_wrong_token(watched: Watched) -> AsyncIterator[Request]:
    yield lambda: watched.send("GET", PROFILE, times=10, headers={"Authorization": "Bearer wrong"})


@fires("ReplicaDown assets")
async def a_frozen_replica(watched: Watched) -> AsyncIterator[Request]:
    async with frozen(watched, "assets-1"):
        yield nothing


@fires("ServiceUnavailable notes", "ReplicaDown notes", "UpstreamFails notes_v1", "GatewayErrors")
async def a_service_without_replicas(watched: Watched) -> AsyncIterator[Request]:
    async with stopped(watched, "notes-1", "notes-2"):
        yield lambda: watched.send("GET", NOTES, times=5)


@fires("PeerCallsFail analytics user", "BreakerOpen analytics user")
async def a_peer_without_replicas(watched: Watched) -> AsyncIterator[Request]:
    async with stopped(watched, "user-1", "user-2"):
        yield lambda: watched.send("GET", STATS, times=5)


async def record_events(watched: Watched, count: int, *, subject: str) -> None:
    """Record registrations in the outbox of the user service."""
    async with watched.running.platform.stores.postgres.connect("user") as connection:
        await connection.execute(
            "INSERT INTO outbox (key, id, destination, type, subject, occurred_at, payload)"
            f" SELECT gen_random_uuid(), gen_random_uuid(), 'analytics', 'user.registered', {subject}, now(), '{{}}'"
            f" FROM generate_series(1, {count})"
        )


@fires("OutboxDelayed user analytics", "OutboxBacklog user analytics")
async def a_destination_of_many_events_without_replicas(watched: Watched) -> AsyncIterator[Request]:
    async with stopped(watched, "analytics-1", "analytics-2"):
        await record_events(watched, 1_001, subject="gen_random_uuid()")
        yield nothing


@fires("DeadLetters user analytics")
async def an_event_that_its_destination_refuses(watched: Watched) -> AsyncIterator[Request]:
    await record_events(watched, 1, subject="'no id of an account'")
    yield nothing


@fires(
    "ValkeyUnavailable user",
    "StoreDown user valkey",
    "EndedSessionsUnheard notes",
    "EndedSessionsUnpublished user",
    "ReplayGuardDegraded user",
    "LimitsUnchecked user",
    "LimitsUnchecked notes",
    "CacheStale user",
)
async def no_valkey(watched: Watched) -> AsyncIterator[Request]:
    async def use() -> None:
        await watched.send("GET", f"{USERS}/{watched.user.account['id']}", NOTES, STATS, times=2)
        await watched.send("PATCH", PROFILE, json={"display_name": uuid4().hex})
        await watched.log_in()

    async with stopped(watched, "valkey"):
        yield use


@fires("StoreDown user postgres", "ServiceErrors user", f"RouteErrors user {PROFILE}")
async def no_postgresql(watched: Watched) -> AsyncIterator[Request]:
    async with stopped(watched, "postgres"):
        yield lambda: watched.send("GET", PROFILE, times=5)


@fires("ServiceSlow user", "GatewaySlow")
async def a_frozen_postgresql(watched: Watched) -> AsyncIterator[Request]:
    async with frozen(watched, "postgres"):
        yield lambda: watched.send("GET", PROFILE, times=5)


@fires("StoreDown analytics mongo", "ServiceErrors analytics")
async def no_mongodb(watched: Watched) -> AsyncIterator[Request]:
    async with stopped(watched, "mongo-1"):
        yield lambda: watched.send("GET", STATS, times=5)


@fires("EndedSessionsUnpublished user", "EndedSessionsUnheard analytics")
async def a_valkey_that_takes_no_writes(watched: Watched) -> AsyncIterator[Request]:
    async with Redis.from_url(watched.running.platform.stores.valkey_url()) as valkey:
        await valkey.config_set("min-replicas-to-write", 1)
        try:
            yield nothing
        finally:
            await valkey.config_set("min-replicas-to-write", 0)


@fires("PasswordHashesWait user", "ServiceBusy user")
async def many_logins_at_once(watched: Watched) -> AsyncIterator[Request]:
    yield lambda: asyncio.gather(*(watched.log_in() for _ in range(250)))


@fires("RefreshTokensReused")
async def stolen_refresh_tokens(watched: Watched) -> AsyncIterator[Request]:
    async def use_a_token_again() -> None:
        async def refresh(token: str) -> httpx2.Response:
            return await watched.direct.post(f"{USERS}/refresh", json={"refresh_token": token})

        first = await watched.log_in()
        second = (await refresh(first)).json()["refresh_token"]
        await refresh(second)
        await refresh(first)

    yield use_a_token_again


@fires("DuplicateRegistrations")
async def registrations_of_a_taken_name(watched: Watched) -> AsyncIterator[Request]:
    account = {"username": watched.user.username, "email": f"{uuid4().hex}@mail.dev", "password": PASSWORD}
    yield lambda: asyncio.gather(*(watched.direct.post(f"{USERS}/register", json=account) for _ in range(3)))


@fires(f"IdempotencyConflicts notes {NOTES} other_request", f"RequestsRepeated notes {NOTES}")
async def one_key_for_many_requests(watched: Watched) -> AsyncIterator[Request]:
    async def repeat() -> None:
        headers = {**watched.user.headers, "Idempotency-Key": "a key"}
        await watched.send("POST", NOTES, times=10, headers=headers, json={"title": "a note"})
        await watched.send("POST", NOTES, times=3, headers=headers, json={"title": "another note"})

    yield repeat


@fires("EventsUnlabelled analytics")
async def invented_types_of_events(watched: Watched) -> AsyncIterator[Request]:
    async def invent() -> None:
        events = [{"type": f"invented.{uuid4().hex}"} for _ in range(100)]
        await watched.send("POST", "/api/v1/analytics/events", json={"events": events})

    yield invent


@fires("KeysNotLoaded user")
async def a_damaged_key_file(watched: Watched) -> AsyncIterator[Request]:
    path = watched.running.key_directory("user") / file_name("user", "notes")
    content = path.read_bytes()
    write_key_file(path, content[:-10])
    try:
        yield nothing
    finally:
        write_key_file(path, content)


@fires("UnknownKey user", "SealedRequestsRefused user unknown key id")
async def a_key_that_only_the_caller_has(watched: Watched) -> AsyncIterator[Request]:
    path = watched.running.key_directory("analytics") / file_name("analytics", "user")
    content = path.read_bytes()
    write_key_file(path, pair_document("analytics", "user", [new_key(utc_now()), *read_entries(path)]))
    try:
        yield lambda: watched.send("GET", STATS, times=5)
    finally:
        write_key_file(path, content)


@fires("TelemetryDropped notes logs", "SpansDropped notes")
async def neither_console_nor_collector(watched: Watched) -> AsyncIterator[Request]:
    async with stopped(watched, "console"):
        watched.collector.behaviour = closing
        yield lambda: watched.send("GET", NOTES, times=5)
        watched.collector.behaviour = responding(reply())


@fires("GatewayDown")
async def no_gateway(watched: Watched) -> AsyncIterator[Request]:
    async with stopped(watched, "gateway"):
        yield nothing


@pytest.mark.skipif(bool(QUIET_MINUTES), reason="the rules' durations are not shortened")
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_fires_its_alerts(watched: Watched, sign_up: SignUp, name: str) -> None:
    fault, alerts = FAULTS[name]
    # An earlier fault may have used up the sessions of its user.
    watched.user = await sign_up(watched.direct)
    async with fault(watched) as request:
        await watched.alerts.fire(*alerts, meanwhile=request)


@pytest.mark.skipif(bool(QUIET_MINUTES), reason="the rules' durations are not shortened")
async def test_alertmanager_shows_what_fires(watched: Watched) -> None:
    async with stopped(watched, "gateway"), asyncio.timeout(PATIENCE_SECONDS):
        while "GatewayDown" not in await watched.alerts.shown():
            await asyncio.sleep(0.2)


def test_every_other_alert_has_a_fault_that_fires_it() -> None:
    fired = {alert.split()[0] for _, alerts in FAULTS.values() for alert in alerts}

    assert fired == ALERTS.keys() - UNPROVOKED
