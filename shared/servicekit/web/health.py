"""The probes of every service.

`/health` touches no store, so a stuck store never gets a process killed. `/ready` asks the service's own stores and
looks at the machine. Peers do not count: otherwise one unavailable service would make all others unready.

A store that serves reads but not all writes, such as one whose disk is full, makes the service degraded: as long as
`/ready` responds with 200, reads go on.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
from fastapi import APIRouter
from loguru import logger
from starlette.responses import Response

from servicekit.core.errors import ServiceUnavailable
from servicekit.observability import metrics
from servicekit.observability.metric_files import WRITE_SECONDS

CHECK_SECONDS = 2.0
# For how long a request that failed because of a store makes the service degraded.
FAILURE_SECONDS = 15.0
FULL_PERCENT = 95.0
# What a `ping` returns if its part is switched off by the settings, which is no trouble.
OFF = "off"


@dataclass(frozen=True, slots=True)
class Check:
    """A store to ask. The service is not ready without a required store, and degraded without an optional one.

    `ping` raises any exception if the store is down, and returns a string to say what else is wrong with it.
    """

    ping: Callable[[], Awaitable[Any]]
    required: bool = True


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


async def _state(name: str, check: Check) -> tuple[str, str]:
    """Return `up`, `off`, `degraded` or `down`, and the reason."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            trouble = await check.ping()
    except Exception as error:  # Any exception of the driver means that the store is unavailable.
        logger.warning("readiness: {} does not respond: {}", name, type(error).__name__)
        return "down", f"{name} does not answer"
    if trouble == OFF:
        return OFF, ""
    return ("degraded", f"{name} {trouble}") if isinstance(trouble, str) else ("up", "")


def _resources() -> dict[str, float]:
    return {
        "cpu_percent": psutil.cpu_percent(interval=None),
        "memory_percent": psutil.virtual_memory().percent,
        "disk_percent": psutil.disk_usage("/").percent,
    }


def health_router(service: str, checks: Mapping[str, Check], failures: StoreFailures) -> APIRouter:
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
        resources, found = await asyncio.gather(
            asyncio.to_thread(_resources),
            asyncio.gather(*(_state(name, check) for name, check in checks.items())),
        )
        states = dict(zip(checks, found, strict=True))
        reasons = [reason for name, (state, reason) in states.items() if state == "down" and checks[name].required]
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
    async def prometheus() -> Response:
        # Every worker has written by then what it has counted until now.
        await asyncio.sleep(WRITE_SECONDS)
        return Response(await asyncio.to_thread(metrics.render), media_type=metrics.CONTENT_TYPE)

    return router
