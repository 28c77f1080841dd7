"""Measure what sealing costs: CPU per message, and a server's CPU per sealed request compared with a plain one.

    .venv/bin/python load/bench_sealing.py [--quick]

All run in this process. Nonces are kept in memory, because Valkey would cost every cipher the same.
A minute; differences below 15 % are ties.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.types import Message, Scope

from benchlib import Run, Sample, Subject, main, repeated
from servicekit.sealing.ciphers import CipherName, Key
from servicekit.sealing.client import MessageSealer
from servicekit.sealing.envelope import MessageBinding, new_nonce, open_request, seal_request
from servicekit.sealing.middleware import SealedReceiver
from servicekit.sealing.replay import ReplayGuard
from servicekit.sealing.route_policy import install_policies, optional
from servicekit.testing.sealed import MemoryNonces, make_keyrings

CIPHERS: tuple[CipherName, ...] = get_args(CipherName)
SIZES = {"100 B": 100, "1 KB": 1024, "16 KB": 16 * 1024, "256 KB": 256 * 1024}
PATH = "/api/v1/things"
MESSAGE_SECONDS = 0.05
BATCH = 100

Request = tuple[Scope, bytes]


class Thing(BaseModel):
    """About 1 KB of JSON."""

    name: str
    text: str


BODY = Thing(name="thing", text="x" * 980).model_dump_json().encode()


async def messages(run: Run) -> None:
    """Seal and open messages of several sizes."""
    key = Key("bench", bytes(range(32)))
    binding = MessageBinding("user", "analytics", "POST", PATH.encode())
    headers = [(b"content-type", b"application/json")]

    def once(cipher: CipherName, body: bytes) -> Callable[[], None]:
        def work() -> None:
            now = time.time()
            wire = seal_request(binding, key, cipher, nonce=new_nonce(), headers=headers, body=body, now=now)
            open_request(wire, binding, lambda _: key, now=now)

        return work

    for size, number in SIZES.items():
        kinds = {cipher: repeated(cipher, once(cipher, bytes(number))) for cipher in CIPHERS}
        await run.compare(list(kinds.values()), group=f"seal and open {size}", seconds=MESSAGE_SECONDS)
        run.ratio(f"Fernet against AES-256-GCM, {size}", "cpu", kinds["fernet"], kinds["aes-256-gcm"])


async def requests(run: Run, folder: Path) -> None:
    """Serve a POST of 1 KB with a response of 1 KB."""
    rings = make_keyrings(folder, {"user": ["analytics"]})
    apps = {
        cipher: _application(
            Middleware(
                SealedReceiver,
                service="analytics",
                keyring=rings["analytics"],
                cipher=cipher,
                replays=ReplayGuard(MemoryNonces()),
            )
        )
        for cipher in CIPHERS
    }
    sealers = {cipher: MessageSealer("user", rings["user"], cipher) for cipher in CIPHERS}
    plain = _served("plain, no receiver", _application(), _plain)
    kinds = {
        "plain": _served("plain", apps["fernet"], _plain),
        **{f"sealed, {cipher}": _served(cipher, apps[cipher], _sealed_by(sealers[cipher])) for cipher in CIPHERS},
    }
    await run.compare([plain, *kinds.values()], group="POST of 1 KB")
    for name, subject in kinds.items():
        run.ratio(f"request: {name}", "cpu", subject, plain)


def _served(name: str, app: FastAPI, prepare: Callable[[], Request]) -> Subject:
    async def run(seconds: float) -> Sample:
        count, began, cpu = 0, time.perf_counter(), 0.0
        while time.perf_counter() - began < seconds:
            # Sealing is the caller's cost, so the requests are prepared before the clock starts.
            prepared = [prepare() for _ in range(BATCH)]
            started = time.process_time()
            for scope, body in prepared:
                await _serve(app, scope, body)
            cpu += time.process_time() - started
            count += BATCH
        return Sample(count, time.perf_counter() - began, cpu=cpu)

    return Subject(name, run)


def _application(*middleware: Middleware) -> FastAPI:
    app = FastAPI(middleware=middleware)

    @app.post(PATH, dependencies=[optional("user")])
    async def echo(thing: Thing) -> Thing:
        return thing

    install_policies(app)
    return app


def _plain() -> Request:
    return _scope({"content-type": "application/json"}, BODY), BODY


def _sealed_by(sealer: MessageSealer) -> Callable[[], Request]:
    def prepare() -> Request:
        request = sealer.seal_request("analytics", "POST", PATH, {"content-type": "application/json"}, BODY)
        return _scope(request.headers, request.body), request.body

    return prepare


def _scope(headers: Mapping[str, str], body: bytes) -> Scope:
    common = {"host": "127.0.0.1", "accept": "*/*", "user-agent": "bench", "content-length": str(len(body))}
    return {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in {**common, **headers}.items()],
    }


async def _serve(app: Callable[[Scope, Any, Any], Awaitable[None]], scope: Scope, body: bytes) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise RuntimeError(f"the server answered {message['status']}")

    await app(scope, receive, send)


async def measure(run: Run) -> None:
    await messages(run)
    await requests(run, run.folder)


if __name__ == "__main__":
    main(measure, __doc__, rounds=15, seconds=0.3, quick=(3, 0.2), on_uvloop=True)
