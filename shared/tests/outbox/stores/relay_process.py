"""A relay in a process of its own, for the tests that kill it.

    (postgres|mongo) URL PORT (leased|sent|accepted|-)

It delivers events to the receiver at PORT. At the stage named, it writes the name and goes no further.
"""

import asyncio
import signal
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

LIMITS = RelayLimits(delivery_seconds=0.4, lease_seconds=1.0, max_poll_seconds=0.02, concurrency=8)


class SocketDelivery:
    def __init__(self, port: int, stage: str) -> None:
        self._port = port
        self._stage = stage

    async def deliver(self, subscription: Subscription, event: DomainEvent) -> None:
        self._reach("leased")
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(orjson.dumps(as_domain_event(event)) + b"\n")
            await writer.drain()
            self._reach("sent")
            assert await reader.readline() == b"accepted\n"
        finally:
            writer.close()
        self._reach("accepted")

    def _reach(self, stage: str) -> None:
        if stage == self._stage:
            sys.stdout.write(f"{stage}\n")
            sys.stdout.flush()
            # The whole process stands still until it is killed.
            signal.pause()


async def main(kind: str, url: str, port: str, stage: str) -> None:
    opening = (postgres if kind == "postgres" else mongo).open_outbox_store(SecretStr(url), application="relay")
    subscriptions = Subscriptions({"thing.seen": [Subscription("here")], "thing.made": [Subscription("here")]})
    async with (
        opening as store,
        Outbox(store, subscriptions, SocketDelivery(int(port), stage), limits=LIMITS).relaying(),
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
