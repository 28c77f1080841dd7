"""Limits on failures: one contract for Valkey and for the memory that replaces it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from servicekit.core.errors import TooManyRequests
from servicekit.valkey.client import Valkey, create_client
from user.tests.fakes import UnavailableValkey
from user_service.throttling.failure_limits import (
    FailureCounter,
    FailureLimit,
    FailureLimits,
    FailureMemory,
    TooManyFailures,
)

PAIR = FailureLimit("pair", 3, 900)
ADDRESS = FailureLimit("address", 5, 900)
ACCOUNT = FailureLimit("account", 5, 3600)
SOON = FailureLimit("soon", 1, 1)

ANN = FailureCounter(PAIR, "ann 1")


@pytest.fixture(params=["memory", pytest.param("valkey", marks=pytest.mark.servers)])
def server_url(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("valkey_url") if request.param == "valkey" else None


@pytest.fixture
async def limits(server_url: str | None) -> AsyncIterator[list[FailureLimits]]:
    """Two replicas on Valkey; the memory belongs to one process and stands for both."""
    if server_url is None:
        alone = FailureLimits(UnavailableValkey(), service="test")
        yield [alone, alone]
        return
    async with (
        create_client(SecretStr(server_url), application="test") as one,
        create_client(SecretStr(server_url), application="test") as two,
    ):
        yield [FailureLimits(Valkey(client), service="test") for client in (one, two)]


async def _full(limits: FailureLimits, limit: FailureLimit, subject: str) -> bool:
    try:
        await limits.check(FailureCounter(limit, subject))
    except TooManyRequests:
        return True
    return False


async def test_failures_up_to_the_limit_pass_and_the_next_is_refused(limits: list[FailureLimits]) -> None:
    for _ in range(3):
        await limits[0].check(ANN)
        await limits[1].record_failure(ANN)
    for attempt in (limits[0].check, limits[1].record_failure):
        with pytest.raises(TooManyRequests) as refusal:
            await attempt(ANN)
        assert 890 < int(refusal.value.headers["Retry-After"]) <= 900
    await limits[0].check(FailureCounter(PAIR, "bob 1"))


async def test_a_check_counts_nothing(limits: list[FailureLimits]) -> None:
    for _ in range(20):
        await limits[0].check(ANN)


async def test_of_many_concurrent_failures_exactly_the_limit_passes(limits: list[FailureLimits]) -> None:
    results = await asyncio.gather(
        *(limits[number % 2].record_failure(FailureCounter(ADDRESS, "1")) for number in range(60)),
        return_exceptions=True,
    )
    assert results.count(None) == 5
    assert {type(result) for result in results if result} == {TooManyFailures}


async def test_a_refused_failure_is_counted_nowhere(limits: list[FailureLimits]) -> None:
    for number in range(10):
        attempt = limits[0].record_failure(ANN, FailureCounter(ADDRESS, "1"))
        if number < 3:
            await attempt
        else:
            with pytest.raises(TooManyRequests):
                await attempt
    assert not await _full(limits[0], ADDRESS, "1")


async def test_a_limit_that_does_not_refuse_still_counts(limits: list[FailureLimits]) -> None:
    known = (FailureCounter(ADDRESS, "1"), FailureCounter(ACCOUNT, "ann", refuses=False))
    for number in range(5):
        await limits[0].record_failure(FailureCounter(ADDRESS, f"other {number}"), FailureCounter(ACCOUNT, "ann"))
    assert await _full(limits[0], ACCOUNT, "ann")
    await limits[0].check(*known)
    for _ in range(5):
        await limits[0].record_failure(*known)
    with pytest.raises(TooManyRequests):
        await limits[0].record_failure(*known)
    assert await _full(limits[0], ADDRESS, "1")
    with pytest.raises(TooManyRequests):
        await limits[0].check(FailureCounter(ADDRESS, "2"), FailureCounter(ACCOUNT, "ann"))


async def test_a_success_ends_the_windows_that_forgive_unless_a_limit_refuses_it(limits: list[FailureLimits]) -> None:
    forgiving = FailureCounter(PAIR, "ann 1", forgives=True)
    for _ in range(2):
        await limits[0].record_failure(forgiving, FailureCounter(ADDRESS, "1"))
    await limits[1].record_success(forgiving, FailureCounter(ADDRESS, "1"))
    for _ in range(3):
        await limits[0].record_failure(forgiving, FailureCounter(ADDRESS, "1"))
    assert await _full(limits[1], ADDRESS, "1")

    for success in ((forgiving,), (FailureCounter(PAIR, "bob 1", forgives=True), FailureCounter(ADDRESS, "1"))):
        with pytest.raises(TooManyRequests):
            await limits[1].record_success(*success)
    assert await _full(limits[1], PAIR, "ann 1")


async def test_a_window_ends_after_the_announced_time(limits: list[FailureLimits]) -> None:
    counter = FailureCounter(SOON, "ann")
    await limits[0].record_failure(counter)
    with pytest.raises(TooManyRequests) as refusal:
        await limits[0].check(counter)
    assert refusal.value.headers["Retry-After"] == "1"
    await asyncio.sleep(1.01)
    await limits[0].check(counter)


async def test_what_clients_typed_is_not_readable_in_valkey(own_valkey_url: str) -> None:
    async with create_client(SecretStr(own_valkey_url), application="test") as client:
        await FailureLimits(Valkey(client), service="test").record_failure(FailureCounter(PAIR, "ann@example.com"))
        (key,) = await client.keys("*")
    assert key.startswith(b"test:failures:pair:")
    assert not any(part in key for part in (b"ann", b"example.com"))


async def test_without_valkey_the_limit_holds_in_each_process_and_a_metric_says_so() -> None:
    def local() -> float:
        return REGISTRY.get_sample_value("service_failure_limits_local_total") or 0

    # Nothing listens on port 1.
    async with create_client(SecretStr("redis://127.0.0.1:1"), application="test") as nowhere:
        limits, before = FailureLimits(Valkey(nowhere), service="test"), local()
        for _ in range(3):
            await limits.record_failure(ANN)
        with pytest.raises(TooManyRequests):
            await limits.record_failure(ANN)
        assert local() == before + 4


def test_the_memory_is_bounded_and_forgets_the_oldest_window_first() -> None:
    memory = FailureMemory(capacity=2)
    for key in ("a", "b", "c"):
        memory.settle([key], [FailureCounter(SOON, key)], "failure")
    full = [memory.settle([key], [FailureCounter(SOON, key)], "unknown")[0] >= 0 for key in ("a", "b", "c")]
    assert full == [False, True, True]
