"""A message is accepted once: by one process, by all replicas, and as far as possible without Valkey."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from local_platform.stores import StoreSet
from servicekit.sealing import replay
from servicekit.sealing.ciphers import LIFETIME_SECONDS
from servicekit.sealing.envelope import CLOCK_SKEW_SECONDS, EnvelopeRefused, Refusal
from servicekit.sealing.replay import DEGRADED, MEMORY_CHECKS, RecentNonces, ReplayGuard, ValkeyNonces
from servicekit.testing.sealed import MemoryNonces


class Clock:
    """Time that moves only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def _accepts(guard: ReplayGuard, nonce: str) -> bool:
    try:
        await guard.claim(nonce)
    except EnvelopeRefused as refused:
        if refused.reason is Refusal.REPLAYED:
            return False
        raise
    return True


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


async def _until_shared() -> None:
    await _until(lambda: DEGRADED._value.get() == 0)


@pytest.fixture(autouse=True)
def _quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PROBE_SECONDS", 0.01)
    DEGRADED.set(0)


def test_a_nonce_is_remembered_longer_than_its_message_can_be_valid() -> None:
    assert replay.REMEMBER_SECONDS >= LIFETIME_SECONDS + 2 * CLOCK_SKEW_SECONDS


def test_memory_keeps_a_nonce_for_one_to_two_generations() -> None:
    clock = Clock()
    memory = RecentNonces(45, 100, clock)
    for second in range(200):
        clock.now += 1
        memory.add(f"n{second}")
        for age in range(min(45, second) + 1):
            assert f"n{second - age}" in memory
        assert f"n{second - 91}" not in memory
        assert len(memory.all()) <= 91


def test_memory_forgets_everything_after_a_long_pause() -> None:
    clock = Clock()
    memory = RecentNonces(45, 10, clock)
    memory.add("old")
    clock.now += 91

    assert "old" not in memory
    assert not memory.all()


def test_memory_is_bounded_and_reports_when_it_is_full() -> None:
    clock = Clock()
    memory = RecentNonces(45, 3, clock)
    assert [memory.add(str(n)) for n in range(5)] == [True, True, True, False, False]
    clock.now += 46
    assert memory.add("again")
    assert "0" in memory


async def test_a_nonce_is_accepted_once() -> None:
    async with ReplayGuard(MemoryNonces()) as guard:
        assert [await _accepts(guard, nonce) for nonce in ("a", "a", "b", "a", "b")] == [
            True,
            False,
            True,
            False,
            False,
        ]


async def test_a_nonce_that_one_replica_accepted_is_refused_by_another() -> None:
    store = MemoryNonces()
    async with ReplayGuard(store) as first, ReplayGuard(store) as second:
        assert await _accepts(first, "a")
        assert not await _accepts(second, "a")


async def test_one_of_many_concurrent_copies_is_accepted_even_without_the_store() -> None:
    store = MemoryNonces()
    store.unavailable = True
    async with ReplayGuard(store) as guard:
        accepted = await asyncio.gather(*(_accepts(guard, "a") for _ in range(20)))
        store.unavailable = False
        await _until_shared()

    assert sum(accepted) == 1


async def test_without_the_store_the_process_remembers_and_a_metric_says_so() -> None:
    store = MemoryNonces()
    checks = MEMORY_CHECKS._value.get()
    async with ReplayGuard(store) as guard:
        store.unavailable = True
        assert await _accepts(guard, "a")
        assert not await _accepts(guard, "a")
        assert DEGRADED._value.get() == 1
        assert MEMORY_CHECKS._value.get() == checks + 1


async def test_an_unavailable_store_is_not_asked_for_every_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PROBE_SECONDS", 3600)
    store = MemoryNonces()
    store.unavailable = True
    async with ReplayGuard(store) as guard:
        for number in range(50):
            assert await _accepts(guard, str(number))
            await asyncio.sleep(0)

    assert store.asked == 2


async def test_a_hanging_store_counts_as_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "STORE_SECONDS", 0.01)

    class Hanging(MemoryNonces):
        async def claim(self, nonce: str) -> bool:
            await asyncio.Event().wait()
            return True

    async with ReplayGuard(Hanging()) as guard:
        assert await _accepts(guard, "a")
        assert not await _accepts(guard, "a")


async def test_a_nonce_accepted_without_the_store_is_refused_by_others_after_recovery() -> None:
    store = MemoryNonces()
    async with ReplayGuard(store) as first, ReplayGuard(store) as second:
        store.unavailable = True
        assert await _accepts(first, "during")
        store.unavailable = False
        await _until_shared()

        assert not await _accepts(second, "during")


