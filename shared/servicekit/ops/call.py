"""`python -m servicekit.ops.call PEER PATH`: send one sealed call, and show both sides of it.

It runs in the environment of the calling service: with its name, its keys and the addresses of its peers.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from pydantic import ValidationError

from servicekit.core.settings import ServiceSettings
from servicekit.dispatcher import (
    BalancingTransport,
    CallPolicy,
    Dispatcher,
    DispatchError,
    InvalidCall,
    Peer,
    PeerFailed,
    PeerRefused,
    PeerResponse,
    create_transport,
)
from servicekit.dispatcher.transport import Transport, WireRequest
from servicekit.sealing.client import MessageSealer
from servicekit.sealing.keyring import Keyring

ONCE = CallPolicy(attempts=1)
SHOWN_CHARACTERS = 100


class ShowingTransport:
    """A transport that prints each request and response as they are on the wire."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def send(self, request: WireRequest) -> PeerResponse:
        """Print, send, and print again. Raises TransportError."""
        _show(f"sealed request: {request.method} {request.url}", request.headers, request.body)
        started = time.perf_counter()
        response = await self._transport.send(request)
        milliseconds = (time.perf_counter() - started) * 1000
        _show(f"sealed response: {response.status}, {milliseconds:.1f} ms", response.headers, response.body)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


async def call(settings: ServiceSettings, peer: str, path: str, method: str, body: bytes | None) -> int:
    """Make the call and print it; return 0 for a response of 2xx or 304 that could be opened, else 1."""
    path, _, query = path.partition("?")
    service = settings.service_name
    sealer = MessageSealer(service, Keyring(service, settings.service_keys_dir), settings.service_cipher)
    peers = [Peer(name, tuple(urls), policy=ONCE) for name, urls in settings.peer_urls.items()]
    transport = ShowingTransport(BalancingTransport(create_transport(settings.dispatch_transport)))
    headers = None if body is None else {"content-type": "application/json"}
    params = dict(parse_qsl(query, keep_blank_values=True))
    async with Dispatcher(peers, transport=transport, sealer=sealer) as dispatcher:
        try:
            response = await dispatcher.call(
                peer, path, method=method, params=params, headers=headers, content=body, encrypted=True
            )
        except (PeerRefused, PeerFailed) as error:
            _show(f"opened response: {error.response.status}", error.response.headers, error.response.body, whole=True)
            return 1
        except (DispatchError, InvalidCall) as error:
            known = ", ".join(settings.peer_urls) or "no service"
            sys.stderr.write(f"error: {error} ({service} calls {known})\n")
            return 1
    _show(f"opened response: {response.status}", response.headers, response.body, whole=True)
    return 0


def _show(title: str, headers: Mapping[str, str], body: bytes, *, whole: bool = False) -> None:
    lines = [title, *(f"  {name}: {value if whole else _shortened(value)}" for name, value in headers.items())]
    if text := body.decode(errors="replace"):
        lines += ["", f"  {text if whole else _shortened(text)}"]
    sys.stdout.write("\n".join([*lines, "\n"]))


def _shortened(text: str) -> str:
    rest = len(text) - SHOWN_CHARACTERS
    return text if rest <= 0 else f"{text[:SHOWN_CHARACTERS]}… and {rest} more"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0, or 1 after a refusal, a failure or a message."""
    parser = argparse.ArgumentParser(prog="python -m servicekit.ops.call", description=__doc__)
    parser.add_argument("peer", help="the service that is called")
    parser.add_argument("path", help="a path, with a query or without")
    parser.add_argument("--method", default="GET", help="the HTTP method (default: GET, and POST with a body)")
    parser.add_argument("--body", help="a JSON body")
    options = parser.parse_args(arguments)
    try:
        settings = ServiceSettings()
    except (ValidationError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    body = None if options.body is None else options.body.encode()
    method = "POST" if body is not None and options.method == "GET" else options.method.upper()
    return asyncio.run(call(settings, options.peer, options.path, method, body))


if __name__ == "__main__":
    sys.exit(main())
