"""Compare HTTP clients for calls between services: aiohttp, httpx2, httpx 0.28, and the dispatcher above the first two.

    .venv/bin/python load/bench_clients.py [--quick]

CPU of the client for one POST of 1 KB; how many of ten calls get a response after 1,000 calls were cancelled at random
deadlines, through a pool of ten connections; and what a client reports when a server reads a GET and closes the
connection that it kept alive, with the number of times that the server got it. httpx 0.28 runs in an environment of
its own, which is made once.
"""

from contextlib import AsyncExitStack
from typing import NamedTuple

import aiohttp
import httpx2

from bench_dispatcher import open_dispatcher
from benchlib import Run, calls, main
from clients.environment import Former, former_packages
from clients.measuring import POOL, Call, left_of_pool, reported
from clients.peer import BODY, PATH, SHARED_KEY_FILE, running_peer
from peers.obtaining import CannotObtain
from servicekit.dispatcher.transports import TransportName
from servicekit.sealing.client import MessageSealer
from servicekit.sealing.keyring import Keyring

IN_FLIGHT = (16, 256)
JSON = {"Content-Type": "application/json"}
RAW, HTTPX, USUAL = "aiohttp", "httpx 0.28", "httpx 0.28, tenacity, Fernet"


class Client(NamedTuple):
    """One client: a POST, and three GETs through a pool of ten."""

    post: Call
    slow: Call
    ready: Call
    closing: Call


async def measure(run: Run) -> None:
    url = run.stack.enter_context(running_peer(run.folder))
    keyring = Keyring("user", run.folder)
    clients = {
        RAW: await aiohttp_client(run.stack, url),
        "httpx2": await httpx2_client(run.stack, url),
        "dispatcher": dispatcher_client(run.stack, url, "aiohttp"),
        "dispatcher on httpx2": dispatcher_client(run.stack, url, "httpx2"),
    }
    fernet = open_dispatcher(run.stack, url, "aiohttp", MessageSealer("user", keyring, "fernet"))
    posts = {name: client.post for name, client in clients.items()} | {
        "dispatcher, Fernet": lambda: fernet.call(
            "analytics", PATH, method="POST", content=BODY, headers=JSON, encrypted=True
        )
    }
    former = await former_clients(run, url)
    for in_flight in IN_FLIGHT:
        subjects = {name: calls(name, post, in_flight) for name, post in posts.items()}
        if former is not None:
            subjects |= {
                name: former.subject(name, call, in_flight) for name, call in ((HTTPX, "bare"), (USUAL, "usual"))
            }
        await run.compare(list(subjects.values()), group=f"{in_flight} in flight")
        for name, subject in subjects.items():
            if name != RAW:
                run.ratio(f"{name}, {in_flight} in flight", "cpu", subject, subjects[RAW])
    received = Received(clients[RAW].ready)
    for name, client in clients.items():
        run.progress(f"{name}: cancelled calls")
        run.result(f"{name}, after cancelled calls", [await left_of_pool(client.slow)], f"responses to {POOL} calls")
        await client.ready()
        report = await reported(client.closing)
        run.result(f"{name}, closed connection: {report}", [await received.since()], "times that the server got it")
    if former is not None:
        # First, because a pool that cancelled calls have used up would give no response.
        await former.do("report", "ready")
        report = await former.do("report", "closing")
        run.result(f"{HTTPX}, closed connection: {report}", [await received.since()], "times that the server got it")
        run.progress(f"{HTTPX}: cancelled calls")
        left = await former.do("cancel", "slow")
        run.result(f"{HTTPX}, after cancelled calls", [left], f"responses to {POOL} calls")


async def former_clients(run: Run, url: str) -> Former | None:
    """Start the process with httpx 0.28; say why not, where its packages cannot be installed."""
    shared_key = (run.folder / SHARED_KEY_FILE).read_text()
    packages = former_packages(url=url, path=PATH, body=BODY.decode(), shared_key=shared_key)
    try:
        return await run.stack.enter_async_context(packages)
    except CannotObtain as error:
        run.progress(f"{HTTPX} is left out: {error}")
        return None


class Received:
    """How often the server got a request that it did not respond to."""

    def __init__(self, ask: Call) -> None:
        self._ask = ask
        self._before = 0

    async def since(self) -> int:
        """Return the number since the last time."""
        now = int(str(await self._ask()))
        number, self._before = now - self._before, now
        return number


async def aiohttp_client(stack: AsyncExitStack, url: str) -> Client:
    wide = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=max(IN_FLIGHT))))
    narrow = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=POOL)))

    async def post() -> str:
        async with wide.post(url + PATH, data=BODY, headers=JSON) as response:
            return await response.text()

    async def get(path: str) -> str:
        async with narrow.get(url + path) as response:
            return await response.text()

    return Client(post, lambda: get("/slow"), lambda: get("/closed"), lambda: get("/close"))


async def httpx2_client(stack: AsyncExitStack, url: str) -> Client:
    def client(connections: int) -> httpx2.AsyncClient:
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        return httpx2.AsyncClient(limits=limits)

    wide = await stack.enter_async_context(client(max(IN_FLIGHT)))
    narrow = await stack.enter_async_context(client(POOL))

    async def post() -> str:
        return (await wide.post(url + PATH, content=BODY, headers=JSON)).text

    async def get(path: str) -> str:
        return (await narrow.get(url + path)).text

    return Client(post, lambda: get("/slow"), lambda: get("/closed"), lambda: get("/close"))


def dispatcher_client(stack: AsyncExitStack, url: str, transport: TransportName) -> Client:
    wide = open_dispatcher(stack, url, transport, None)
    narrow = open_dispatcher(stack, url, transport, None, max_connections=POOL)

    def get(path: str) -> Call:
        return lambda: narrow.call("analytics", path)

    return Client(
        lambda: wide.call("analytics", PATH, method="POST", content=BODY, headers=JSON),
        get("/slow"),
        get("/closed"),
        get("/close"),
    )


if __name__ == "__main__":
    main(measure, __doc__, rounds=7, seconds=0.3, quick=(3, 0.25), on_uvloop=True)
