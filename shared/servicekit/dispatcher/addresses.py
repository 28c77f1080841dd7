"""The addresses of a DNS name that stands for several replicas, used in turn.

The resolver's own order cannot serve for that. It always puts the address first that is most like our own (RFC 6724),
and a client that connects by name stays with that replica while the connection lives.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from servicekit.core.dns import Lookup, look_up

# The time within which a new replica is found and a removed one is forgotten.
KNOWN_SECONDS: Final = 1.0


@dataclass(slots=True)
class _Known:
    """What is known about one name."""

    addresses: list[str] = field(default_factory=list)
    until: float = 0.0
    # Random, so that processes that start together begin at different replicas.
    turn: int = field(default_factory=lambda: random.randrange(1 << 16))
    lookup: asyncio.Lock = field(default_factory=asyncio.Lock)


class Addresses:
    """Looks up each name when it is used, at most once in `KNOWN_SECONDS`."""

    def __init__(self, *, lookup: Lookup = look_up, clock: Callable[[], float] = time.monotonic) -> None:
        self._lookup = lookup
        self._clock = clock
        self._names: dict[str, _Known] = {}

    async def in_turn(self, name: str, *, within: float) -> list[str]:
        """Return all addresses, beginning with the next one. A lookup may take `within` seconds.

        Raises OSError if the name has no address or the lookup takes too long.
        """
        known = self._names.get(name)
        if known is None:
            known = self._names[name] = _Known()
        if known.until <= self._clock():
            async with asyncio.timeout(within), known.lookup:
                # Another call may have looked the name up while this one waited for the lock.
                if known.until <= self._clock():
                    known.addresses = list(await self._lookup(name))
                    known.until = self._clock() + KNOWN_SECONDS
        known.turn += 1
        start = known.turn % len(known.addresses)
        return known.addresses[start:] + known.addresses[:start]

    def avoid(self, name: str, address: str) -> None:
        """Leave out an address that could not be reached, until the next lookup, unless it is the last one."""
        addresses = self._names[name].addresses
        if len(addresses) > 1 and address in addresses:
            # A new list, because another call may be iterating over the old one.
            self._names[name].addresses = [other for other in addresses if other != address]
