"""The address of the client that sent a request.

Behind the gateway every request comes from the gateway's address, and X-Real-IP holds the client's. Any client can send
that header, so it is trusted from the gateway alone: from its networks, or from the addresses of its DNS name where
its own address is not known in advance.
"""

import asyncio
import functools
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from loguru import logger
from starlette.types import Scope

from servicekit.core.dns import Lookup, look_up
from servicekit.core.tasks import background_task

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# A replaced gateway is trusted after at most this time.
KNOWN_SECONDS: Final = 3.0
# A gateway usually starts after its services.
UNKNOWN_SECONDS: Final = 0.5
LOOKUP_SECONDS: Final = 2.0

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
# The last label has a letter, so that 10.0.0.300 counts as a mistaken address rather than a name.
_DNS_NAME: Final = re.compile(rf"(?=.{{1,253}}$)({_LABEL}\.)*(?=[^.]*[A-Za-z]){_LABEL}")


def network_or_name(text: str) -> Network | str:
    """Return a network, or a DNS name as it is. Raises ValueError for anything else."""
    if _DNS_NAME.fullmatch(text):
        return text
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f"{error}: a network such as 10.0.0.0/8 or a DNS name is expected") from None


class GatewayAddresses:
    """The addresses of the gateway. Names are looked up in the background, never by a request."""

    def __init__(
        self,
        sources: Sequence[Network | str],
        *,
        lookup: Lookup = look_up,
        known_seconds: float = KNOWN_SECONDS,
        unknown_seconds: float = UNKNOWN_SECONDS,
    ) -> None:
        """Take networks and DNS names.

        A name is looked up every `known_seconds`, and every `unknown_seconds` until it has resolved once.
        """
        self._networks = tuple(source for source in sources if not isinstance(source, str))
        self._names: dict[str, frozenset[Address]] = {name: frozenset() for name in sources if isinstance(name, str)}
        self._lookup = lookup
        self._known_seconds = known_seconds
        self._unknown_seconds = unknown_seconds
        self._reported: set[str] = set()

    def __contains__(self, address: Address) -> bool:
        return any(address in network for network in self._networks) or any(
            address in known for known in self._names.values()
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the names' addresses current while the context is open."""
        if not self._names:
            yield
            return
        # If the gateway is already running, its first request has to show the client's address.
        await self._refresh()
        async with background_task(self._follow()):
            yield

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._known_seconds if all(self._names.values()) else self._unknown_seconds)
            await self._refresh()

    async def _refresh(self) -> None:
        for name, known in self._names.items():
            try:
                async with asyncio.timeout(LOOKUP_SECONDS):
                    found = frozenset(map(ip_address, await self._lookup(name)))
            except OSError as error:
                # The known addresses stay: a short outage of the resolver must not hide every client's address.
                if not known and name not in self._reported:
                    self._reported.add(name)
                    logger.info(
                        "the gateway's name {!r} does not resolve yet, so X-Real-IP is not trusted: {}", name, error
                    )
                continue
            if found and found != known:
                logger.info("the gateway's name {!r} resolves to {}", name, ", ".join(sorted(map(str, found))))
                self._names[name] = found


def client_address(scope: Scope, gateway: GatewayAddresses) -> str:
    """Return the client's IP address; X-Real-IP is trusted from the gateway only."""
    peer: str = scope["client"][0] if scope.get("client") else ""
    source = _parsed(peer)
    if source is None or source not in gateway:
        return peer
    forwarded = next((value for name, value in scope["headers"] if name == b"x-real-ip"), b"").decode("latin-1")
    return peer if _parsed(forwarded) is None else forwarded


# Parsing costs several times as much as looking the text up.
@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
