"""Service calls: a client asks one service, which asks another for a message of 1 KB and returns it.

Each service is one process with one worker. The bare pair of services shows what the work itself costs.
"""

import json
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from cryptography.fernet import Fernet

from benchlib import http_request
from local_platform.layout import REPOSITORY
from local_platform.stores import running_stores
from local_platform.supervision.ports import HOST, PortAllocator
from local_platform.supervision.supervisor import Supervisor
from peers import textbook_stack
from peers.dapr import sidecars
from peers.side import Side, Work, parts_of, start
from servicekit.sealing.ciphers import CipherName
from servicekit.testing.sealed import make_keyrings

MESSAGE = json.dumps({"name": "bench", "text": "x" * 980}).encode()
LOAD = Path(__file__).resolve().parents[1]
GUNICORN = REPOSITORY / "deploy" / "gunicorn.conf.py"

Start = Callable[[Path], AbstractAsyncContextManager[Side]]


@asynccontextmanager
async def running_bare(folder: Path) -> AsyncIterator[Side]:
    """Plain FastAPI and aiohttp: no encryption, no repetition, no limits."""
    async with _peers(folder, "bare") as (home, ports, supervisor):
        callee, caller = (f"http://{HOST}:{ports.allocate(name)}" for name in ("callee", "caller"))
        await start(supervisor, "callee", _bare("callee", ports), callee, home)
        await start(supervisor, "caller", _bare("caller", ports), caller, home, environment={"CALLEE_URL": callee})
        yield _side("bare", caller, supervisor)


def running_kit(cipher: CipherName) -> Start:
    """Return what starts services of this platform's kit, whose calls are sealed by `cipher`."""

    @asynccontextmanager
    async def running(folder: Path) -> AsyncIterator[Side]:
        name = f"kit, {cipher}"
        async with (
            _peers(folder, f"kit-{cipher}") as (home, ports, supervisor),
            running_stores(home / "stores", engines=["valkey"]) as stores,
        ):
            make_keyrings(home / "keys", {"caller": ["callee"], "callee": []})
            urls = {service: f"http://{HOST}:{ports.allocate(service)}" for service in ("callee", "caller")}
            for service, url in urls.items():
                environment = {
                    "PYTHONPATH": str(LOAD),
                    "SERVICE_NAME": service,
                    "SERVICE_CIPHER": cipher,
                    "SERVICE_KEYS_DIR": str(home / "keys" / service),
                    "VALKEY_URL": stores.valkey_url(),
                    "FINGERPRINT_SECRET": secrets.token_hex(),
                    "PEER_URLS": json.dumps({"callee": [urls["callee"]]} if service == "caller" else {}),
                    "PROMETHEUS_MULTIPROC_DIR": str(home / f"{service}-metrics"),
                    "WEB_CONCURRENCY": "1",
                }
                command = [sys.executable, "-m", "gunicorn", "--config", str(GUNICORN)]
                command += ["--bind", url.removeprefix("http://"), f"peers.apps.kit:create_{service}()"]
                await start(supervisor, service, command, url, home, environment=environment)
            yield _side(name, urls["caller"], supervisor, stores.supervisor)

    return running


@asynccontextmanager
async def running_textbook(folder: Path) -> AsyncIterator[Side]:
    """httpx, tenacity, BaseHTTPMiddleware and a Fernet for each call. Raises CannotObtain."""
    python = textbook_stack.interpreter()
    async with _peers(folder, "textbook-call") as (home, ports, supervisor):
        urls = {service: f"http://{HOST}:{ports.allocate(service)}" for service in ("callee", "caller")}
        environment = {
            "SERVICE_KEY": Fernet.generate_key().decode(),
            "CALLEE_URL": urls["callee"],
            "RATE_LIMIT_ENABLED": "false",
        }
        for service, url in urls.items():
            command = textbook_stack.gunicorn(python, f"app.{service}:app", ports.allocate(service), workers=1)
            await start(supervisor, service, command, url, home, environment=environment)
        yield _side("textbook", urls["caller"], supervisor)


@asynccontextmanager
async def running_dapr(folder: Path) -> AsyncIterator[Side]:
    """The bare services, each with a sidecar of Dapr; mTLS between the sidecars. Raises CannotObtain."""
    async with _peers(folder, "dapr") as (home, ports, supervisor):
        callee, caller = (f"http://{HOST}:{ports.allocate(name)}" for name in ("callee", "caller"))
        await start(supervisor, "callee", _bare("callee", ports), callee, home)
        invoke = await sidecars(home, ports, supervisor, caller="caller", callee="callee")
        await start(supervisor, "caller", _bare("caller", ports), caller, home, environment={"CALLEE_URL": invoke})
        yield _side("dapr", caller, supervisor)


SIDES: dict[str, Start] = {
    "kit, fernet": running_kit("fernet"),
    "kit, aes-256-gcm": running_kit("aes-256-gcm"),
    "bare": running_bare,
    "textbook": running_textbook,
    "dapr": running_dapr,
}


@asynccontextmanager
async def _peers(folder: Path, name: str) -> AsyncIterator[tuple[Path, PortAllocator, Supervisor]]:
    """Yield a folder, ports and a supervisor of its own, whose processes are stopped at the end."""
    home = folder / name
    home.mkdir()
    supervisor = Supervisor()
    with PortAllocator(home / "ports.json") as ports:
        try:
            yield home, ports, supervisor
        finally:
            await supervisor.stop(supervisor.processes.values())


def _bare(service: str, ports: PortAllocator) -> list[str]:
    return [
        *(sys.executable, "-m", "uvicorn", "--app-dir", str(LOAD), "--no-access-log", "--factory"),
        *("--host", HOST, "--port", str(ports.allocate(service)), f"peers.apps.bare:create_{service}"),
    ]


def _side(name: str, caller: str, *supervisors: Supervisor) -> Side:
    request = http_request("POST", "/call", {"Content-Type": "application/json"}, MESSAGE)

    async def work(_task: str) -> Work:
        return Work(caller, [request], 200)

    return Side(name, work, parts_of(*supervisors))
