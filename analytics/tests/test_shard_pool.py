"""Lanes: no two transactions of a process share a shard, and processes learn to keep out of each other's way."""

import asyncio

import pytest

from analytics_service.rollups.shard_pool import Lanes, Overloaded


async def test_all_that_runs_at_once_has_shards_of_its_own() -> None:
    lanes = Lanes(lanes=4, shards=8)
    held: set[int] = set()
    most = 0

    async def work() -> None:
        nonlocal most
        async with lanes.lend() as lane:
            assert lane.shard not in held
            held.add(lane.shard)
            most = max(most, len(held))
            await asyncio.sleep(0)
            held.remove(lane.shard)

    await asyncio.gather(*(work() for _ in range(50)))
    assert most == 4


async def test_who_comes_alone_always_gets_the_same_shard() -> None:
    lanes = Lanes()
    shards = set()
    for _ in range(20):
        async with lanes.lend() as lane:
            shards.add(lane.shard)

    assert len(shards) == 1


async def test_a_lane_that_met_somebody_moves_and_stays_there() -> None:
    lanes = Lanes(lanes=3, shards=8)
    async with lanes.lend() as lane:
        before = set(lanes.shards)
        lane.move()
        assert lane.shard not in before
        moved_to = lane.shard
    async with lanes.lend() as lane:
        assert lane.shard == moved_to
    assert len(set(lanes.shards)) == 3


async def test_a_lane_comes_back_from_work_that_failed() -> None:
    lanes = Lanes(lanes=1, shards=2)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with lanes.lend():
                raise ZeroDivisionError


async def test_who_waits_too_long_is_told_to_come_back() -> None:
    lanes = Lanes(lanes=1, shards=2, patience=0.01)
    async with lanes.lend():
        with pytest.raises(Overloaded) as refused:
            async with lanes.lend():
                pass
    assert refused.value.headers == {"Retry-After": "1"}
    async with lanes.lend():
        pass


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    lanes = Lanes(lanes=1, shards=2)

    async def wait() -> None:
        async with lanes.lend():
            pass

    async with lanes.lend():
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await wait()
