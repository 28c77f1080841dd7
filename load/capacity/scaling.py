"""Throughput over 1, 2 and 4 replicas, and over 10³, 10⁵ and 10⁶ rows, at saturation by a cheap client."""

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp

from benchlib.client import UNIQUE, Client, Load, http_request
from capacity import rows
from capacity.cpu import CpuMeter
from capacity.reports import summary
from capacity.target import Target, started

API = "/api/v1"
CONNECTIONS = 32
WARM_UP_SECONDS = 1.0
SAMPLES = 100
# The requests of one kind, and the status of their responses.
Job = tuple[Sequence[bytes], int]


@dataclass(frozen=True)
class Owner:
    """The account whose notes and events are counted. It is kept beside the data, for the next run on them."""

    user_id: UUID
    username: str
    token: str

    @classmethod
    async def sign_in(cls, target: Target) -> "Owner":
        """Log in as the owner of the data directory, who registers on the first run."""
        file = target.data_dir / "load-owner.json"
        if not file.exists():
            name = f"load-{secrets.token_hex(8)}"
            account = {"username": name, "email": f"{name}@mail.dev", "password": secrets.token_urlsafe(20)}
            created = await _post(target, "/users/register", account, 201)
            file.touch(mode=0o600)
            file.write_text(json.dumps({**account, "id": created["id"]}))
        account = json.loads(file.read_text())
        credentials = {"username_or_email": account["username"], "password": account["password"]}
        tokens = await _post(target, "/users/login", credentials, 200)
        return cls(UUID(account["id"]), account["username"], tokens["access_token"])


async def _post(target: Target, path: str, body: Mapping[str, Any], status: int, token: str | None = None) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{target.url}{API}{path}", json=body) as response,
    ):
        if response.status != status:
            raise RuntimeError(f"{path}: {response.status} {await response.text()}")
        return await response.json()


async def _get(target: Target, path: str, token: str) -> Any:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        session.get(f"{target.url}{API}{path}") as response,
    ):
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {await response.text()}")
        return await response.json()


async def jobs(target: Target, owner: Owner, *, searches: bool) -> dict[str, Job]:
    """Return what is measured: the requests of each kind, and the status of their responses."""
    while len(page := (await _get(target, f"/notes?limit={SAMPLES}", owner.token))["items"]) < min(SAMPLES, 20):
        note = {"title": "a note", "body": f"{rows.COMMON} {'what was written ' * 8}", "tags": ["load"]}
        await _post(target, "/notes", note, 201, owner.token)
    headers = {"Authorization": f"Bearer {owner.token}"}

    def get(*paths: str) -> Job:
        return [http_request("GET", API + path, headers) for path in paths], 200

    def post(path: str, body: object, status: int) -> Job:
        fields = {**headers, "Content-Type": "application/json", "Idempotency-Key": UNIQUE.decode()}
        return [http_request("POST", API + path, fields, json.dumps(body).encode())], status

    note = {"title": "a note", "body": f"{rows.COMMON} {'what was written ' * 8}", "tags": ["load"]}
    return {
        "read a note": get(*(f"/notes/{item['id']}" for item in page)),
        "list 20 notes": get("/notes?limit=20"),
        **(
            {
                "notes with a common word": get(f"/notes?limit=20&q={rows.COMMON}"),
                "notes with a rare word": get(f"/notes?limit=20&q={rows.RARE}"),
                "notes of a tag": get(f"/notes?limit=20&tag={rows.TAGS[3]}"),
                "list 20 events": get("/analytics/events?limit=20"),
            }
            if searches
            else {}
        ),
        "read the profile": get("/users/profile"),
        "statistics": get("/analytics/stats"),
        **({"series of 720 hours": get("/analytics/stats/series?interval=hour")} if searches else {}),
        "create a note": post("/notes", note, 201),
        "record an event": post("/analytics/events", {"type": rows.EVENT_TYPES[0]}, 202),
    }


async def measure(target: Target, client: Client, job: Job, seconds: float) -> dict[str, Any]:
    """Saturate the platform with one kind of request; return throughput, latencies and CPU."""
    requests, status = job
    with CpuMeter(target.pids()) as meter:
        # In a thread, because the launcher of the platform runs in this loop.
        found = await asyncio.to_thread(client.send, Load(target.url, requests, CONNECTIONS), seconds)
    unexpected = {str(other): count for other, count in found.statuses.items() if other != status}
    return {
        "rate": round(found.statuses[status] / found.seconds, 1),
        "unexpected": unexpected | ({"lost": found.lost} if found.lost else {}),
        "latency": summary([latency * 1000 for latency in found.latencies]),
        "client_share": round(found.cpu / found.seconds, 3),
        "platform_seconds": meter.result["platform_seconds"],
        "seconds": round(found.seconds, 2),
    }


async def measure_all(target: Target, owner: Owner, seconds: float, *, searches: bool) -> dict[str, Any]:
    """Measure every kind of request, one after the other."""
    results = {}
    for name, job in (await jobs(target, owner, searches=searches)).items():
        with Client() as client:
            await measure(target, client, job, min(WARM_UP_SECONDS, seconds))
            results[name] = await measure(target, client, job, seconds)
        print(
            f"    {name:28}{results[name]['rate']:>10,.0f}/s   p95 {results[name]['latency'].get('p(95)', 0):7.1f} ms",
            flush=True,
        )
    return results


async def over_replicas(data_dir: Path, counts: Iterable[int], seconds: float) -> AsyncIterator[dict[str, Any]]:
    """Measure with each number of replicas, on the same data."""
    for count in counts:
        async with started(data_dir, replicas=count) as target:
            print(f"  {count} {'replica' if count == 1 else 'replicas'} of each service", flush=True)
            results = await measure_all(target, await Owner.sign_in(target), seconds, searches=False)
        yield {"replicas": count, "results": results}


async def over_rows(data_dir: Path, sizes: Iterable[int], seconds: float) -> AsyncIterator[dict[str, Any]]:
    """Measure at each number of rows; the data of a size is that of the size before, and more."""
    for size in sorted(sizes):
        async with started(data_dir) as target:
            assert target.platform is not None
            owner, stores = await Owner.sign_in(target), target.platform.stores
            await rows.add_accounts(stores, size, _progress)
            await rows.add_events(stores, owner.user_id, size, _progress)
            await rows.add_notes(stores, owner.user_id, size, _progress)
            print(f"  {size:,} notes, events and accounts", flush=True)
            # Filling may outlast the token.
            results = await measure_all(target, await Owner.sign_in(target), seconds, searches=True)
        yield {"rows": size, "results": results}


def _progress(text: str) -> None:
    if sys.stdout.isatty():
        print(f"\r    {text:60}", end="\r", flush=True)
