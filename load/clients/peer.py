"""A minimal HTTP server in a process of its own, so that only the CPU of its client is measured.

POST any path   responds at once; opens a sealed message, and seals the response
/fernet         opens and returns a Fernet token under one shared key, as is commonly done
/slow           responds after up to 4 ms, in two parts
/close          reads the request and closes the connection
/closed         responds with the number of requests to /close
"""

import asyncio
import os
import random
import secrets
import subprocess  # nosec B404
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import orjson
import uvloop
from cryptography.fernet import Fernet

from servicekit.sealing.ciphers import CipherName
from servicekit.sealing.envelope import MessageBinding, open_request, seal_response
from servicekit.sealing.keyring import Keyring
from servicekit.sealing.wire import CALLER, COMMUNICATION, ENCRYPTED, MEDIA_TYPE

PATH = "/api/v1/analytics/events"
BODY = b'{"type": "bench", "properties": {"text": "' + b"x" * 960 + b'"}}'
REPLY = b'{"accepted": 1, "duplicates": 0}'
SHARED_KEY_FILE = "shared.key"


class PeerProtocol(asyncio.Protocol):
    """One connection. Requests on it do not overlap."""

    closed = 0

    def __init__(self, keyring: Keyring, shared: Fernet) -> None:
        self._keyring = keyring
        self._shared = shared
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, mark, rest = self._buffer.partition(b"\r\n\r\n")
        if not mark:
            return
        lines = head.split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        if len(rest) < int(headers.get(b"content-length", 0)):
            return
        self._buffer = b""
        self._respond(lines[0].split(b" ")[1].decode(), headers, rest)

    def _respond(self, target: str, headers: dict[bytes, bytes], body: bytes) -> None:
        if headers.get(COMMUNICATION.encode()) == ENCRYPTED.encode():
            self._transport.write(self._sealed(body))
        elif target == "/fernet":
            self._transport.write(_reply(self._shared.encrypt(self._shared.decrypt(body)[:32]), "text/plain"))
        elif target == "/slow":
            reply = _reply(REPLY, "application/json")
            loop = asyncio.get_running_loop()
            loop.call_later(random.uniform(0, 0.004), self._write, reply[:-4])  # nosec B311
            loop.call_later(random.uniform(0.004, 0.006), self._write, reply[-4:])  # nosec B311
        elif target == "/close":
            PeerProtocol.closed += 1
            self._transport.close()
        elif target == "/closed":
            self._transport.write(_reply(str(PeerProtocol.closed).encode(), "text/plain"))
        else:
            self._transport.write(_reply(REPLY, "application/json"))

    def _write(self, data: bytes) -> None:
        # A client that cancels a call closes its connection.
        if not self._transport.is_closing():
            self._transport.write(data)

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


def _reply(body: bytes, content_type: str, more: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{more}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextmanager
def running_peer(folder: Path) -> Iterator[str]:
    """Write keys below `folder` and run the server while the context is open; its URL is the context's value."""
    secret = urlsafe_b64encode(secrets.token_bytes(32)).decode()
    pair = {"caller": "user", "callee": "analytics", "keys": [{"id": "bench", "secret": secret}]}
    for name, content in {"user--analytics.json": orjson.dumps(pair), SHARED_KEY_FILE: Fernet.generate_key()}.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(content)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "clients.peer", str(folder)]
    with subprocess.Popen(  # nosec B603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the peer has no pipes")
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


async def serve(folder: Path) -> None:
    """Serve until the client closes standard input."""
    keyring, shared = Keyring("analytics", folder), Fernet((folder / SHARED_KEY_FILE).read_bytes())
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: PeerProtocol(keyring, shared), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
