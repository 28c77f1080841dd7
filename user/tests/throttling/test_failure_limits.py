"""Limits on failures: one contract for Valkey and for the memory that stands in for it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from redis.asyncio import Redis

from servicekit.core.errors import TooManyRequests
from servicekit.valkey.client import Valkey, ValkeyUnavailable, create_client
from user_service.throttling.failure_limits import Counted, FailureLimit, FailureLimits, FailureMemory

PAIR = FailureLimit("pair", 3, 900)
ADDRESS = FailureLimit("address", 5, 900)
ACCOUNT = FailureLimit("account", 5, 3600)
SOON = FailureLimit("soon", 1, 1)


class AwayValkey(Valkey):
    async def run(self, command: object) -> object:  # type: ignore[override]
        raise ValkeyUnavailable


@pytest.fixture(params=["valkey", "memory"])
async def limits(request: pytest.FixtureRequest, valkey_url: str) -> AsyncIterator[list[FailureLimits]]:
    """Two replicas on Valkey; the memory belongs to one process and stands for both."""
    async with (
        create_client(SecretStr(valkey_url), application="test") as one,
        create_client(SecretStr(valkey_url), application="test") as two,
    ):
        if request.param == "memory":
            alone = FailureLimits(AwayValkey(one), service="test")
            yield [alone, alone]
        else:
            yield [FailureLimits(Valkey(client), service="test") for client in (one, two)]


async def test_failures_up_to_the_limit_pass_and_the_next_is_refused(limits: list[FailureLimits]) -> None:
    for _ in range(3):
        (await limits[0].look(Counted(PAIR, "ann 1"))).check()
        (await limits[1].count(Counted(PAIR, "ann 1"))).check()
    for verdict in (await limits[0].look(Counted(PAIR, "ann 1")), await limits[1].count(Counted(PAIR, "ann 1"))):
        assert verdict.full == {"pair"}
        assert 890 < verdict.retry_after <= 900
        with pytest.raises(TooManyRequests):
            verdict.check()
    (await limits[0].look(Counted(PAIR, "bob 1"))).check()


async def test_successes_count_nothing(limits: list[FailureLimits]) -> None:
    for _ in range(20):
        (await limits[0].look(Counted(PAIR, "ann 1"))).check()


async def test_of_many_failures_at_once_exactly_the_limit_is_told_apart(limits: list[FailureLimits]) -> None:
    verdicts = await asyncio.gather(*(limits[number % 2].count(Counted(ADDRESS, "1")) for number in range(60)))
    assert sum(not verdict.retry_after for verdict in verdicts) == 5


async def test_a_refused_failure_is_counted_nowhere(limits: list[FailureLimits]) -> None:
    for _ in range(10):
        await limits[0].count(Counted(PAIR, "ann 1"), Counted(ADDRESS, "1"))
    assert (await limits[0].look(Counted(ADDRESS, "1"))).full == set()


async def test_a_limit_that_does_not_refuse_is_counted_and_reported(limits: list[FailureLimits]) -> None:
    known = (Counted(ADDRESS, "1"), Counted(ACCOUNT, "ann", refuses=False))
    for number in range(5):
        (await limits[0].count(Counted(ADDRESS, f"other {number}"), Counted(ACCOUNT, "ann"))).check()
    verdict = await limits[0].look(*known)
    assert verdict.full == {"account"}
    verdict.check()
    for _ in range(5):
        (await limits[0].count(*known)).check()
    assert (await limits[0].count(*known)).full == {"account", "address"}
    with pytest.raises(TooManyRequests):
        (await limits[0].look(Counted(ADDRESS, "2"), Counted(ACCOUNT, "ann"))).check()


async def test_a_window_ends(limits: list[FailureLimits]) -> None:
    await limits[0].count(Counted(SOON, "ann"))
    verdict = await limits[0].look(Counted(SOON, "ann"))
    assert 0 < verdict.retry_after <= 1
    await asyncio.sleep(verdict.retry_after + 0.01)
    (await limits[0].look(Counted(SOON, "ann"))).check()


async def test_what_strangers_typed_is_not_readable_in_valkey(valkey_url: str) -> None:
    async with create_client(SecretStr(valkey_url), application="test") as client:
        await FailureLimits(Valkey(client), service="test").count(Counted(PAIR, "ann@example.com"))
        (key,) = await client.keys("*")
    assert key.startswith(b"test:failures:pair:")
    assert b"ann" not in key


async def test_without_valkey_the_limit_holds_in_each_process_and_is_counted() -> None:
    def local() -> float:
        return REGISTRY.get_sample_value("service_failure_limits_local_total") or 0

    # Nothing listens on port 1.
    async with Redis(port=1) as nowhere:
        limits, before = FailureLimits(Valkey(nowhere), service="test"), local()
        for _ in range(3):
            (await limits.count(Counted(PAIR, "ann 1"))).check()
        with pytest.raises(TooManyRequests):
            (await limits.count(Counted(PAIR, "ann 1"))).check()
        assert local() == before + 4


def test_the_memory_is_bounded_and_forgets_the_oldest_first() -> None:
    memory = FailureMemory(capacity=2)
    for key in ("a", "b", "c"):
        memory.settle([key], [Counted(SOON, key)], count=True)
    assert [memory.settle([key], [Counted(SOON, key)], count=False)[0] >= 0 for key in ("a", "b", "c")] == [
        False,
        True,
        True,
    ]
