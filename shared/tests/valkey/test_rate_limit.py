"""Token buckets on a real Valkey; two clients stand for two replicas."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from local_platform.stores import StoreSet
from servicekit.core.errors import TooManyRequests
from servicekit.valkey.client import Valkey, create_client
from servicekit.valkey.rate_limit import TokenBucket


@pytest.fixture
async def replicas(own_valkey_url: str) -> AsyncIterator[list[Valkey]]:
    clients = [create_client(SecretStr(own_valkey_url), application="test") for _ in range(2)]
    yield [Valkey(client) for client in clients]
    for client in clients:
        await client.aclose()


def buckets(replicas: list[Valkey], rate: float) -> list[TokenBucket]:
    return [TokenBucket(valkey, service="test", name="things", rate=rate) for valkey in replicas]


async def test_200_concurrent_takes_over_two_replicas_let_exactly_the_burst_through(replicas: list[Valkey]) -> None:
    one, two = buckets(replicas, 10)
    started = time.monotonic()
    decisions = await asyncio.gather(*((one, two)[number % 2].take("ann") for number in range(200)))
    refilled = int((time.monotonic() - started) * 10)
    assert 20 <= sum(decision.allowed for decision in decisions) <= 20 + refilled
    assert all(0 < decision.retry_after <= 0.1 for decision in decisions if not decision.allowed)


async def test_a_bucket_that_hardly_refills_lets_not_one_more_through(replicas: list[Valkey]) -> None:
    # Full, it holds one take; the next one is there after 2 s.
    one, two = buckets(replicas, 0.005)
    takes = ((one, two)[number % 2].take("ann", cost=0.01) for number in range(200))
    assert sum(decision.allowed for decision in await asyncio.gather(*takes)) == 1


async def test_a_wait_of_retry_after_is_enough(replicas: list[Valkey]) -> None:
    bucket, _ = buckets(replicas, 5)
    # At once, so that a slow machine empties the bucket as well.
    decisions = await asyncio.gather(*(bucket.take("ann") for _ in range(50)))
    await asyncio.sleep(max(decision.retry_after for decision in decisions))
    assert (await bucket.take("ann")).allowed


async def test_each_subject_has_its_own_bucket(replicas: list[Valkey]) -> None:
    bucket, _ = buckets(replicas, 0.5)
    assert (await bucket.take("ann")).allowed
    assert not (await bucket.take("ann")).allowed
    assert (await bucket.take("bob")).allowed


async def test_a_refusal_has_retry_after_in_whole_seconds(replicas: list[Valkey]) -> None:
    bucket, _ = buckets(replicas, 0.5)
    await bucket.consume("ann")
    with pytest.raises(TooManyRequests) as refusal:
        await bucket.consume("ann")
    assert refusal.value.headers["Retry-After"] == "2"


async def test_more_than_a_bucket_holds_is_a_mistake_of_the_caller(replicas: list[Valkey]) -> None:
    bucket, _ = buckets(replicas, 1)
    with pytest.raises(ValueError, match="never holds 3"):
        await bucket.take("ann", cost=3)


async def test_a_rate_of_zero_switches_the_limit_off(replicas: list[Valkey]) -> None:
    bucket, _ = buckets(replicas, 0)
    for _ in range(50):
        await bucket.consume("ann")
    assert not await replicas[0].client.keys("*")


async def test_an_unused_bucket_expires_once_it_is_full(replicas: list[Valkey]) -> None:
    bucket, _ = buckets(replicas, 10)
    await bucket.take("ann")
    assert 2000 <= await replicas[0].client.pttl("test:quota:things:ann") <= 3000


async def test_without_valkey_everything_passes_and_is_counted_and_then_the_limit_is_back(
    replicas: list[Valkey], stores: StoreSet
) -> None:
    def unchecked() -> float:
        return REGISTRY.get_sample_value("service_quota_unchecked_total", {"quota": "things"}) or 0

    bucket, _ = buckets(replicas, 0.5)
    before = unchecked()
    await stores.stop("valkey")
    try:
        for _ in range(10):
            assert (await bucket.take("ann")).allowed
        assert unchecked() == before + 10
    finally:
        await stores.start("valkey")
    # The script is gone as well: it is loaded again.
    async with asyncio.timeout(60):
        while (await bucket.take("ann")).allowed:
            await asyncio.sleep(0.05)
