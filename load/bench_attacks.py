"""Measure what hostile requests cost others: the p95 of a profile read, quiet and attacked, and the workers' memory.

    .venv/bin/python load/bench_attacks.py [--quick] [--addresses 1] [--line 1000] [--only no-token]

It starts a platform with the default limits. Eight clients repeat each attack as fast as responses come and
their line of 1 Gbit/s carries, from as many addresses as `--addresses` says. The reader has an address of its own.
It takes six minutes. A killed worker or a failed read makes the exit status 1.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import uuid4

import aiohttp
import psutil

from benchlib import Run, Sample, Subject, at_most, http_request, main
from benchlib.command import BenchFailed
from benchlib.platform import PASSWORD
from local_platform.platform.launcher import running_platform

USERS = "/api/v1/users"
READS_PER_SECOND = 50.0
CLIENTS = 8
SAMPLE_SECONDS = 0.1
MEBIBYTE = 1024 * 1024
# What the production stack gives a service.
CONTAINER_MEBIBYTES = 512
SPAWN = multiprocessing.get_context("spawn")
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Attack:
    """A request that clients repeat, with a token or without."""

    path: str
    body: bytes
    signed_in: bool = True
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)


def _object_with_unknown_keys(number: int) -> bytes:
    return json.dumps({f"key{position}": 0 for position in range(number)}).encode()


ATTACKS = {
    "unknown-keys": Attack("/api/v1/users/logout", _object_with_unknown_keys(70_000), signed_in=False),
    "login-fields": Attack("/api/v1/users/login", _object_with_unknown_keys(70_000), signed_in=False),
    "wrong-tags": Attack("/api/v1/notes", json.dumps({"title": "a", "tags": [0] * 300_000}).encode()),
    "many-tags": Attack("/api/v1/notes", json.dumps({"title": "a", "tags": [0] * 3_000_000}).encode()),
    "unknown-note-fields": Attack("/api/v1/notes", _object_with_unknown_keys(70_000)),
    "event-fields": Attack("/api/v1/analytics/events", b'{"events":[%s]}' % _object_with_unknown_keys(120_000)),
    "wrong-events": Attack("/api/v1/analytics/events", b'{"events":[%s{}]}' % (b"{}," * 300_000)),
    "deep-properties": Attack(
        "/api/v1/analytics/events", b'{"type":"a","properties":{"x":%s%s}}' % (b"[" * 400_000, b"]" * 400_000)
    ),
    "no-token": Attack("/api/v1/notes", b'{"body":"%s"}' % (b"a" * 6_900_000), signed_in=False),
    "upload-without-token": Attack(
        "/api/v1/assets",
        b"a" * 10 * MEBIBYTE,
        signed_in=False,
        headers={"Content-Type": "text/plain", "X-Filename": "a"},
    ),
}


@dataclass(frozen=True, slots=True)
class Sender:
    """A client of the gateway: its own address, and the token of its account."""

    base: str
    address: str
    token: str

    def session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self.base, connector=aiohttp.TCPConnector(local_addr=(self.address, 0)))

    async def repeat(self, attack: Attack, pause: float, statuses: Counter[int]) -> None:
        """Send a request every `pause` seconds, or as fast as responses come."""
        headers = {**attack.headers, **({"Authorization": f"Bearer {self.token}"} if attack.signed_in else {})}
        async with self.session() as http:
            while True:
                due = time.monotonic() + pause
                try:
                    async with http.post(attack.path, data=attack.body, headers=headers) as response:
                        await response.read()
                        statuses[response.status] += 1
                except aiohttp.ClientConnectionError:
                    # The gateway closes a connection whose body it does not want.
                    statuses[0] += 1
                await asyncio.sleep(due - time.monotonic())


def attack_until_told(name: str, senders: Sequence[Sender], line: float, parent: Connection) -> None:
    """Attack until the parent sends something, then send it the statuses of the responses."""
    # Attackers have machines of their own, so they take only what the platform and the reader leave of this one.
    os.nice(19)
    statuses: Counter[int] = Counter()

    attack = ATTACKS[name]
    pause = len(senders) * len(attack.body) * 8 / (line * 1e6) if line else 0.0

    async def run() -> None:
        tasks = [asyncio.create_task(sender.repeat(attack, pause, statuses)) for sender in senders]
        parent.send("started")
        await asyncio.to_thread(parent.recv)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    asyncio.run(run())
    parent.send(statuses)


@asynccontextmanager
async def attacked(name: str, senders: Sequence[Sender], line: float, statuses: Counter[int]) -> AsyncIterator[None]:
    """Attack from another process while the context is open, and count the responses."""
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=attack_until_told, args=(name, senders, line, there), daemon=True)
    process.start()
    await asyncio.to_thread(here.recv)
    yield
    here.send("stop")
    statuses.update(await asyncio.to_thread(here.recv))
    process.join()


class Workers:
    """The worker processes of all services, by run.json."""

    def __init__(self, data_dir: Path) -> None:
        self._run_file = data_dir / "run.json"
        self.peak = 0.0

    def pids(self) -> set[int]:
        processes = json.loads(self._run_file.read_text())["processes"]
        masters = [process["pid"] for process in processes if process["name"] != process["service"]]
        return {child.pid for pid in masters for child in psutil.Process(pid).children()}

    async def watch_memory(self) -> None:
        """Keep the largest memory of a worker, in MiB, up to date until cancelled."""
        while True:
            for pid in self.pids():
                self.peak = max(self.peak, psutil.Process(pid).memory_info().rss / MEBIBYTE)
            await asyncio.sleep(SAMPLE_SECONDS)


def attacked_reads(
    read: Subject, name: str, senders: Sequence[Sender], line: float, workers: Workers, statuses: Counter[int]
) -> Subject:
    """Return the reads, while an attack goes on."""

    async def run(seconds: float) -> Sample:
        workers.peak = 0.0
        watch = asyncio.create_task(workers.watch_memory())
        try:
            async with attacked(name, senders, line, statuses):
                sample = await read.run(seconds)
        finally:
            watch.cancel()
        return replace(sample, memory=workers.peak)

    return Subject("attacked", run)


async def measure(run: Run) -> None:
    options, folder = run.options, run.folder
    platform = await run.stack.enter_async_context(running_platform(folder, settings={}))
    senders = []
    for number in range(CLIENTS + 1):
        # The limits of logins count by address, so each account comes from another one.
        async with Sender(platform.gateway_url, f"127.0.1.{1 + number}", "").session() as http:
            token = await sign_up(http)
        address = f"127.0.0.{2 + number % options.addresses}"
        senders.append(Sender(platform.gateway_url, address, token))
    reader, *attackers = senders
    workers = Workers(folder)
    before = workers.pids()
    profile = http_request("GET", f"{USERS}/profile", {"Authorization": f"Bearer {reader.token}"})
    for name in options.only or ATTACKS:
        statuses: Counter[int] = Counter()
        quiet = run.http("quiet", platform.gateway_url, profile, connections=64, rate=READS_PER_SECOND)
        busy = attacked_reads(quiet, name, attackers, options.line, workers, statuses)
        await run.compare([quiet, busy], group=name)
        print("responses: " + ", ".join(f"{count} × {status or 'closed'}" for status, count in statuses.most_common()))
        run.ratio(f"profile p95 beside {name}", "p95", busy, quiet)
        peaks = [sample.memory for sample in run.samples(busy)]
        run.result(f"largest worker, {name}", peaks, "MiB", at_most(CONTAINER_MEBIBYTES))
    if killed := len(before - workers.pids()):
        raise BenchFailed(f"{killed} of {len(before)} workers were killed")


async def sign_up(http: aiohttp.ClientSession) -> str:
    """Register an account and return its access token."""
    name = f"bench-{uuid4().hex[:16]}"
    account = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
    async with http.post(f"{USERS}/register", json=account) as response:
        response.raise_for_status()
    async with http.post(f"{USERS}/login", json={"username_or_email": name, "password": PASSWORD}) as response:
        response.raise_for_status()
        return str((await response.json())["access_token"])


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--addresses", type=int, default=1, help="addresses of the eight clients (default 1)")
    parser.add_argument("--line", type=float, default=1000.0, help="the attackers' line in Mbit/s (1000), 0: no limit")
    parser.add_argument("--only", nargs="+", choices=ATTACKS, help="the attacks to measure (default: all)")


if __name__ == "__main__":
    main(measure, __doc__, rounds=3, seconds=5.0, quick=(1, 3.0), add_options=add_options)
