"""Measure each route: CPU of its service per request, as a multiple of the same service's /health.

    .venv/bin/python load/bench_routes.py [--quick] [--service notes] [--route list]

Requests go to the services of a running platform directly, not through the gateway: one worker, 16 connections. The
services' CPU counts, and neither the stores' nor the client's. Differences below 15 % are ties.
"""

import argparse
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from benchlib import UNIQUE, Aim, Run, at_most, http_request, main
from benchlib.platform import Account, BenchPlatform, bench_platform

NOTES, EVENTS, ASSETS = "/api/v1/notes", "/api/v1/analytics/events", "/api/v1/assets"
FILE_BYTES = 64 * 1024
JSON = {"Content-Type": "application/json"}
HEALTH = http_request("GET", "/health")


@dataclass(frozen=True, slots=True)
class Route:
    """A request to a service, the status of its response, and the aim."""

    service: str
    name: str
    request: bytes
    status: int = 200
    aim: Aim | None = None


async def routes(platform: BenchPlatform, account: Account) -> list[Route]:
    """Return all routes, after writing what they read."""
    note = {"title": "A note of the bench", "body": "word " * 60, "tags": ["bench", "note"]}
    ids = [(await platform.call("POST", NOTES, account, json=note))["id"] for _ in range(20)]
    headers = {"Content-Type": "text/plain", "X-Filename": "bench.txt"}
    asset = await platform.call("POST", ASSETS, account, headers=headers, data=b"x" * FILE_BYTES)
    signed_in, sends = account.headers, {**account.headers, **JSON}
    keyed = {**sends, "Idempotency-Key": UNIQUE.decode()}
    body, batch = json.dumps(note).encode(), json.dumps({"events": [_event()] * 100}).encode()
    single = json.dumps(_event()).encode()
    return [
        Route("user", "key set", http_request("GET", "/.well-known/jwks.json"), aim=at_most(1.5)),
        Route("user", "profile", http_request("GET", "/api/v1/users/profile", signed_in), aim=at_most(4)),
        Route("notes", "read a note", http_request("GET", f"{NOTES}/{ids[0]}", signed_in), aim=at_most(4)),
        Route("notes", "list 20 notes", http_request("GET", f"{NOTES}?limit=20", signed_in), aim=at_most(6)),
        Route("notes", "create a note", http_request("POST", NOTES, sends, body), 201),
        Route("notes", "create a note, with a key", http_request("POST", NOTES, keyed, body), 201),
        Route("analytics", "statistics", http_request("GET", "/api/v1/analytics/stats", signed_in), aim=at_most(6)),
        Route("analytics", "a single event", http_request("POST", EVENTS, sends, single), 202),
        Route("analytics", "a batch of 100 events", http_request("POST", EVENTS, sends, batch), 202),
        Route("assets", "download of 64 KiB", http_request("GET", f"{ASSETS}/{asset['id']}/content", signed_in)),
    ]


def _event() -> dict[str, object]:
    return {"type": "bench.route", "occurred_at": datetime.now(UTC).isoformat(), "properties": {"page": "/home"}}


async def measure(run: Run) -> None:
    async with bench_platform(run.folder) as platform:
        account = await platform.sign_up()
        chosen = [
            route
            for route in await routes(platform, account)
            if run.options.service in (None, route.service) and (run.options.route or "") in route.name
        ]
        services = list(dict.fromkeys(route.service for route in chosen))
        await platform.one_worker(*services)
        for service in services:
            url, processes = platform.url(service), platform.processes(service)
            health = run.http(f"{service} /health", url, HEALTH, processes)
            subjects = {
                route: run.http(route.name, url, route.request, processes, statuses=[route.status])
                for route in chosen
                if route.service == service
            }
            await run.compare([health, *subjects.values()], group=service)
            for route, subject in subjects.items():
                run.ratio(route.name, "cpu", subject, health, route.aim)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--service", choices=["user", "notes", "analytics", "assets"], help="the routes of one service")
    parser.add_argument("--route", help="the routes whose name contains this")


if __name__ == "__main__":
    main(measure, __doc__, rounds=7, seconds=1.5, quick=(3, 0.8), add_options=add_options)
