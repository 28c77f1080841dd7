"""Results are shared by concurrent requests and reused for some seconds."""

import asyncio
from itertools import count

import pytest

from servicekit.core.recent_results import RecentResults
from servicekit.testing.scripted_transport import ManualClock


class Source:
    """Counts its loads, and fails while `error` is set."""

    def __init__(self) -> None:
        self.loads = count(1)
        self.error: Exception | None = None
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def load(self, key: str) -> str:
        number = next(self.loads)
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        return f"{key}{number}"


async def test_a_result_serves_for_its_time() -> None:
    source, clock = Source(), ManualClock()
    results = RecentResults(source.load, seconds=2, clock=clock)

    assert [await results.get("a"), await results.get("b"), await results.get("a")] == ["a1", "b2", "a1"]
    clock.now += 1.99
    assert await results.get("a") == "a1"
    clock.now += 0.01
    assert await results.get("a") == "a3"


async def test_concurrent_requests_share_a_load_that_survives_the_first_of_them() -> None:
    source = Source()
    source.may_end.clear()
    results = RecentResults(source.load, seconds=2)
    first, second = asyncio.create_task(results.get("a")), asyncio.create_task(results.get("a"))
    await asyncio.sleep(0)
    first.cancel()
    source.may_end.set()

    assert await second == "a1"
    assert next(source.loads) == 2


async def test_a_failure_is_not_kept() -> None:
    source = Source()
    results = RecentResults(source.load, seconds=2)
    source.error = LookupError()
    with pytest.raises(LookupError):
        await results.get("a")
    source.error = None

    assert await results.get("a") == "a2"


async def test_the_oldest_result_makes_room() -> None:
    source = Source()
    results = RecentResults(source.load, seconds=2, most=2)

    assert [await results.get(key) for key in "abcba"] == ["a1", "b2", "c3", "b2", "a4"]
