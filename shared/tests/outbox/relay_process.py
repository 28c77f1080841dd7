"""A relay in a process of its own, for the tests that kill it.

    python relay_process.py (postgres|mongo) URL PORT (claimed|sent|answered|-)

It hands facts to the receiver at PORT. At the stage named it says so on its standard output and goes no further.
"""

import asyncio
import sys

import orjson
from pydantic import SecretStr

from servicekit.outbox import (
    DomainEvent,
    Outbox,
    RelayLimits,
    Subscription,
    Subscriptions,
    as_domain_event,
    mongo,
    postgres,
)

LIMITS = RelayLimits(delivery=0.4, lease=1.0, poll_longest=0.02, concurrency=8)


class SocketDelivery:
    def __init__(self, port: int, stage: str) -> None:
        self._port = port
        self._stage = stage

    async def deliver(self, route: Subscription, fact: DomainEvent) -> None:
        await self._reach("claimed")
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(orjson.dumps(as_domain_event(fact)) + b"\n")
            await writer.drain()
            await self._reach("sent")
            assert await reader.readline() == b"taken\n"
        finally:
            writer.close()
        await self._reach("answered")

    async def _reach(self, stage: str) -> None:
        if stage == self._stage:
            sys.stdout.write(f"{stage}\n")
            sys.stdout.flush()
            # The process is to die here, so nothing may go on meanwhile.
            sys.stdin.read()


async def main(kind: str, url: str, port: str, stage: str) -> None:
    opened = (postgres if kind == "postgres" else mongo).open_outbox_store(SecretStr(url), application="relay")
    routes = Subscriptions({"thing.seen": [Subscription("here")], "thing.made": [Subscription("here")]})
    async with opened as store, Outbox(store, routes, SocketDelivery(int(port), stage), limits=LIMITS).relaying():
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
