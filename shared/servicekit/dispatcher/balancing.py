"""The choice among the addresses of a name, above whichever transport sends.

The name of a peer may stand for several replicas. Requests go to its addresses in turn, each over its own connections.
If an address cannot be reached, the next one is tried. That does not repeat the request: nothing was sent.
"""

import functools
import time
from collections.abc import Awaitable
from ipaddress import ip_address
from typing import Final, NamedTuple

from yarl import URL

from servicekit.dispatcher.addresses import Addresses
from servicekit.dispatcher.response import PeerResponse
from servicekit.dispatcher.transport import NotSent, TimedOut, Transport, WireRequest

# How many addresses of a name are tried for one request.
MOST_TRIED: Final = 3
# How long an address may take to accept a connection before the next one is tried, in seconds.
NEXT_ADDRESS_SECONDS: Final = 0.25


class _Named(NamedTuple):
    """A base URL that has a name and no address."""

    url: URL
    name: str
    # Name and port, as the Host header has them.
    host: str


class BalancingTransport:
    """Sends through another transport, which gets base URLs with addresses only."""

    def __init__(self, transport: Transport, *, addresses: Addresses | None = None) -> None:
        self._transport = transport
        self._addresses = addresses or Addresses()

    def send(self, request: WireRequest, /) -> Awaitable[PeerResponse]:
        """Send once; see `Transport.send`."""
        named = _named(request.origin)
        return self._transport.send(request) if named is None else self._send_to(named, request)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def _send_to(self, named: _Named, request: WireRequest) -> PeerResponse:
        """Send to the first address of the name that can be reached."""
        ends = time.monotonic() + request.timeout
        *others, last = (await self._look_up(named.name, request))[:MOST_TRIED]
        for address in others:
            try:
                return await self._transport.send(_addressed(request, named, address, ends, NEXT_ADDRESS_SECONDS))
            except NotSent:
                self._addresses.avoid(named.name, address)
        return await self._transport.send(_addressed(request, named, last, ends, request.connect_timeout))

    async def _look_up(self, name: str, request: WireRequest) -> list[str]:
        within = min(request.connect_timeout, request.timeout)
        try:
            return await self._addresses.in_turn(name, within=within)
        except OSError as error:
            if isinstance(error, TimeoutError) and within == request.timeout:
                raise TimedOut(f"{name} did not resolve within {within:.3f} s") from error
            raise NotSent(f"{name} does not resolve: {error}") from error


def _addressed(request: WireRequest, named: _Named, address: str, ends: float, connect_timeout: float) -> WireRequest:
    """Return the request to one address, with what is left of its time."""
    timeout = ends - time.monotonic()
    if timeout <= 0:
        raise TimedOut(f"{named.name} accepted no connection in time")
    return WireRequest(
        request.method,
        _at(named.url, address),
        request.target,
        {"host": named.host, **request.headers},
        request.body,
        timeout,
        min(connect_timeout, request.connect_timeout),
        named.name,
    )


@functools.lru_cache(maxsize=256)
def _at(url: URL, address: str) -> str:
    return str(url.with_host(address).origin())


@functools.lru_cache(maxsize=256)
def _named(origin: str) -> _Named | None:
    """Return the parts of a base URL with a name, or None for one with an address."""
    url = URL(origin, encoded=True)
    name = url.raw_host or ""
    try:
        ip_address(name)
    except ValueError:
        return _Named(url, name, url.host_port_subcomponent or name)
    return None
