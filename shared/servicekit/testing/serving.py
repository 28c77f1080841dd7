"""Applications as tests reach them: in the test's own process, or on a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import httpx2
import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware

from servicekit.sealing.keyring import Keyring
from servicekit.sealing.middleware import SealedReceiver
from servicekit.sealing.replay import ReplayGuard
from servicekit.testing.sealed import MemoryNonces

# At the end, a request that a test left hanging is cancelled after this time.
GRACE_SECONDS = 5


@asynccontextmanager
async def nothing_to_do(_app: FastAPI) -> AsyncIterator[None]:
    """The lifespan of an application that has nothing to open or to close."""
    yield


def http_client(url: str = "", *, timeout: float = 20, **options: Any) -> httpx2.AsyncClient:
    """Return a client of a server in the test, without TLS; `timeout` is in seconds."""
    # It reads no certificate authorities, which takes longer than most requests.
    return httpx2.AsyncClient(base_url=url, timeout=timeout, trust_env=False, verify=False, **options)


@asynccontextmanager
async def in_process(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """Enter the application's lifespan and yield a client of it. Bodies are buffered: streaming needs `listening`."""
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as http,
    ):
        yield http


@asynccontextmanager
async def listening(app: FastAPI, *, http: Literal["auto", "h11", "httptools"] = "auto") -> AsyncIterator[str]:
    """Enter the application's lifespan and serve it on a free port; yield its URL."""
    async with app.router.lifespan_context(app):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            # Otherwise a body sent after its head waits 40 ms for a delayed acknowledgement. Connections inherit the
            # option; asyncio sets it only for sockets that name their protocol.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            config = uvicorn.Config(
                app, http=http, lifespan="off", log_config=None, timeout_graceful_shutdown=GRACE_SECONDS
            )
            server = _Server(config)
            serving = asyncio.create_task(server.serve([listener]))
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
                await serving


class _Server(uvicorn.Server):
    """Leaves signals, such as that of Ctrl-C, to the test run."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def sealed_app(name: str, keyring: Keyring) -> FastAPI:
    """Return an application without routes that accepts sealed requests as this service.

    Add the routes, then call `install_policies`.
    """
    replays = ReplayGuard(MemoryNonces())
    receiver = Middleware(SealedReceiver, service=name, keyring=keyring, cipher="fernet", replays=replays)
    return FastAPI(middleware=[receiver])
