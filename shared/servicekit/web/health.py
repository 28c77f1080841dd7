"""The probes of every service.

`/health` touches no store, so a stuck store never gets a process killed. `/ready` asks the service's own stores and
looks at the machine. Peers do not count: otherwise one unavailable service would make all others unready.
"""

import asyncio
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

CHECK_SECONDS = 2.0
FULL_PERCENT = 95.0


@dataclass(frozen=True, slots=True)
class Check:
    """A store to ask. The service is not ready without a required store, and degraded without an optional one."""

    ping: Callable[[], Awaitable[Any]]
    required: bool = True


class NotReady(ServiceUnavailable):
    detail = "The service is not ready."


async def _is_up(name: str, check: Check) -> bool:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check.ping()
    except Exception as error:  # Any exception of the driver means that the store is unavailable.
        logger.warning("readiness: {} does not respond: {}", name, type(error).__name__)
        return False
    return True


def _resources() -> dict[str, float]:
    return {
        "cpu_percent": psutil.cpu_percent(interval=None),
        "memory_percent": psutil.virtual_memory().percent,
        "disk_percent": psutil.disk_usage("/").percent,
    }


def health_router(service: str, checks: Mapping[str, Check]) -> APIRouter:
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
        resources, up = await asyncio.gather(
            asyncio.to_thread(_resources),
            asyncio.gather(*(_is_up(name, check) for name, check in checks.items())),
        )
        states = dict(zip(checks, up, strict=True))
        reasons = [f"{name} does not answer" for name, up in states.items() if not up and checks[name].required]
        reasons += [
            f"{name.removesuffix('_percent')} is {resources[name]:.0f} % used"
            for name in ("disk_percent", "memory_percent")
            if resources[name] > FULL_PERCENT
        ]
        details: dict[str, Any] = {
            "checks": {name: "up" if up else "down" for name, up in states.items()},
            "resources": resources,
        }
        if reasons:
            raise NotReady(service=service, reasons=reasons, **details)
        return {"status": "ready" if all(states.values()) else "degraded", "service": service, **details}

    @router.get("/metrics", response_class=Response, include_in_schema=False)
    async def prometheus() -> Response:
        return Response(await asyncio.to_thread(metrics.render), media_type=metrics.CONTENT_TYPE)

    return router
