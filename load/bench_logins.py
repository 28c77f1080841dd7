"""Measure what logins cost other requests: the p99 of a profile read, idle and with 16 logins in flight.

    .venv/bin/python load/bench_logins.py [--rounds 5] [--seconds 4] [--base http://127.0.0.1:8080]

Idle and busy slices alternate. Reads are sent at a fixed rate, so that a slow one does not delay the next, and each is
timed from the moment when it was due. The result is the median over the rounds of the ratio within each round. Without
--base the script starts its own platform. A running platform must have been started without limits:

    make run GATEWAY_RATE_GENERAL=0 GATEWAY_RATE_AUTH=0 USER_RATE=0
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp

from local_platform.platform.launcher import running_platform

API = "/api/v1/users"
PASSWORD = "correct horse battery staple"
LOGINS_IN_FLIGHT = 16
READS_PER_SECOND = 50
UNLIMITED = {"GATEWAY_RATE_GENERAL": "0", "GATEWAY_RATE_AUTH": "0", "USER_RATE": "0"}


class Refused(Exception):
    """The platform refused a request, so the figures would mean nothing."""


@dataclass(frozen=True)
class Slice:
    """The read times of a time slice in milliseconds, and its logins per second."""

    p50: float
    p99: float
    logins: float


async def register(http: aiohttp.ClientSession) -> str:
    name = f"bench-{uuid4().hex[:16]}"
    body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
    async with http.post(f"{API}/register", json=body) as response:
        if response.status != 201:
            raise Refused(f"a registration got {response.status}: {await response.text()}")
    return name


async def log_in(http: aiohttp.ClientSession, name: str) -> str:
    async with http.post(f"{API}/login", json={"username_or_email": name, "password": PASSWORD}) as response:
        if response.status != 200:
            raise Refused(f"a login got {response.status} (limits must be off): {await response.text()}")
        return str((await response.json())["access_token"])


async def read(http: aiohttp.ClientSession, token: str, due: float) -> float:
    """Return the milliseconds from the moment when the read was due to its response."""
    async with http.get(f"{API}/profile", headers={"Authorization": f"Bearer {token}"}) as response:
        await response.read()
        if response.status != 200:
            raise Refused(f"a read got {response.status} (limits must be off): {await response.text()}")
    return (time.perf_counter() - due) * 1000


async def paced_reads(http: aiohttp.ClientSession, token: str, seconds: float) -> list[float]:
    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(int(seconds * READS_PER_SECOND)):
            due = begin + number / READS_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(group.create_task(read(http, token, due)))
    return [task.result() for task in tasks]


async def measure(http: aiohttp.ClientSession, token: str, names: list[str], seconds: float) -> Slice:
    """Read for `seconds` while one client for each of `names` logs in repeatedly."""
    done = 0
    stop = asyncio.Event()

    async def keep_logging_in(name: str) -> None:
        nonlocal done
        while not stop.is_set():
            await log_in(http, name)
            done += 1

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(keep_logging_in(name))
        times = await paced_reads(http, token, seconds)
        stop.set()
    quantiles = statistics.quantiles(times, n=100)
    return Slice(quantiles[49], quantiles[98], done / seconds)


async def bench(base: str, rounds: int, seconds: float) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(base, connector=connector) as http:
        names = [await register(http) for _ in range(LOGINS_IN_FLIGHT)]
        token = await log_in(http, names[0])
        await measure(http, token, names, seconds / 2)
        print(f"{'round':>5}{'idle p50':>12}{'p99':>8}{'busy p50':>12}{'p99':>8}{'ratio p99':>12}{'logins/s':>11}")
        ratios = []
        for number in range(1, rounds + 1):
            idle = await measure(http, token, [], seconds)
            busy = await measure(http, token, names, seconds)
            ratios.append(busy.p99 / idle.p99)
            print(
                f"{number:>5}{idle.p50:>9.1f} ms{idle.p99:>8.1f}{busy.p50:>9.1f} ms{busy.p99:>8.1f}"
                f"{ratios[-1]:>12.2f}{busy.logins:>11.1f}"
            )
        print(
            f"the p99 of a profile read with {LOGINS_IN_FLIGHT} logins in flight is {statistics.median(ratios):.2f} "
            "times the idle one (median)"
        )


@asynccontextmanager
async def platform(base: str | None) -> AsyncIterator[str]:
    """Yield the address of the running platform, or of one that runs while the context is open."""
    if base is not None:
        yield base
        return
    with tempfile.TemporaryDirectory() as folder:
        async with running_platform(Path(folder), settings=UNLIMITED) as own:
            yield own.gateway_url


async def main(base: str | None, rounds: int, seconds: float) -> int:
    failed = 0
    try:
        async with platform(base) as url:
            await bench(url, rounds, seconds)
    except* Refused as refusals:
        print(refusals.exceptions[0], file=sys.stderr)
        failed = 1
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="a running platform's gateway; by default one is started")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of slices (default 5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a slice (default 4)")
    options = parser.parse_args()
    sys.exit(asyncio.run(main(options.base, options.rounds, options.seconds)))
