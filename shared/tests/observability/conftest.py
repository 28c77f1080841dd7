"""A collector, and a service with two workers, for the tests of this folder."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from servicekit.testing.collector import TraceCollector
from servicekit.testing.serving import http_client

GUNICORN_CONF = Path(__file__).parents[3] / "deploy" / "gunicorn.conf.py"
# From an environment to a running service: its URL, and the process of its master.
StartWorkers = Callable[[Mapping[str, str]], AbstractAsyncContextManager[tuple[str, int]]]

TINY = """
from contextlib import asynccontextmanager
from fastapi import APIRouter
from servicekit.web.application import build_app
from servicekit.core.settings import ServiceSettings

router = APIRouter()

@router.get("/parcels/{parcel}")
async def read(parcel: int) -> int:
    return parcel

@asynccontextmanager
async def nothing(app):
    yield

def create_app():
    return build_app(ServiceSettings(), title="Tiny", lifespan=nothing, routers=[router], checks={})
"""


@pytest.fixture
async def collector() -> AsyncIterator[TraceCollector]:
    async with TraceCollector() as collector:
        yield collector


@pytest.fixture
def start_workers(tmp_path: Path, new_port: Callable[[], int]) -> StartWorkers:
    """Return what runs a service with two workers under gunicorn while a context is open."""
    (tmp_path / "tiny.py").write_text(TINY)

    @asynccontextmanager
    async def start(environment: Mapping[str, str]) -> AsyncIterator[tuple[str, int]]:
        port = new_port()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gunicorn", "--config", str(GUNICORN_CONF)),
            *("--bind", f"127.0.0.1:{port}", "tiny:create_app()"),
            cwd=tmp_path,
            env={
                **os.environ,
                "WEB_CONCURRENCY": "2",
                "SERVICE_NAME": "tiny",
                "VALKEY_URL": "redis://127.0.0.1:1/0",
                "SERVICE_KEYS_DIR": str(tmp_path),
                "FINGERPRINT_SECRET": "f" * 32,
                **environment,
            },
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()

    return start


async def ask_any_worker(url: str, **headers: str) -> None:
    """Send a request over a new connection, so that any worker may respond, and none before they listen."""
    async with http_client() as client:
        try:
            await client.get(url, headers=headers)
        except httpx2.ConnectError:
            await asyncio.sleep(0.05)
