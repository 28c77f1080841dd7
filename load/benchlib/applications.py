"""Applications that benches run under gunicorn."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import Receive, Scope, Send

from servicekit.auth.access_tokens import CurrentUser
from servicekit.core.settings import ServiceSettings
from servicekit.kit import ServiceKit
from servicekit.sealing.route_policy import optional

TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def parcels() -> APIRouter:
    """Return a route without a token, and one with."""
    router = APIRouter(prefix="/api/v1/parcels")

    @router.get("/{parcel}", dependencies=[optional()])
    async def read(parcel: int) -> dict[str, int]:
        return {"parcel": parcel}

    @router.get("/{parcel}/own")
    async def read_own(parcel: int, user: CurrentUser) -> dict[str, str]:
        return {"parcel": str(parcel), "owner": str(user.id)}

    return router


def bare() -> FastAPI:
    """Return the first route on FastAPI alone."""
    app = FastAPI(telemetry=TELEMETRY)

    @app.get("/api/v1/parcels/{parcel}")
    @app.get("/api/v1/notes")
    async def read(parcel: int = 7) -> dict[str, int]:
        return {"parcel": parcel}

    return app


def whole() -> FastAPI:
    """Return both routes on the kit, as a service has it; the environment holds its settings."""
    kit = ServiceKit(ServiceSettings())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with kit.running():
            yield

    return kit.build(
        title="Bench", lifespan=lifespan, routers=[parcels()], checks={}, is_unavailable=lambda _error: False
    )


async def discarding(scope: Scope, receive: Receive, send: Send) -> None:
    """Read a body, drop it, and respond with 204."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})