async def test_a_store_that_came_back_empty_learns_all_remembered_nonces() -> None:
    store = MemoryNonces()
    async with ReplayGuard(store) as first, ReplayGuard(store) as second:
        before = [f"n{number}" for number in range(2500)]
        for nonce in before:
            assert await _accepts(first, nonce)
        store.nonces.clear()
        store.unavailable = True
        asked = store.asked
        assert await _accepts(first, "during")
        await _until(lambda: store.asked >= asked + 3)
        store.unavailable = False
        await _until_shared()

        assert store.nonces == {*before, "during"}
        assert not await _accepts(second, before[0])


async def test_one_slow_reply_delays_only_its_own_nonce() -> None:
    store = MemoryNonces()
    async with ReplayGuard(store) as guard:
        for number in range(100):
            assert await _accepts(guard, str(number))
        asked = store.asked
        store.unavailable = True
        assert await _accepts(guard, "slow")
        store.unavailable = False
        await _until_shared()

        # The request itself, and one batch with its nonce.
        assert store.asked == asked + 2
        assert "slow" in store.nonces


async def test_a_full_memory_refuses_without_the_store_and_accepts_with_it() -> None:
    store = MemoryNonces()
    async with ReplayGuard(store, memory=RecentNonces(45, 2)) as guard:
        for nonce in ("a", "b", "c"):
            assert await _accepts(guard, nonce)
        assert not await _accepts(guard, "c")
        store.unavailable = True
        with pytest.raises(EnvelopeRefused, match=Refusal.NONCES_FULL):
            await guard.claim("d")


async def test_a_closed_guard_leaves_no_task_behind() -> None:
    store = MemoryNonces()
    store.unavailable = True
    async with ReplayGuard(store) as guard:
        await _accepts(guard, "a")
        assert _replay_tasks()

    assert not _replay_tasks()


def _replay_tasks() -> list[asyncio.Task[Any]]:
    """Return the tasks of the module. Clients of other tests may have tasks of their own."""
    return [task for task in asyncio.all_tasks() if "sealing/replay" in repr(task)]


async def test_valkey_lets_one_of_many_replicas_accept_a_nonce(valkey: Redis) -> None:
    guards = [ReplayGuard(ValkeyNonces(valkey, "analytics")) for _ in range(4)]

    accepted = await asyncio.gather(*(_accepts(guard, "a") for guard in guards for _ in range(5)))

    assert sum(accepted) == 1
    assert DEGRADED._value.get() == 0


async def test_valkey_keeps_nonces_per_service_and_for_their_time(valkey: Redis) -> None:
    assert await ValkeyNonces(valkey, "analytics").claim("user:a")
    assert await ValkeyNonces(valkey, "user").claim("user:a")
    await ValkeyNonces(valkey, "user").add(["user:b", "user:a"])

    keys = sorted(await valkey.keys())
    assert keys == [b"analytics:nonce:user:a", b"user:nonce:user:a", b"user:nonce:user:b"]
    for key in keys:
        assert replay.REMEMBER_SECONDS - 5 < await valkey.ttl(key) <= replay.REMEMBER_SECONDS


async def test_a_command_repeated_by_the_driver_is_not_a_replay(valkey: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply to the first SET was lost, so the driver sends the same command again."""
    execute: Any = valkey.execute_command

    async def twice(*command: object, **options: object) -> object:
        await execute(*command, **options)
        return await execute(*command, **options)

    monkeypatch.setattr(valkey, "execute_command", twice)
    nonces = ValkeyNonces(valkey, "analytics")

    assert await nonces.claim("a")
    assert not await nonces.claim("a")


@pytest.mark.parametrize("decode", [False, True])
async def test_the_driver_may_decode_replies_or_not(valkey_url: str, decode: bool) -> None:
    async with Redis.from_url(valkey_url, decode_responses=decode) as client:
        nonces = ValkeyNonces(client, "analytics")
        assert [await nonces.claim("a"), await nonces.claim("a")] == [True, False]


async def test_no_nonce_is_accepted_twice_when_valkey_dies_and_comes_back_empty(
    stores: StoreSet, valkey_url: str
) -> None:
    clients = [Redis.from_url(valkey_url) for _ in range(2)]
    first, second = (ReplayGuard(ValkeyNonces(client, "analytics")) for client in clients)
    try:
        assert await _accepts(first, "before")
        await stores.stop("valkey")
        try:
            assert await _accepts(first, "during")
            assert not await _accepts(first, "before")
            assert DEGRADED._value.get() == 1
        finally:
            await stores.start("valkey")
        await _until_shared()

        for guard in (first, second):
            assert [await _accepts(guard, nonce) for nonce in ("before", "during", "after")][:2] == [False, False]
        assert DEGRADED._value.get() == 0
    finally:
        for guard, client in zip((first, second), clients, strict=True):
            await guard.aclose()
            await client.aclose()
