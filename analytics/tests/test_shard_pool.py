"""No two transactions of a process hold one shard, and a pool leaves a shard that another process writes."""

import asyncio

import pytest

from analytics_service.rollups.shard_pool import Overloaded, ShardPool


async def test_concurrent_transactions_hold_different_shards() -> None:
    pool = ShardPool(size=4, shards=8)
    held: set[int] = set()
    most = 0

    async def work() -> None:
        nonlocal most
        async with pool.acquire() as shard:
            assert shard.number not in held
            held.add(shard.number)
            most = max(most, len(held))
            await asyncio.sleep(0)
            held.remove(shard.number)

    await asyncio.gather(*(work() for _ in range(50)))
    assert most == 4


async def test_sequential_transactions_get_the_same_shard() -> None:
    pool = ShardPool()
    shards = set()
    for _ in range(20):
        async with pool.acquire() as shard:
            shards.add(shard.number)

    assert len(shards) == 1


async def test_a_shard_that_is_moved_stays_there() -> None:
    pool = ShardPool(size=3, shards=8)
    async with pool.acquire() as shard:
        before = set(pool.shards)
        shard.move()
        assert shard.number not in before
        moved_to = shard.number
    async with pool.acquire() as shard:
        assert shard.number == moved_to
    assert len(set(pool.shards)) == 3


async def test_a_shard_is_returned_after_an_error() -> None:
    pool = ShardPool(size=1, shards=2)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with pool.acquire():
                raise ZeroDivisionError


async def test_a_request_that_waits_too_long_gets_503() -> None:
    pool = ShardPool(size=1, shards=2, patience_seconds=0.01)
    async with pool.acquire():
        with pytest.raises(Overloaded) as refused:
            async with pool.acquire():
                pass
    assert refused.value.headers == {"Retry-After": "1"}
    async with pool.acquire():
        pass


async def test_a_cancelled_wait_takes_no_shard() -> None:
    pool = ShardPool(size=1, shards=2)

    async def wait() -> None:
        async with pool.acquire():
            pass

    async with pool.acquire():
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await wait()
