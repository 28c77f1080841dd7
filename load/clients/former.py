"""httpx 0.28, or a driver of MongoDB, in a process of its own: commands come in as lines of JSON, and so do results.

It runs in a throw-away environment, without the kit and the harness of the benchmarks.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import uvloop

from clients.measuring import POOL, Call, left_of_pool, one_slice, reported


def httpx_calls(url: str, path: str, body: bytes, shared_key: bytes) -> Mapping[str, Call]:
    """Return calls by httpx: bare ones, and the usual way, with tenacity and one shared Fernet key."""
    import httpx
    from cryptography.fernet import Fernet
    from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

    headers = {"Content-Type": "application/json"}
    wide = httpx.AsyncClient(limits=httpx.Limits(max_connections=256, max_keepalive_connections=256))
    narrow = httpx.AsyncClient(limits=httpx.Limits(max_connections=POOL, max_keepalive_connections=POOL))

    async def bare() -> object:
        response = await wide.post(url + path, content=body, headers=headers)
        return response.raise_for_status().content

    @retry(
        stop=stop_after_attempt(3),
        wait=wait_exponential(multiplier=0.1, max=2),
        retry=retry_if_exception_type(httpx.TransportError),
        reraise=True,
    )
    async def usual() -> object:
        # A Fernet object for each call, as is common.
        token = Fernet(shared_key).encrypt(body)
        response = await wide.post(url + "/fernet", content=token, headers={"Content-Type": "text/plain"})
        return Fernet(shared_key).decrypt(response.raise_for_status().content)

    async def slow() -> object:
        return (await narrow.get(url + "/slow")).raise_for_status()

    async def ready() -> object:
        return await narrow.get(url + "/closed")

    async def closing() -> object:
        return await narrow.get(url + "/close")

    return {"bare": bare, "usual": usual, "slow": slow, "ready": ready, "closing": closing}


def driver_calls(url: str, driver: str) -> Mapping[str, Call]:
    """Return calls by a driver of MongoDB: read by key, insert, and a read of 3 ms through a pool of ten."""
    if driver == "motor":
        from motor.motor_asyncio import AsyncIOMotorClient as Client
    else:
        from pymongo import AsyncMongoClient as Client

    collection, slow = Client(url)["bench"]["bench"], Client(url, maxPoolSize=POOL)["bench"]["bench"]
    return {
        "read": lambda: collection.find_one({"_id": 1}),
        "insert": lambda: collection.insert_one({"text": "x" * 200}),
        "first": lambda: collection.replace_one({"_id": 1}, {"text": "x" * 200}, upsert=True),
        "slow": lambda: slow.find_one({"_id": 1, "$where": "sleep(3) || true"}),
    }


async def execute(calls: Mapping[str, Call], command: Mapping[str, Any]) -> Any:
    call = calls[command["call"]]
    actions: Mapping[str, Callable[[], Awaitable[Any]]] = {
        "slice": lambda: one_slice(call, command["seconds"], command["in_flight"]),
        "cancel": lambda: left_of_pool(call),
        "report": lambda: reported(call),
    }
    return await actions[command["do"]]()


async def main() -> None:
    options = json.loads(sys.argv[1])
    if "driver" in options:
        calls = driver_calls(**options)
    else:
        calls = httpx_calls(options["url"], options["path"], options["body"].encode(), options["shared_key"].encode())
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await execute(calls, json.loads(line))), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
