"""Measure ingest against raw inserts, and statistics at 10⁴ and 10⁶ events.

    .venv/bin/python load/bench_analytics.py [--quick] [--events 1000000]

It starts its own MongoDB, Valkey and service, under gunicorn as in production; requests come over HTTP. Raw inserts are
acknowledged by a majority, too. They go into a bare collection, and into one with the indexes of the events. Four are
in flight, and `requests/s` are events/s. Statistics alternate between a service with few events and one with many. A
million events take three minutes, mostly to load them; differences below 15 % are ties.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from pymongo.asynchronous.database import AsyncDatabase
from uuid_utils.compat import uuid7

from analytics_service.check import find_differences
from analytics_service.database import migrate
from analytics_service.events import store as events
from analytics_service.events.rules import RESERVED_EVENT_TYPES
from analytics_service.reconciliation.rebuilding import Rebuild
from analytics_service.rollups.event_types import EventTypes
from benchlib import Run, Sample, Subject, at_least, calls, http_request, main
from benchlib.servers import Server, gunicorn
from local_platform.stores import StoreSet, running_stores
from servicekit.storage import mongo
from servicekit.storage.mongo import Document
from servicekit.testing.sealed import make_keyrings
from servicekit.testing.tokens import TestIssuer

API: Final = "/api/v1/analytics"
WORKERS: Final = 2
IN_FLIGHT: Final = 4
SMALL: Final = 10_000
TYPES: Final = tuple(f"bench.type-{number}" for number in range(5))
USERS: Final = tuple(uuid7() for _ in range(1_000))
LOAD_BATCH: Final = 5_000
# Events of a batch, and the batches of raw inserts in one slice.
BATCHES: Final = {1: 200, 100: 40, 1_000: 12}
# Different requests, and the time between them.
REQUESTS: Final = 200
STEP: Final = timedelta(milliseconds=10)
READ_SECONDS: Final = 0.4


@dataclass
class Service:
    """A running service, its database, and the header of a signed-in client."""

    server: Server
    database: AsyncDatabase[Document]
    headers: Mapping[str, str]


def body_of(size: int, occurred_at: datetime) -> bytes:
    """Return a batch as clients send it."""
    time = occurred_at.isoformat()
    batch = [
        {"type": TYPES[index % len(TYPES)], "occurred_at": time, "properties": {"page": "/home", "milliseconds": index}}
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


def inserts(name: str, collection: Any, size: int, number: int) -> Subject:
    """Return a subject that inserts batches, which are prepared before the clock starts."""

    async def run(_seconds: float) -> Sample:
        prepared = [documents_of(size) for _ in range(number)]
        batches = iter(prepared)

        async def insert() -> None:
            for batch in batches:
                await collection.insert_many(batch)

        began = time.perf_counter()
        await asyncio.gather(*(insert() for _ in range(IN_FLIGHT)))
        return Sample(size * number, time.perf_counter() - began)

    return Subject(name, run)


async def ingest(run: Run, service: Service) -> None:
    """Compare batches of the service with raw inserts of the same size."""
    database = service.database
    await database["raw_indexed"].create_indexes(events.INDEXES)
    for size, number in BATCHES.items():
        # Times rise from batch to batch, as they do in the raw inserts. Indexes take equal ones at a higher cost.
        now = datetime.now(UTC)
        requests = [
            http_request("POST", f"{API}/events", service.headers, body_of(size, now + index * STEP))
            for index in range(REQUESTS)
        ]
        raw = inserts("raw inserts", database["raw"], size, number)
        indexed = inserts("raw inserts, indexed", database["raw_indexed"], size, number)
        own = run.http(
            "service",
            service.server.url,
            requests,
            service.server.processes,
            connections=IN_FLIGHT,
            statuses=[202],
            weight=size,
        )
        await run.compare([raw, indexed, own], group=f"batches of {size:,}")
        run.ratio(f"ingest, batches of {size:,}", "rate", own, raw, at_least(0.5) if size == 100 else None)
        run.ratio(f"ingest, batches of {size:,}, indexed", "rate", own, indexed)


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


def _series(interval: str, length: timedelta) -> str:
    # Both ends are full minutes, hours or days; otherwise the series would have one point more.
    end = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    if interval != "minute":
        end = end.replace(hour=0, minute=0) + timedelta(days=1)
    return f"stats/series?interval={interval}&since={(end - length):%Y-%m-%dT%H:%M:%SZ}&until={end:%Y-%m-%dT%H:%M:%SZ}"


async def statistics_at_sizes(run: Run, few: Service, many: Service, number: int) -> None:
    """Compare statistics over few events with statistics over many."""
    for service, size in ((few, SMALL), (many, number)):
        run.progress(f"writing {size:,} events")
        await load(service.database, size)
    paths = {
        "totals": "stats",
        "1,440 minutes, all types": _series("minute", timedelta(minutes=1_440)),
        "720 hours, all types": _series("hour", timedelta(hours=720)),
        "720 hours, one type": _series("hour", timedelta(hours=720)) + f"&type={TYPES[0]}",
        "30 days, all types": _series("day", timedelta(days=30)),
    }
    for name, path in paths.items():
        small, large = (
            run.http(
                f"{size:,} events",
                service.server.url,
                http_request("GET", f"{API}/{path}", service.headers),
                service.server.processes,
                connections=1,
            )
            for service, size in ((few, SMALL), (many, number))
        )
        await run.compare([small, large], group=f"statistics, {name}", seconds=READ_SECONDS)
        run.ratio(f"statistics at {number:,} events: {name}", "p50", large, small)
    counted = [
        calls(f"{size:,} events", partial(by_aggregation, service.database), 1)
        for service, size in ((few, SMALL), (many, number))
    ]
    await run.compare(counted, group="totals by aggregation", seconds=READ_SECONDS)
    run.ratio(f"totals by aggregation at {number:,} events", "p50", counted[1], counted[0])


@asynccontextmanager
async def running(
    stores: StoreSet, folder: Path, issuer: TestIssuer, user: str, name: str, *, workers: int
) -> AsyncIterator[Service]:
    """Run the service on a database of this name."""
    url = SecretStr(stores.mongo_url(name))
    client = mongo.create_client(url, application="bench")
    await migrate(mongo.database(client))
    environment = {
        "SERVICE_NAME": "analytics",
        "MONGO_URL": url.get_secret_value(),
        "VALKEY_URL": stores.valkey_url(),
        "SERVICE_KEYS_DIR": str(folder / "keys" / "analytics"),
        "PEER_URLS": json.dumps({"user": [user]}),
        "FINGERPRINT_SECRET": "b" * 32,
        "USER_RATE": "0",
    }
    headers = {**issuer.headers(USERS[0]), "Content-Type": "application/json"}
    application = "analytics_service.app:create_app()"
    async with gunicorn(application, folder, environment, workers=workers, probe="/ready") as server:
        yield Service(server, mongo.database(client), headers)
    await mongo.close(client)


async def measure(run: Run) -> None:
    folder, issuer = run.folder, TestIssuer()
    make_keyrings(folder / "keys", {"analytics": ["user"], "user": ["analytics"]})
    number = run.options.events or (100_000 if run.quick else 1_000_000)
    async with (
        running_stores(folder / "stores", engines=("mongo", "valkey")) as stores,
        # It answers unsealed, so statistics come without the number of users, at the same cost each time.
        issuer.publishing() as user,
    ):
        service = partial(running, stores, folder, issuer, user)
        async with service("ingest", workers=WORKERS) as own:
            await ingest(run, own)
        async with service("few", workers=1) as few, service("many", workers=1) as many:
            await statistics_at_sizes(run, few, many, number)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, help="the large number of events (default 1000000)")


if __name__ == "__main__":
    main(measure, __doc__, rounds=5, quick=(3, 0.6), add_options=add_options)
