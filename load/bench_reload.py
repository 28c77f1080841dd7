"""Count the requests that reloads and rolling restarts lose: stock uvicorn-worker against the platform's worker.

    .venv/bin/python load/bench_reload.py [--quick]

Both workers run under the same load: 2 worker processes, 16 kept-alive clients, and no request is sent twice. `direct`
sends HUP to one replica. `NGINX` does the same behind an upstream like the gateway's. `rolling` stops and starts two
replicas behind NGINX, one after the other. A request is lost if it gets no response, or another status than 200.
"""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchlib import Run, at_most, main
from benchlib.report import ROOT
from benchlib.servers import free_port, nginx
from servicekit.testing.kept_alive import KeptAliveClients

WORKERS = {"uvicorn-worker": "uvicorn_worker.UvicornWorker", "servicekit": "servicekit.server.worker.GracefulWorker"}
START_SECONDS = 20.0
REQUESTS_BETWEEN = 300

APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await asyncio.sleep(0.002)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""


@dataclass
class Replica:
    """One gunicorn master with two workers of the given class."""

    folder: Path
    worker_class: str
    port: int
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        (self.folder / "tiny.py").write_text(APP)
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gunicorn", "--config", str(ROOT / "deploy" / "gunicorn.conf.py")),
            *("--worker-class", self.worker_class, "--bind", f"127.0.0.1:{self.port}", "tiny:app"),
            cwd=self.folder,
            env={**os.environ, "WEB_CONCURRENCY": "2", "LOG_LEVEL": "ERROR"},
            stdout=asyncio.subprocess.DEVNULL,
        )
        await wait_until_accepting(self.port)
        await self._wait_for_two_workers(other_than=set())

    async def reload(self) -> None:
        assert self.process is not None
        old = self._workers()
        self.process.send_signal(signal.SIGHUP)
        await self._wait_for_two_workers(other_than=old)

    async def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        await self.process.wait()

    async def _wait_for_two_workers(self, *, other_than: set[int]) -> None:
        async with asyncio.timeout(START_SECONDS):
            while True:
                workers = self._workers()
                if len(workers) == 2 and not workers & other_than:
                    return
                await asyncio.sleep(0.02)

    def _workers(self) -> set[int]:
        assert self.process is not None
        return {child.pid for child in psutil.Process(self.process.pid).children()}


async def wait_until_accepting(port: int) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


def upstream(ports: Sequence[int]) -> str:
    """Return an upstream like the gateway's. A POST passes to the next server only if none of it was sent."""
    servers = "".join(f"server 127.0.0.1:{each} fail_timeout=1s;" for each in ports)
    return f"upstream replicas {{ least_conn; {servers} keepalive 16; }}"


async def count_lost(worker: str, mode: str) -> tuple[int, int]:
    """Return the numbers of sent and of lost requests."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        replicas = [Replica(folder, WORKERS[worker], free_port()) for _ in range(2 if mode == "rolling" else 1)]
        for replica in replicas:
            await replica.start()
            stack.push_async_callback(replica.stop)
        port: int | None = replicas[0].port
        if mode != "direct":
            proxied = "location / { proxy_pass http://replicas; }"
            server = nginx(folder / "nginx", proxied, upstream([replica.port for replica in replicas]))
            port = urlsplit((await stack.enter_async_context(server)).url).port
        assert port is not None
        async with KeptAliveClients(port) as clients:
            for replica in replicas:
                await clients.more(REQUESTS_BETWEEN)
                if mode == "rolling":
                    await replica.stop()
                    await clients.more(REQUESTS_BETWEEN)
                    await replica.start()
                else:
                    await replica.reload()
            await clients.more(REQUESTS_BETWEEN)
        return clients.sent, clients.sent - clients.statuses[200]


async def measure(run: Run) -> None:
    for mode in ("direct", "NGINX", "rolling"):
        lost: dict[str, list[float]] = {worker: [] for worker in WORKERS}
        for number in range(run.options.rounds):
            for worker, counts in lost.items():
                sent, missing = await count_lost(worker, mode)
                counts.append(missing)
                run.progress(f"round {number + 1}, {mode}: {worker} lost {missing} of {sent}")
        for worker, counts in lost.items():
            run.result(f"{mode}, {worker}", counts, "requests lost", at_most(0) if worker == "servicekit" else None)


if __name__ == "__main__":
    main(measure, __doc__, rounds=3, quick=(1, 1.0))
