"""Compare the dispatcher with raw aiohttp: CPU of the client for one POST of 1 KB, at 16 and 256 in flight.

    .venv/bin/python load/bench_dispatcher.py [--quick]

The peer runs in a process of its own, so that only the client's CPU is measured.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

import aiohttp

from benchlib import Aim, Run, at_least, calls, main
from clients.peer import BODY, PATH, running_peer
from servicekit.dispatcher import CallPolicy, Dispatcher, Peer, PeerLimits, create_transport
from servicekit.dispatcher.transports import TransportName
from servicekit.sealing.ciphers import CipherName
from servicekit.sealing.client import MessageSealer
from servicekit.sealing.keyring import Keyring

IN_FLIGHT = (16, 256)
RAW = "raw aiohttp"
AIMS: Mapping[str, Aim | None] = {
    "dispatcher, plain": at_least(0.90),
    "dispatcher, aes-256-gcm": at_least(0.85),
    "dispatcher, fernet": at_least(0.60),
    "dispatcher on httpx2, plain": None,
}

Call = Callable[[], Awaitable[object]]


async def measure(run: Run) -> None:
    url = run.stack.enter_context(running_peer(run.folder))
    kinds = await call_kinds(run.stack, url, Keyring("user", run.folder))
    for in_flight in IN_FLIGHT:
        subjects = {name: calls(name, call, in_flight) for name, call in kinds.items()}
        await run.compare(list(subjects.values()), group=f"{in_flight} in flight")
        for name, aim in AIMS.items():
            run.ratio(f"{name}, {in_flight} in flight", "cpu share", subjects[name], subjects[RAW], aim)


async def call_kinds(stack: AsyncExitStack, url: str, keyring: Keyring) -> dict[str, Call]:
    """Return a call of each kind; all of them keep their connections alive."""
    connector = aiohttp.TCPConnector(limit=max(IN_FLIGHT))
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    headers = {"Content-Type": "application/json"}

    async def raw() -> bytes:
        async with session.post(url + PATH, data=BODY, headers=headers) as response:
            return await response.read()

    def dispatched(cipher: CipherName | None, transport: TransportName = "aiohttp") -> Call:
        dispatcher = open_dispatcher(stack, url, transport, MessageSealer("user", keyring, cipher) if cipher else None)
        return lambda: dispatcher.call(
            "analytics", PATH, method="POST", content=BODY, headers=headers, encrypted=cipher is not None
        )

    return {
        RAW: raw,
        "dispatcher, plain": dispatched(None),
        "dispatcher, aes-256-gcm": dispatched("aes-256-gcm"),
        "dispatcher, fernet": dispatched("fernet"),
        "dispatcher on httpx2, plain": dispatched(None, "httpx2"),
    }


def open_dispatcher(
    stack: AsyncExitStack,
    url: str,
    transport: TransportName,
    sealer: MessageSealer | None,
    *,
    max_connections: int = max(IN_FLIGHT),
) -> Dispatcher:
    """Return a dispatcher whose breaker stays closed."""
    limits = PeerLimits(max_in_flight=max(IN_FLIGHT), breaker_threshold=10**9)
    peer = Peer("analytics", (url,), policy=CallPolicy(attempts=1, deadline=30.0), limits=limits)
    dispatcher = Dispatcher(
        [peer], transport=create_transport(transport, max_connections=max_connections), sealer=sealer
    )
    stack.push_async_callback(dispatcher.aclose)
    return dispatcher


if __name__ == "__main__":
    main(measure, __doc__, seconds=0.25, quick=(5, 0.25), on_uvloop=True)
