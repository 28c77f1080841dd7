"""The composition root of the console."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from console_service.settings import Settings
from servicekit.kit import ServiceKit


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application of the service. It connects to nothing before its lifespan begins."""
    kit = ServiceKit(settings or Settings())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with kit.running():
            yield

    return kit.build(title="Console", lifespan=lifespan, routers=[], checks={}, is_unavailable=lambda _error: False)
