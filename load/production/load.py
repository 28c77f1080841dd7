"""Clients that keep the platform busy through the gateway, and count every request that fails."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import aiohttp

from production.load_user import API, PASSWORD
from production.stats import RequestStats, Sample
from production.wire import Response, exchange, one_connection

# How often, and for how long, a client repeats a write during an outage.
AGAIN_SECONDS = 0.25
SETTLED_SECONDS = 90.0

Action = Callable[["Load", aiohttp.ClientSession], Awaitable[None]]


@dataclass
class Load:
    """`clients` kept-alive connections that together send `rate` requests per second while the context is open.

    A request fails when its connection breaks or the response is not the expected one. `written` maps the
    Idempotency-Key of each acknowledged write to the id in its response; `written_at` holds the times of these writes.
    `samples` has every request in the order of the responses.
    """

    gateway: str
    headers: Mapping[str, str]
    mix: Mapping[Action, int]
    rate: float
    clients: int = 8
    reads: RequestStats = field(default_factory=RequestStats)
    writes: RequestStats = field(default_factory=RequestStats)
    written: dict[str, str] = field(default_factory=dict)
    written_at: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    unsettled: int = 0

    async def __aenter__(self) -> Self:
        self._done = asyncio.Event()
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        for _ in range(self.clients):
            self._group.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        await self._group.__aexit__(kind, error, trace)

    async def _run(self) -> None:
        interval = self.clients / self.rate
        actions: Sequence[Action] = list(self.mix)
        weights = list(self.mix.values())
        due = time.monotonic() + random.uniform(0, interval)
        async with one_connection(self.gateway, self.headers) as session:
            while not self._done.is_set():
                await asyncio.sleep(due - time.monotonic())
                # Requests that were due during a long response are not made up for: that would be a burst.
                due = max(due, time.monotonic()) + random.uniform(0.5, 1.5) * interval
                await random.choices(actions, weights)[0](self, session)

    async def read(self, session: aiohttp.ClientSession, path: str) -> Response:
        """Send a GET whose response has to be 200."""
        self.reads.sent += 1
        response = await self._exchange(session, "GET", path, 200)
        if response.status != 200:
            self.reads.failures[response.reason] += 1
        return response

    async def write(self, session: aiohttp.ClientSession, path: str, key: str, content: Mapping[str, object]) -> bool:
        """Send a POST with a key; its response has to be 201, with the same id each time."""
        self.writes.sent += 1
        response = await self._exchange(session, "POST", path, 201, json=content, headers={"Idempotency-Key": key})
        if response.status != 201:
            self.writes.failures[response.reason] += 1
            return False
        identifier = response.json()["id"]
        if self.written.setdefault(key, identifier) != identifier:
            self.writes.failures["201 with another id than before"] += 1
        self.written_at.append(time.monotonic())
        return True

    async def _exchange(
        self, session: aiohttp.ClientSession, method: str, path: str, expected: int, **options: Any
    ) -> Response:
        began = time.monotonic()
        response = await exchange(session, method, f"{API}{path}", **options)
        self.samples.append(Sample(began, time.monotonic() - began, response.status != expected))
        return response

    async def settle(self, session: aiohttp.ClientSession, path: str, key: str, content: Mapping[str, object]) -> None:
        """Repeat a write with the same key until it is acknowledged."""
        end = time.monotonic() + SETTLED_SECONDS
        while not await self.write(session, path, key, content):
            if time.monotonic() > end:
                self.unsettled += 1
                return
            await asyncio.sleep(AGAIN_SECONDS)


async def read_note(load: Load, session: aiohttp.ClientSession) -> None:
    """Read a note that was acknowledged before."""
    if not load.written:
        return await create_note(load, session)
    identifier = random.choice(list(load.written.values())[-100:])
    response = await load.read(session, f"/notes/{identifier}")
    if response.status == 200 and response.json()["id"] != identifier:
        load.reads.failures["200 with another note"] += 1
    return None


async def list_notes(load: Load, session: aiohttp.ClientSession) -> None:
    """Read the newest notes."""
    await load.read(session, "/notes?limit=10")


async def read_profile(load: Load, session: aiohttp.ClientSession) -> None:
    """Read the own account."""
    await load.read(session, "/users/profile")


async def read_statistics(load: Load, session: aiohttp.ClientSession) -> None:
    """Read the platform's statistics, for which one service calls another."""
    await load.read(session, "/analytics/stats")


def _note(key: str) -> Mapping[str, object]:
    return {"title": key, "body": "what was written " * 8, "tags": ["evidence"]}


async def create_note(load: Load, session: aiohttp.ClientSession) -> None:
    """Create a note with a fresh key."""
    key = uuid4().hex
    await load.write(session, "/notes", key, _note(key))


async def repeat_note(load: Load, session: aiohttp.ClientSession) -> None:
    """Send an acknowledged creation again, whose response has to be the same."""
    if not load.written:
        return await create_note(load, session)
    key = random.choice(list(load.written)[-100:])
    await load.write(session, "/notes", key, _note(key))
    return None


async def settle_note(load: Load, session: aiohttp.ClientSession) -> None:
    """Create a note with a fresh key, and repeat the request until it is acknowledged."""
    key = uuid4().hex
    await load.settle(session, "/notes", key, _note(key))


async def settle_account(load: Load, session: aiohttp.ClientSession) -> None:
    """Register an account with a fresh key, and repeat the request until it is acknowledged."""
    key = uuid4().hex
    username = f"e{key[:24]}"
    content = {"username": username, "email": f"{username}@mail.dev", "password": PASSWORD}
    await load.settle(session, "/users/register", key, content)


_READS: Mapping[Action, int] = {read_note: 45, list_notes: 10, read_profile: 10, read_statistics: 10}
# Only `repeat_note` sends a request twice.
ORDINARY: Mapping[Action, int] = {**_READS, create_note: 20, repeat_note: 5}
# Clients that repeat a write until it is acknowledged.
NOTES_SETTLED: Mapping[Action, int] = {**_READS, settle_note: 25}
ACCOUNTS_SETTLED: Mapping[Action, int] = {read_profile: 75, settle_account: 25}
