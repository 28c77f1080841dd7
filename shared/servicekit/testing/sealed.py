"""Sealed calls in tests, step by step, so that a test can look at a message, change it, or send it twice."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson
from multidict import CIMultiDict

from servicekit.dispatcher.response import PeerResponse
from servicekit.sealing.ciphers import CipherName
from servicekit.sealing.client import MessageSealer, SentMessage
from servicekit.sealing.key_files import ensure_keys
from servicekit.sealing.keyring import Keyring


@dataclass(frozen=True, slots=True)
class Pair:
    """A service and the services that it calls; implements `CatalogEntry`."""

    name: str
    calls: tuple[str, ...] = ()


def make_keyrings(root: Path, calls: Mapping[str, Sequence[str]]) -> dict[str, Keyring]:
    """Make keys below `root` for these calls (caller → callees) and return the keyring of each service."""
    names = {*calls, *(callee for callees in calls.values() for callee in callees)}
    ensure_keys(root, {name: Pair(name, tuple(calls.get(name, ()))) for name in sorted(names)})
    return {name: Keyring(name, root / name) for name in names}


class MemoryNonces:
    """A `NonceStore` inside one process. With `unavailable` it fails like a store that cannot be reached."""

    def __init__(self) -> None:
        self.nonces: set[str] = set()
        self.unavailable = False
        self.asked = 0

    async def claim(self, nonce: str) -> bool:
        self._count()
        new = nonce not in self.nonces
        self.nonces.add(nonce)
        return new

    async def add(self, nonces: Iterable[str]) -> None:
        self._count()
        self.nonces.update(nonces)

    def _count(self) -> None:
        self.asked += 1
        if self.unavailable:
            raise ConnectionError("the store of nonces is unavailable")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A sealed request as it goes over the wire."""

    method: str
    target: str
    message: SentMessage


class SealedPeer:
    """A client that calls one service as another one. `http` reaches the service, for example by an ASGITransport."""

    def __init__(
        self, http: httpx2.AsyncClient, caller: str, callee: str, keyring: Keyring, cipher: CipherName = "fernet"
    ) -> None:
        self._http = http
        self._callee = callee
        self._sealer = MessageSealer(caller, keyring, cipher)

    def seal(self, method: str, target: str, *, json: Any = None, headers: Mapping[str, str] | None = None) -> Recorded:
        """Seal a request without sending it."""
        content_type = {} if json is None else {"content-type": "application/json"}
        body = b"" if json is None else orjson.dumps(json)
        inside = {**content_type, **(headers or {})}
        return Recorded(method, target, self._sealer.seal_request(self._callee, method, target, inside, body))

    async def send(self, recorded: Recorded, **changes: Any) -> httpx2.Response:
        """Send a recorded request and return the response as it came; `changes` replace parts of the request."""
        parts = {
            "method": recorded.method,
            "url": recorded.target,
            "headers": recorded.message.headers,
            "content": recorded.message.body,
        }
        return await self._http.request(**(parts | changes))

    def open(self, recorded: Recorded, response: httpx2.Response) -> PeerResponse:
        """Open the response to a recorded request. Raises CannotOpen."""
        outside = CIMultiDict(response.headers.multi_items())
        headers, body = self._sealer.open_response(
            self._callee, recorded.message, response.status_code, outside, response.content
        )
        return PeerResponse.of(response.status_code, headers, body)

    async def call(
        self, method: str, target: str, *, json: Any = None, headers: Mapping[str, str] | None = None
    ) -> PeerResponse:
        """Seal, send and open."""
        recorded = self.seal(method, target, json=json, headers=headers)
        return self.open(recorded, await self.send(recorded))
