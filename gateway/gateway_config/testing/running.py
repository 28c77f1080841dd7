"""NGINX as a process of the test, on a rendered directory."""

import asyncio
import json
import os
import signal
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil

from gateway_config.commands import start_command
from gateway_config.pools import Canaries, Servers
from gateway_config.testing.client import Response, exchange

# Patience for a busy machine, not a claim.
READY_SECONDS = 60.0


class Render(Protocol):
    """Writes a gateway's configuration into its directory."""

    def __call__(self, servers: Servers, canaries: Canaries | None = None) -> None:
        """Write it for these servers and canaries."""


class RunningGateway:
    """A gateway that listens on `port` of 127.0.0.1 between `start` and `stop`.

    `rerender` writes its configuration for other servers into `target`. `token` is a valid access token.
    """

    def __init__(self, target: Path, port: int, rerender: Render, token: str) -> None:
        self.target = target
        self.port = port
        self.rerender = rerender
        self.token = token
        self._process: asyncio.subprocess.Process | None = None

    async def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
    ) -> Response:
        """Send one request over a new connection from this client address; `path` is sent unchanged.

        A request that may change something has a valid token unless the test sends another `Authorization`.
        """
        pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        names = {name.lower() for name, _ in pairs}
        if "host" not in names:
            pairs.insert(0, ("Host", "gateway.test"))
        if body and not names & {"content-length", "transfer-encoding"}:
            pairs.append(("Content-Length", str(len(body))))
        if token is None and method not in ("GET", "HEAD", "OPTIONS") and "authorization" not in names:
            token = self.token
        if token is not None:
            pairs.append(("Authorization", f"Bearer {token}"))
        head = "".join(f"{name}: {value}\r\n" for name, value in [*pairs, ("Connection", "close")])
        data = f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
        return await exchange(self.port, data, tls=tls, address=address)

    async def raw(self, data: bytes) -> Response:
        """Send these bytes."""
        return await exchange(self.port, data)

    async def get(self, path: str, **options: Any) -> Response:
        """Send a GET with the options of `send`."""
        return await self.send("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Response:
        """Send a POST with the options of `send`."""
        return await self.send("POST", path, **options)

    async def log_line(self, request_id: str) -> dict[str, Any]:
        """Return the access line of a request, which NGINX writes after the response."""
        async with asyncio.timeout(READY_SECONDS):
            while True:
                written, _, _incomplete = (self.target / "access.log").read_text().rpartition("\n")
                for line in written.splitlines():
                    entry: dict[str, Any] = json.loads(line)
                    if entry["request_id"] == request_id:
                        return entry
                await asyncio.sleep(0.01)

    async def wait_for_keys(self) -> None:
        """Wait until an invalid token is refused, which takes public keys."""
        async with asyncio.timeout(READY_SECONDS):
            while (await self.get("/api/v1/users/profile", token="a.b.c")).status != 401:
                await asyncio.sleep(0.01)

    async def reload(self, servers: Servers | None = None, canaries: Canaries | None = None) -> None:
        """Reload, with other servers if they are given; return when workers of the new configuration run."""
        if servers is not None:
            self.rerender(servers, canaries)
        assert self._process is not None
        before = self._workers()
        self._process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(READY_SECONDS):
            while not self._workers() - before:
                await asyncio.sleep(0.01)

    def _workers(self) -> set[int]:
        assert self._process is not None
        return {child.pid for child in psutil.Process(self._process.pid).children()}

    async def start(self, nginx: str) -> None:
        """Start this NGINX binary; return when it listens."""
        # It gets a process group of its own, because a killed master leaves its workers behind.
        with (self.target / "error.log").open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *start_command(nginx, self.target), stderr=errors, start_new_session=True
            )
        async with asyncio.timeout(READY_SECONDS):
            while not await self.listens():
                assert self._process.returncode is None, self.errors()
                await asyncio.sleep(0.01)

    async def finish(self) -> None:
        """Stop gracefully: refuse new connections and answer the requests in flight."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        async with asyncio.timeout(READY_SECONDS):
            await self._process.wait()

    async def stop(self) -> None:
        """Stop at once, with all workers."""
        if self._process is None or self._process.returncode is not None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGTERM)
            async with asyncio.timeout(READY_SECONDS):
                await self._process.wait()
        except TimeoutError:
            os.killpg(self._process.pid, signal.SIGKILL)

    def errors(self) -> str:
        """Return what NGINX wrote to stderr."""
        return (self.target / "error.log").read_text()

    async def listens(self) -> bool:
        """Whether it accepts connections."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True
