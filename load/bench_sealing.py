"""Measure what sealing costs: CPU per message, and a server's CPU per sealed request compared with a plain one.

    .venv/bin/python load/bench_sealing.py

All kinds are measured in each of many short rounds, so that other load on the machine affects all of them. The tables
show medians. Nonces are kept in memory: Valkey would cost every cipher the same (about 100 µs with redis-py).
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.types import Message, Scope

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
ROUNDS = 15
ROUND_SECONDS = 0.03
REQUESTS = 200

Request = tuple[Scope, bytes]


class Thing(BaseModel):
    """About 1 KB of JSON."""

    name: str
    text: str


BODY = Thing(name="thing", text="x" * 980).model_dump_json().encode()


def sealing() -> None:
    """Print the cost of sealing and opening one message."""
    key = Key("bench", bytes(range(32)))
    binding = MessageBinding("user", "analytics", "POST", PATH.encode())
    headers = [(b"content-type", b"application/json")]

    def once(cipher: CipherName, body: bytes) -> Callable[[], None]:
        def run() -> None:
            now = time.time()
            wire = seal_request(binding, key, cipher, nonce=new_nonce(), headers=headers, body=body, now=now)
            open_request(wire, binding, lambda _: key, now=now)

        return run

    print("seal + open, µs CPU      " + "".join(f"{size:>10}" for size in SIZES))
    table = {size: _medians({cipher: once(cipher, bytes(n)) for cipher in CIPHERS}) for size, n in SIZES.items()}
    for cipher in CIPHERS:
        print(f"{cipher:<24} " + "".join(f"{table[size][cipher]:>10.1f}" for size in SIZES))
    ratios = [table[size]["fernet"] / table[size]["aes-256-gcm"] for size in SIZES]
    print(f"{'fernet / aes-256-gcm':<24} " + "".join(f"{ratio:>10.1f}" for ratio in ratios))


def _medians(kinds: Mapping[CipherName, Callable[[], None]]) -> dict[str, float]:
    samples: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind, run in kinds.items():
            count, started = 0, time.process_time()
            while (spent := time.process_time() - started) < ROUND_SECONDS:
                run()
                count += 1
            samples[kind].append(spent / count * 1e6)
    return {kind: statistics.median(values) for kind, values in samples.items()}


async def serving() -> None:
    """Print what a POST of 1 KB costs a server, including its response of 1 KB."""
    with tempfile.TemporaryDirectory() as folder:
        rings = make_keyrings(Path(folder), {"user": ["analytics"]})
        bare = _application()
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
        kinds: dict[str, tuple[FastAPI, Callable[[], Request]]] = {
            "plain, no receiver": (bare, _plain),
            "plain": (apps["fernet"], _plain),
            **{f"sealed, {cipher}": (apps[cipher], _sealed_by(sealers[cipher])) for cipher in CIPHERS},
        }
        await _print_requests(kinds)


async def _print_requests(kinds: Mapping[str, tuple[FastAPI, Callable[[], Request]]]) -> None:
    samples: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind, (app, prepare) in kinds.items():
            # Sealing is the caller's cost, so the requests are prepared before the clock starts.
            requests = [prepare() for _ in range(REQUESTS)]
            started = time.process_time()
            for scope, body in requests:
                await _serve(app, scope, body)
            samples[kind].append((time.process_time() - started) / REQUESTS * 1e6)
    plain = statistics.median(samples["plain"])
    print("\nPOST of 1 KB, response of 1 KB µs CPU   of plain")
    for kind, values in samples.items():
        print(f"{kind:<28} {statistics.median(values):>8.1f} {statistics.median(values) / plain:>10.2f}")


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


if __name__ == "__main__":
    sealing()
    asyncio.run(serving())
