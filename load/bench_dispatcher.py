"""Compare the dispatcher with raw aiohttp: CPU of the client for one 1 KB POST, at 16 and 256 in flight.

    .venv/bin/python load/bench_dispatcher.py [--rounds 9]

The peer runs in its own process, so that only the client's CPU is measured. In each round every kind of call gets one
time slice. The table shows medians over the rounds; ratios are taken within each round. The run takes well under a
minute. Differences below 15 % are ties.
"""

import argparse
import asyncio
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import aiohttp
import orjson
import uvloop

from servicekit.dispatcher import CallPolicy, Dispatcher, Peer, PeerLimits, create_transport
from servicekit.dispatcher.transports import TransportName
from servicekit.sealing.ciphers import CipherName
from servicekit.sealing.client import MessageSealer
from servicekit.sealing.envelope import MessageBinding, open_request, seal_response
from servicekit.sealing.keyring import Keyring
from servicekit.sealing.wire import CALLER, COMMUNICATION, ENCRYPTED, MEDIA_TYPE

PATH = "/api/v1/analytics/events"
BODY = b'{"type": "bench", "properties": {"text": "' + b"x" * 960 + b'"}}'
REPLY = b'{"accepted": 1, "duplicates": 0}'
IN_FLIGHT = (16, 256)
SLICE_SECONDS = 0.25

Call = Callable[[], Awaitable[object]]


class PeerProtocol(asyncio.Protocol):
    """A minimal peer: takes a POST, and opens and seals messages where the client does."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, mark, rest = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            return
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        if len(rest) < int(headers[b"content-length"]):
            return
        self._buffer = b""
        sealed = headers.get(COMMUNICATION.encode()) == ENCRYPTED.encode()
        self._transport.write(self._sealed(rest) if sealed else _reply(REPLY, "application/json", ""))

    def _sealed(self, wire: bytes) -> bytes:
        binding = MessageBinding("user", "analytics", "POST", PATH.encode())
        cipher: CipherName = "fernet" if wire.startswith(b"v1.fernet.") else "aes-256-gcm"
        now = time.time()
        opened = open_request(wire, binding, lambda key: self._keyring.opening_key("user", "analytics", key), now=now)
        headers = [(b"content-type", b"application/json")]
        body = seal_response(
            binding, opened.key, cipher, nonce=opened.nonce, status=200, headers=headers, body=REPLY, now=now
        )
        return _reply(body, MEDIA_TYPE, f"{COMMUNICATION}: {ENCRYPTED}\r\n{CALLER}: analytics\r\n")


def _reply(body: bytes, content_type: str, more: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{more}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def serve(keys: Path) -> None:
    """Run the peer until the client closes standard input."""
    keyring = Keyring("analytics", keys)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: PeerProtocol(keyring), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


async def run_slice(call: Call, in_flight: int) -> tuple[float, float]:
    """Return CPU microseconds per call and calls per second with `in_flight` concurrent calls."""
    count = 0
    ends = time.perf_counter() + SLICE_SECONDS

    async def worker() -> None:
        nonlocal count
        while time.perf_counter() < ends:
            await call()
            count += 1

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return (time.process_time() - cpu) / count * 1e6, count / (time.perf_counter() - started)


async def call_kinds(stack: AsyncExitStack, url: str, keys: Path) -> dict[str, Call]:
    """Return a call of each kind; all of them keep their connections alive."""
    connector = aiohttp.TCPConnector(limit=max(IN_FLIGHT))
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    peer = Peer("analytics", (url,), policy=CallPolicy(deadline=30.0), limits=PeerLimits(max_in_flight=max(IN_FLIGHT)))
    keyring = Keyring("user", keys)

    async def raw() -> bytes:
        headers = {"Content-Type": "application/json"}
        async with session.post(url + PATH, data=BODY, headers=headers) as response:
            return await response.read()

    def dispatched(cipher: CipherName | None, transport: TransportName) -> Call:
        sealer = MessageSealer("user", keyring, cipher) if cipher else None
        dispatcher = Dispatcher([peer], transport=create_transport(transport), sealer=sealer)
        stack.push_async_callback(dispatcher.aclose)
        headers = {"Content-Type": "application/json"}
        return lambda: dispatcher.call(
            "analytics", PATH, method="POST", content=BODY, headers=headers, encrypted=cipher is not None
        )

    return {
        "raw aiohttp": raw,
        "dispatcher, plain": dispatched(None, "aiohttp"),
        "dispatcher, aes-256-gcm": dispatched("aes-256-gcm", "aiohttp"),
        "dispatcher, fernet": dispatched("fernet", "aiohttp"),
        "dispatcher on httpx2, plain": dispatched(None, "httpx2"),
    }


async def measure(url: str, keys: Path, rounds: int) -> None:
    """Run all rounds and print the table."""
    async with AsyncExitStack() as stack:
        calls = await call_kinds(stack, url, keys)
        for in_flight in IN_FLIGHT:
            measured: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
            for call in calls.values():
                await run_slice(call, in_flight)
            for _ in range(rounds):
                for name, call in calls.items():
                    measured[name].append(await run_slice(call, in_flight))
            _print_table(in_flight, measured)


def _print_table(in_flight: int, measured: dict[str, list[tuple[float, float]]]) -> None:
    raw = [cpu for cpu, _ in measured["raw aiohttp"]]
    print(f"\n{in_flight} in flight                 CPU µs/call   calls/s   of raw aiohttp (by CPU)")
    for name, slices in measured.items():
        cpu = statistics.median(cpu for cpu, _ in slices)
        rate = statistics.median(rate for _, rate in slices)
        ratio = statistics.median(base / own for base, (own, _) in zip(raw, slices, strict=True))
        print(f"  {name:<28} {cpu:>9.0f} {rate:>9.0f} {ratio:>10.0%}")


def _write_keys(folder: Path) -> None:
    secret = urlsafe_b64encode(secrets.token_bytes(32)).decode()
    pair = {"caller": "user", "callee": "analytics", "keys": [{"id": "bench", "secret": secret}]}
    file = folder / "user--analytics.json"
    file.touch(mode=0o600)
    file.write_bytes(orjson.dumps(pair))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        uvloop.run(serve(arguments.serve))
        return
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder)
        _write_keys(keys)
        command = [sys.executable, os.path.abspath(__file__), "--serve", folder]  # noqa: PTH100
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
            assert peer.stdin is not None
            assert peer.stdout is not None
            uvloop.run(measure(f"http://127.0.0.1:{int(peer.stdout.readline())}", keys, arguments.rounds))
            peer.stdin.close()


if __name__ == "__main__":
    main()
