"""The probes of every service.

`/health` touches no store, so a stuck store never gets a process killed. `/ready` asks the service's own stores and
looks at the machine. Peers do not count: otherwise one unavailable service would make all others unready.

A store that serves reads but not all writes, such as one whose disk is full, makes the service degraded: as long as
`/ready` responds with 200, reads go on.
"""

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from fastapi import APIRouter, Request
from loguru import logger
from prometheus_client import Gauge
from starlette.responses import Response

from opskit.file_lock import AlreadyLockedError, file_lock
from servicekit.core.errors import ServiceUnavailable
from servicekit.core.tasks import background_task
from servicekit.observability import metrics
from servicekit.observability.metric_files import WRITE_SECONDS

CHECK_SECONDS = 2.0
# How often a worker checks the stores for the console, counted from the last check.
WATCH_SECONDS = 2.0
# For how long a request that failed because of a store makes the service degraded.
FAILURE_SECONDS = 15.0
FULL_PERCENT = 95.0
# What a `ping` returns if its part is switched off by the settings, which is no trouble.
OFF = "off"
_DISK_USED = Gauge("service_disk_used_ratio", "Share of the disk that is used.", multiprocess_mode="livemostrecent")


@dataclass(frozen=True, slots=True)
class Check:
    """A store to ask. The service is not ready without a required store, and degraded without an optional one.

    `ping` raises any exception if the store is down, and returns a string to say what else is wrong with it.
    """

    ping: Callable[[], Awaitable[Any]]
    required: bool = True
    # Whether this asks a store, and not a part of the service.
    is_store: bool = True


class StoreFailures:
    """The last request of this process that failed because of a store."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reason = ""
        self._at = -math.inf

    def record(self, reason: str) -> None:
        self._reason, self._at = reason, self._clock()

    def recent(self) -> list[str]:
        """Return what to say about it, while it is recent."""
        return [f"a request failed: {self._reason}"] if self._clock() - self._at < FAILURE_SECONDS else []


class NotReady(ServiceUnavailable):
    detail = "The service is not ready."


class StoreChecks:
    """Runs the checks of a service, and reports as a metric which stores respond."""

    def __init__(self, checks: Mapping[str, Check], *, watched: bool = False) -> None:
        """With `watched`, one worker of a replica runs the checks of stores when nobody asks for `/ready`."""
        self.checks = checks
        self._stores = {name: check for name, check in checks.items() if check.is_store}
        self._watched = watched
        self._reported_at = -math.inf

    async def run(self) -> dict[str, tuple[str, str]]:
        """Return the state and the reason of each check."""
        found = await asyncio.gather(*(_state(name, check) for name, check in self.checks.items()))
        states = dict(zip(self.checks, found, strict=True))
        self._report({name: states[name][0] != "down" for name in self._stores})
        return states

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Keep the metric current while the context is open. Enter it while the stores are open."""
        if not self._watched:
            yield
            return
        async with background_task(self._watch()):
            yield

    async def _watch(self) -> None:
        while True:
            with suppress(AlreadyLockedError, OSError), _lock_of_replica():
                while True:
                    if time.monotonic() - self._reported_at >= WATCH_SECONDS:
                        responding = await asyncio.gather(*(_responds(check) for check in self._stores.values()))
                        self._report(dict(zip(self._stores, responding, strict=True)))
                    await asyncio.sleep(WATCH_SECONDS)
            await asyncio.sleep(WATCH_SECONDS)

    def _report(self, responding: Mapping[str, bool]) -> None:
        self._reported_at = time.monotonic()
        for name, up in responding.items():
            metrics.report_store(name, up=up)


def _lock_of_replica() -> AbstractContextManager[object]:
    """Return the lock that one worker of a replica holds. A process without others needs none."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return file_lock(Path(directory, "store-checks.lock"), wait=False) if directory else nullcontext()


async def _ask(check: Check) -> Any:
    async with asyncio.timeout(CHECK_SECONDS):
        return await check.ping()


async def _responds(check: Check) -> bool:
    try:
        await _ask(check)
    except Exception:  # Any exception of the driver means that the store is unavailable.
        return False
    return True


async def _state(name: str, check: Check) -> tuple[str, str]:
    """Return `up`, `off`, `degraded` or `down`, and the reason."""
    try:
        trouble = await _ask(check)
    except Exception as error:  # Any exception of the driver means that the store is unavailable.
        logger.warning("readiness: {} does not respond: {}", name, type(error).__name__)
        return "down", f"{name} does not answer"
    if trouble == OFF:
        return OFF, ""
    return ("degraded", f"{name} {trouble}") if isinstance(trouble, str) else ("up", "")


def _report_disk() -> None:
    _DISK_USED.set(psutil.disk_usage("/").percent / 100)


def _resources() -> dict[str, float]:
    return {
        "cpu_percent": psutil.cpu_percent(interval=None),
        "memory_percent": psutil.virtual_memory().percent,
        "disk_percent": psutil.disk_usage("/").percent,
    }


def health_router(service: str, stores: StoreChecks, failures: StoreFailures) -> APIRouter:
    """Return `/health`, `/ready` and `/metrics` for a service with these stores."""
    router = APIRouter(tags=["operations"])
    started = time.monotonic()

    @router.get("/health")
    async def health() -> dict[str, Any]:
        """Report that the process is alive."""
        return {"status": "alive", "service": service, "uptime_seconds": round(time.monotonic() - started, 3)}

    @router.get("/ready")
    async def ready() -> dict[str, Any]:
        """Report whether requests can be served now, and if not, why."""
        # statvfs blocks on a dead network file system, so it runs in a thread.
        resources, states = await asyncio.gather(asyncio.to_thread(_resources), stores.run())
        required = {name for name, check in stores.checks.items() if check.required}
        reasons = [reason for name, (state, reason) in states.items() if state == "down" and name in required]
        reasons += [
            f"{name.removesuffix('_percent')} is {resources[name]:.0f} % used"
            for name in ("disk_percent", "memory_percent")
            if resources[name] > FULL_PERCENT
        ]
        details: dict[str, Any] = {
            "checks": {name: state for name, (state, _) in states.items()},
            "resources": resources,
        }
        if reasons:
            raise NotReady(service=service, reasons=reasons, **details)
        if troubles := [reason for state, reason in states.values() if state not in ("up", OFF)] + failures.recent():
            return {"status": "degraded", "service": service, "reasons": troubles, **details}
        return {"status": "ready", "service": service, **details}

    @router.get("/metrics", response_class=Response, include_in_schema=False)
    async def prometheus(request: Request) -> Response:
        await asyncio.to_thread(_report_disk)
        # Every worker has written by then what it has counted until now.
        await asyncio.sleep(WRITE_SECONDS)
        text, content_type = await asyncio.to_thread(metrics.render, request.headers.get("accept", ""))
        return Response(text, media_type=content_type)

    return router
