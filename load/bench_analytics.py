"""Measure ingest against raw inserts, and statistics at 10⁴ and 10⁶ events.

    .venv/bin/python load/bench_analytics.py [--events 1000000] [--rounds 5]

The script starts its own MongoDB, Valkey and service, under gunicorn as in production; requests come over HTTP.
Ingest and raw inserts alternate in each round, four in flight, and the ratios are medians over the rounds. Raw inserts
are acknowledged by a majority, too. They go into a bare collection, and into one with the indexes of the events.
Statistics requests alternate between two services: one with few events and one with many. Differences below 15 % are
ties. A million events take two to three minutes, mostly to load them.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import aiohttp
from pydantic import SecretStr
from pymongo.asynchronous.database import AsyncDatabase
from uuid_utils.compat import uuid7

from analytics_service.check import find_differences
from analytics_service.database import migrate
from analytics_service.events import store as events
from analytics_service.events.rules import RESERVED_EVENT_TYPES
from analytics_service.reconciliation.rebuilding import Rebuild
from analytics_service.rollups.event_types import EventTypes
from local_platform.stores import StoreSet, running_stores
from servicekit.storage import mongo
from servicekit.storage.mongo import Document
from servicekit.testing.sealed import make_keyrings
from servicekit.testing.tokens import TestIssuer
from servicekit.testing.wire_server import WireServer, reply, responding

GUNICORN: Final = Path(__file__).resolve().parents[1] / "deploy" / "gunicorn.conf.py"
API: Final = "/api/v1/analytics"
WORKERS: Final = 2
IN_FLIGHT: Final = 4
SMALL: Final = 10_000
TYPES: Final = tuple(f"bench.type-{number}" for number in range(5))
USERS: Final = tuple(uuid7() for _ in range(1_000))
LOAD_BATCH: Final = 5_000
# Requests of each kind in one measurement.
REQUESTS: Final = {1: 100, 100: 40, 1_000: 12}
READS: Final = 60
AGGREGATION: Final = "(totals by aggregation)"
AGGREGATIONS: Final = 3


@dataclass
class Service:
    """A running service, its database, and a signed-in client."""

    http: aiohttp.ClientSession
    url: str
    database: AsyncDatabase[Document]

    async def post(self, body: bytes) -> None:
        async with self.http.post(f"{self.url}{API}/events", data=body) as response:
            if response.status != 202:
                raise RuntimeError(f"{response.status}: {await response.text()}")

    async def get(self, path: str) -> None:
        async with self.http.get(f"{self.url}{API}/{path}") as response:
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {await response.text()}")
            await response.read()


async def run_concurrently(work: Callable[[int], Awaitable[object]], number: int) -> float:
    """Run `work` `number` times, `IN_FLIGHT` at once; return the seconds."""
    numbers = iter(range(number))

    async def worker() -> None:
        for index in numbers:
            await work(index)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return time.perf_counter() - started


def body_of(size: int) -> bytes:
    """Return a batch as clients send it."""
    now = datetime.now(UTC).isoformat()
    batch = [
        {"type": TYPES[index % len(TYPES)], "occurred_at": now, "properties": {"page": "/home", "milliseconds": index}}
        for index in range(size)
    ]
    return json.dumps({"events": batch} if size > 1 else batch[0]).encode()


def documents_of(size: int) -> list[Document]:
    """Return the same events as the service stores them."""
    now, user = datetime.now(UTC), USERS[0]
    return [
        {
            "_id": uuid7(),
            "sender": str(user),
            "event_id": str(uuid7()),
            "type": TYPES[index % len(TYPES)],
            "user_id": user,
            "occurred_at": now,
            "received_at": now,
            "properties": {"page": "/home", "milliseconds": index},
        }
        for index in range(size)
    ]


async def ingest(service: Service, rounds: int) -> None:
    """Compare batches of the service with raw inserts of the same size."""
    database = service.database
    await database["raw_indexed"].create_indexes(events.INDEXES)
    print(f"\nIngest, {IN_FLIGHT} in flight, {WORKERS} workers; events/s, medians of {rounds} rounds")
    print(f"{'batch':>8}{'service':>12}{'raw':>12}{'raw, indexed':>14}{'of raw':>9}{'of indexed':>12}")
    for size, number in REQUESTS.items():
        body = body_of(size)
        rates: dict[str, list[float]] = {"service": [], "raw": [], "raw_indexed": []}
        for _ in range(rounds):
            for collection in ("raw", "raw_indexed"):
                prepared = [documents_of(size) for _ in range(number)]
                seconds = await run_concurrently(partial(_insert, database[collection], prepared), number)
                rates[collection].append(size * number / seconds)
            rates["service"].append(size * number / await run_concurrently(partial(_post, service, body), number))
        bare = statistics.median(map(_ratio, rates["service"], rates["raw"]))
        indexed = statistics.median(map(_ratio, rates["service"], rates["raw_indexed"]))
        rates_median = {name: statistics.median(values) for name, values in rates.items()}
        print(
            f"{size:>8,}{rates_median['service']:>12,.0f}{rates_median['raw']:>12,.0f}{rates_median['raw_indexed']:>14,.0f}"
            f"{bare:>9.2f}{indexed:>12.2f}"
        )


async def _insert(collection: Any, batches: Sequence[list[Document]], index: int) -> None:
    await collection.insert_many(batches[index])


async def _post(service: Service, body: bytes, _index: int) -> None:
    await service.post(body)


def _ratio(one: float, other: float) -> float:
    return one / other


async def load(database: AsyncDatabase[Document], number: int) -> None:
    """Insert events of the last 30 days directly into the database, then rebuild the rollups."""
    end, step = datetime.now(UTC), timedelta(days=29) / number
    users, types = cycle(USERS), cycle(TYPES)
    for start in range(0, number, LOAD_BATCH):
        moments = (end - index * step for index in range(start, min(start + LOAD_BATCH, number)))
        await database[events.COLLECTION_NAME].insert_many(
            [
                {
                    "_id": uuid7(),
                    "sender": "bench",
                    "event_id": "",
                    "type": next(types),
                    "user_id": next(users),
                    "occurred_at": moment,
                    "received_at": end,
                    "properties": {},
                }
                for moment in moments
            ],
            ordered=False,
        )
    labels = EventTypes(database, RESERVED_EVENT_TYPES)
    await labels.labels(TYPES, None)
    started = time.perf_counter()
    await Rebuild(database, labels).run(lambda _done, _days, _corrected: None)
    rebuilt = time.perf_counter()
    wrong = await find_differences(database)
    print(
        f"{number:>9,} events: rebuilt in {rebuilt - started:.1f} s, checked in {time.perf_counter() - rebuilt:.1f} s"
        f"{'' if wrong == ([], 0) else ', AND THEY DIFFER'}"
    )


async def by_aggregation(database: AsyncDatabase[Document]) -> None:
    """Count the totals as a service without rollups would."""
    await (await database[events.COLLECTION_NAME].aggregate([{"$group": {"_id": "$type", "n": {"$sum": 1}}}])).to_list()


async def reads(services: Sequence[Service]) -> list[dict[str, float]]:
    """Return the median milliseconds of each kind of statistics for each service; the services alternate."""
    paths = {
        "totals": "stats",
        "1,440 minutes, all types": _series("minute", timedelta(minutes=1_440)),
        "720 hours, all types": _series("hour", timedelta(hours=720)),
        "720 hours, one type": _series("hour", timedelta(hours=720)) + f"&type={TYPES[0]}",
        "30 days, all types": _series("day", timedelta(days=30)),
    }
    samples: list[dict[str, list[float]]] = [{name: [] for name in [*paths, AGGREGATION]} for _ in services]
    for number in range(READS):
        for service, times in zip(services, samples, strict=True):
            for name, path in paths.items():
                times[name].append(await _milliseconds(service.get(path)))
            if number < AGGREGATIONS:
                times[AGGREGATION].append(await _milliseconds(by_aggregation(service.database)))
    return [{name: statistics.median(values) for name, values in times.items()} for times in samples]


async def _milliseconds(work: Awaitable[object]) -> float:
    started = time.perf_counter()
    await work
    return (time.perf_counter() - started) * 1000


def _series(interval: str, length: timedelta) -> str:
    # Both ends are full minutes, hours or days; otherwise the series would have one point more.
    end = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    if interval != "minute":
        end = end.replace(hour=0, minute=0) + timedelta(days=1)
    return f"stats/series?interval={interval}&since={(end - length):%Y-%m-%dT%H:%M:%SZ}&until={end:%Y-%m-%dT%H:%M:%SZ}"


async def statistics_at_sizes(few: Service, many: Service, number: int) -> None:
    """Compare statistics over few events with statistics over many."""
    print()
    await load(few.database, SMALL)
    await load(many.database, number)
    small, large = await reads([few, many])
    print(f"\nStatistics over HTTP\n{'ms, median':28}{SMALL:>10,}{number:>12,}{'ratio':>9}")
    for name, milliseconds in small.items():
        print(f"{name:28}{milliseconds:10.1f}{large[name]:12.1f}{large[name] / milliseconds:9.2f}")


@dataclass
class Bench:
    """The stores, and what else the services need."""

    stores: StoreSet
    folder: Path
    http: aiohttp.ClientSession
    user_service: str

    @asynccontextmanager
    async def service(self, name: str, *, workers: int) -> AsyncIterator[Service]:
        """Run the service on a database of this name."""
        url = SecretStr(self.stores.mongo_url(name))
        client = mongo.create_client(url, application="bench")
        await migrate(mongo.database(client))
        environment = {
            "SERVICE_NAME": "analytics",
            "MONGO_URL": url.get_secret_value(),
            "VALKEY_URL": self.stores.valkey_url(),
            "SERVICE_KEYS_DIR": str(self.folder / "keys" / "analytics"),
            "PEER_URLS": json.dumps({"user": [self.user_service]}),
            "FINGERPRINT_SECRET": "b" * 32,
            "USER_RATE": "0",
            "WEB_CONCURRENCY": str(workers),
        }
        async with _gunicorn(environment, self.folder / f"{name}.log") as address:
            await _until_ready(self.http, address)
            yield Service(self.http, address, mongo.database(client))
        await mongo.close(client)


@asynccontextmanager
async def running_bench(folder: Path) -> AsyncIterator[Bench]:
    """Start the stores, and sign in."""
    make_keyrings(folder / "keys", {"analytics": ["user"], "user": ["analytics"]})
    issuer = TestIssuer()
    # It answers unsealed, so statistics come without the number of users, at the same cost each time.
    user_service = WireServer(responding(reply(200, json.dumps(issuer.jwks()).encode())))
    headers = {**issuer.headers(USERS[0]), "Content-Type": "application/json"}
    async with (
        running_stores(folder / "stores", engines=("mongo", "valkey")) as stores,
        user_service,
        aiohttp.ClientSession(headers=headers) as http,
    ):
        yield Bench(stores, folder, http, user_service.url)


@asynccontextmanager
async def _gunicorn(environment: dict[str, str], log: Path) -> AsyncIterator[str]:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "-c", str(GUNICORN), "-b", f"127.0.0.1:{port}"]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            "analytics_service.app:create_app()",
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            await process.wait()


async def _until_ready(http: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                async with http.get(f"{url}/ready") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.1)


async def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="the large number of events")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of ingest")
    options: Any = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        async with running_bench(Path(folder)) as bench:
            async with bench.service("ingest", workers=WORKERS) as service:
                await ingest(service, options.rounds)
            async with bench.service("few", workers=1) as few, bench.service("many", workers=1) as many:
                await statistics_at_sizes(few, many, options.events)


if __name__ == "__main__":
    asyncio.run(main())
