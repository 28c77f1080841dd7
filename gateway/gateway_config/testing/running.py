"""NGINX on a rendered directory, as a process of the test's own."""

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
from gateway_config.pools import Candidates, Servers
from gateway_config.testing.client import Answer, exchange

# Patience, not a claim: a busy machine takes its time.
READY_SECONDS = 60.0


class Render(Protocol):
    """Writes a gateway's configuration for other servers, and for the candidates of releases."""

    def __call__(self, servers: Servers, candidates: Candidates | None = None) -> None:
        """Write it into the directory that the gateway runs in."""


class RunningGateway:
    """A gateway that listens on `port` of 127.0.0.1 between `start` and `stop`.

    `rerender` writes its configuration for other servers into `target`.
    """

    def __init__(self, target: Path, port: int, rerender: Render) -> None:
        self.target = target
        self.port = port
        self.rerender = rerender
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
    ) -> Answer:
        """Send one request over a connection of its own; `path` goes out as it is."""
        pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        names = {name.lower() for name, _ in pairs}
        if "host" not in names:
            pairs.insert(0, ("Host", "gateway.test"))
        if body and not names & {"content-length", "transfer-encoding"}:
            pairs.append(("Content-Length", str(len(body))))
        if token is not None:
            pairs.append(("Authorization", f"Bearer {token}"))
        head = "".join(f"{name}: {value}\r\n" for name, value in [*pairs, ("Connection", "close")])
        return await exchange(self.port, f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body, tls)

    async def raw(self, data: bytes) -> Answer:
        """Send these bytes as they are."""
        return await exchange(self.port, data)

    async def get(self, path: str, **options: Any) -> Answer:
        """Send a GET with the options of `send`."""
        return await self.send("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Answer:
        """Send a POST with the options of `send`."""
        return await self.send("POST", path, **options)

    async def log_line(self, request_id: str) -> dict[str, Any]:
        """The access line of a request. The log is written in blocks, up to a second late."""
        async with asyncio.timeout(READY_SECONDS):
            while True:
                written, _, _begun = (self.target / "access.log").read_text().rpartition("\n")
                for line in written.splitlines():
                    entry: dict[str, Any] = json.loads(line)
                    if entry["request_id"] == request_id:
                        return entry
                await asyncio.sleep(0.05)

    async def until_keys_are_known(self) -> None:
        """Return when a token that is none is refused, which the gateway can do as soon as it has keys."""
        async with asyncio.timeout(READY_SECONDS):
            while (await self.get("/api/v1/users/profile", token="a.b.c")).status != 401:
                await asyncio.sleep(0.02)

    async def reload(self, servers: Servers | None = None, candidates: Candidates | None = None) -> None:
        """Reload, with other servers if they are given; return when workers of the new configuration run."""
        if servers is not None:
            self.rerender(servers, candidates)
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
        # A process group of its own: a master that is killed leaves its workers behind.
        with (self.target / "error.log").open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *start_command(nginx, self.target), stderr=errors, start_new_session=True
            )
        async with asyncio.timeout(READY_SECONDS):
            while not await self.listens():
                assert self._process.returncode is None, self.errors()
                await asyncio.sleep(0.01)

    async def finish(self) -> None:
        """Stop as an operator does: no new connections, requests in flight are answered first."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        async with asyncio.timeout(READY_SECONDS):
            await self._process.wait()

    async def stop(self) -> None:
        """Stop at once, workers and all."""
        if self._process is None or self._process.returncode is not None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGTERM)
            async with asyncio.timeout(READY_SECONDS):
                await self._process.wait()
        except TimeoutError:
            os.killpg(self._process.pid, signal.SIGKILL)

    def errors(self) -> str:
        """What NGINX wrote to stderr."""
        return (self.target / "error.log").read_text()

    async def listens(self) -> bool:
        """Whether it accepts connections."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True
