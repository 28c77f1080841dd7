"""Cache-aside on a real Valkey; two clients stand for two replicas."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from redis.asyncio import Redis

from local_platform.stores import StoreSet
from servicekit.valkey.client import Valkey, create_client
from user_service.cache import Cache


class Source:
    """The source of the cached value. A load can be stopped between reading the value and returning it."""

    def __init__(self) -> None:
        self.value = b"old"
        self.loads = 0
        self.read = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def load(self) -> bytes:
        self.loads += 1
        value = self.value
        self.read.set()
        await self.go_on.wait()
        return value


@pytest.fixture
async def caches(valkey_url: str) -> AsyncIterator[list[Cache]]:
    clients = [create_client(SecretStr(valkey_url), application="test") for _ in range(2)]
    yield [Cache(Valkey(client), service="test", name="things", ttl=60) for client in clients]
    for client in clients:
        await client.aclose()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def until_missed() -> Callable[[int], Awaitable[None]]:
    """Return a function that waits until this number of requests of the test has missed."""

    def misses() -> float:
        return REGISTRY.get_sample_value("service_cache_requests_total", {"cache": "things", "result": "miss"}) or 0

    before = misses()

    async def until(requests: int) -> None:
        async with asyncio.timeout(60):
            while misses() < before + requests:
                await asyncio.sleep(0.001)

    return until


async def test_a_value_is_loaded_once_for_all_replicas(caches: list[Cache], source: Source) -> None:
    for _ in range(3):
        for cache in caches:
            assert await cache.get("k", source.load) == b"old"
    assert source.loads == 1
    assert await caches[0].get("other", source.load) == b"old"
    assert source.loads == 2


async def test_concurrent_requests_in_a_process_share_one_load(
    caches: list[Cache], source: Source, until_missed: Callable[[int], Awaitable[None]]
) -> None:
    source.go_on.clear()
    requests = [asyncio.create_task(caches[0].get("k", source.load)) for _ in range(50)]
    await until_missed(50)
    source.go_on.set()
    assert set(await asyncio.gather(*requests)) == {b"old"}
    assert source.loads == 1


class LateFirst(Valkey):
    """Holds the first reply back until `go_on` is set."""

    def __init__(self, client: Redis) -> None:
        super().__init__(client)
        self.answered, self.go_on = asyncio.Event(), asyncio.Event()

    async def run(self, command: Callable[[Redis], Awaitable[Any]]) -> Any:
        result = await super().run(command)
        if not self.answered.is_set():
            self.answered.set()
            await self.go_on.wait()
        return result


async def test_a_load_that_began_before_the_holder_of_its_lease_has_read_the_reply_fills_the_cache(
    caches: list[Cache], source: Source, valkey_url: str, until_missed: Callable[[int], Awaitable[None]]
) -> None:
    source.go_on.clear()
    async with create_client(SecretStr(valkey_url), application="test") as client:
        late = LateFirst(client)
        cache = Cache(late, service="test", name="things", ttl=60)
        holder = asyncio.create_task(cache.get("k", source.load))
        await late.answered.wait()
        quicker = asyncio.create_task(cache.get("k", source.load))
        await source.read.wait()
        late.go_on.set()
        await until_missed(2)
        source.go_on.set()
        assert [await holder, await quicker] == [b"old", b"old"]

    assert await caches[1].get("k", source.load) == b"old"
    assert source.loads == 1


async def test_a_process_without_the_lease_shares_a_load_among_its_own_requests(
    caches: list[Cache], source: Source, until_missed: Callable[[int], Awaitable[None]]
) -> None:
    source.go_on.clear()
    first = asyncio.create_task(caches[0].get("k", source.load))
    await source.read.wait()
    others = [asyncio.create_task(caches[1].get("k", source.load)) for _ in range(20)]
    await until_missed(21)
    source.go_on.set()
    assert {await first, *await asyncio.gather(*others)} == {b"old"}
    assert source.loads == 2


async def test_an_invalidated_value_is_loaded_again_by_every_replica(caches: list[Cache], source: Source) -> None:
    await caches[0].get("k", source.load)
    source.value = b"new"
    await caches[1].invalidate("k", "another")
    for cache in caches:
        assert await cache.get("k", source.load) == b"new"


async def test_a_fill_that_began_before_an_invalidation_does_not_overwrite_it(
    caches: list[Cache], source: Source
) -> None:
    source.go_on.clear()
    slow = asyncio.create_task(caches[0].get("k", source.load))
    await source.read.wait()
    source.value = b"new"
    await caches[1].invalidate("k")
    source.go_on.set()
    await slow
    for cache in caches:
        assert await cache.get("k", source.load) == b"new"


async def test_a_request_after_an_invalidation_does_not_join_a_load_from_before_it(
    caches: list[Cache], source: Source
) -> None:
    source.go_on.clear()
    slow = asyncio.create_task(caches[0].get("k", source.load))
    await source.read.wait()
    source.value = b"new"
    await caches[1].invalidate("k")
    late = asyncio.create_task(caches[0].get("k", source.load))
    while source.loads < 2:
        await asyncio.sleep(0.01)
    source.go_on.set()
    assert await slow == b"old"
    assert await late == b"new"
    assert await caches[1].get("k", source.load) == b"new"


async def test_a_load_that_fails_fails_all_waiting_requests_and_the_next_request_loads_again(
    caches: list[Cache],
) -> None:
    async def fail() -> bytes:
        await asyncio.sleep(0.01)
        raise LookupError

    results = await asyncio.gather(*(caches[0].get("k", fail) for _ in range(5)), return_exceptions=True)
    assert {type(result) for result in results} == {LookupError}

    async def succeed() -> bytes:
        return b"fine"

    assert await caches[0].get("k", succeed) == b"fine"
    assert await caches[1].get("k", fail) == b"fine"


async def test_a_cancelled_request_does_not_cancel_the_load_of_the_others(caches: list[Cache], source: Source) -> None:
    source.go_on.clear()
    first = asyncio.create_task(caches[0].get("k", source.load))
    await source.read.wait()
    second = asyncio.create_task(caches[0].get("k", source.load))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.go_on.set()
    assert await second == b"old"
    assert source.loads == 1


async def test_a_value_is_kept_for_the_ttl(caches: list[Cache], source: Source, valkey_url: str) -> None:
    await caches[0].get("k", source.load)
    async with create_client(SecretStr(valkey_url), application="test") as client:
        assert 59_000 < await client.pttl("test:cache:things:k") <= 60_000


async def test_without_valkey_everything_is_loaded_directly_and_counted(
    caches: list[Cache], source: Source, stores: StoreSet
) -> None:
    def counted(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"cache": "things", **labels}) or 0

    await caches[0].get("k", source.load)
    bypassed = counted("service_cache_requests_total", result="bypass")
    lost = counted("service_cache_lost_invalidations_total")
    await stores.stop("valkey")
    try:
        source.value = b"new"
        for _ in range(3):
            assert await caches[0].get("k", source.load) == b"new"
        await caches[0].invalidate("k")
    finally:
        await stores.start("valkey")
    assert counted("service_cache_requests_total", result="bypass") == bypassed + 3
    assert counted("service_cache_lost_invalidations_total") == lost + 1


async def test_a_load_returns_its_value_although_valkey_stops_meanwhile(
    caches: list[Cache], source: Source, stores: StoreSet
) -> None:
    source.go_on.clear()
    slow = asyncio.create_task(caches[0].get("k", source.load))
    await source.read.wait()
    await stores.stop("valkey")
    try:
        source.go_on.set()
        assert await slow == b"old"
    finally:
        await stores.start("valkey")
