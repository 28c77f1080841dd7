"""The guarded client: quick to give up, quick to come back."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from redis.asyncio import Redis

from local_platform.stores import StoreSet
from servicekit.testing.logs import logged_lines
from servicekit.valkey.client import FAILURES_TO_OPEN, PAUSE_SECONDS, Valkey, ValkeyUnavailable, create_client


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def client(valkey_url: str) -> AsyncIterator[Redis]:
    async with create_client(SecretStr(valkey_url), application="test") as client:
        yield client


async def ping(client: Redis) -> bool:
    return bool(await client.ping())


async def fail(valkey: Valkey, times: int = FAILURES_TO_OPEN) -> None:
    async def refuse(client: Redis) -> None:
        raise ConnectionError

    for _ in range(times):
        with pytest.raises(ValkeyUnavailable):
            await valkey.run(refuse)


async def test_several_failures_open_the_circuit_and_one_success_after_the_pause_closes_it(client: Redis) -> None:
    clock = Clock()
    valkey = Valkey(client, clock=clock)
    await fail(valkey, FAILURES_TO_OPEN - 1)
    assert await valkey.run(ping)
    await fail(valkey)
    assert REGISTRY.get_sample_value("service_valkey_away") == 1
    with pytest.raises(ValkeyUnavailable):
        await valkey.run(ping)
    clock.now = PAUSE_SECONDS
    assert await valkey.run(ping)
    assert REGISTRY.get_sample_value("service_valkey_away") == 0
    assert await valkey.run(ping)


async def test_after_the_pause_a_single_call_finds_out_while_the_others_go_on_without(client: Redis) -> None:
    clock = Clock()
    valkey = Valkey(client, clock=clock)
    await fail(valkey)
    clock.now = PAUSE_SECONDS
    calls = 0

    async def count(client: Redis) -> None:
        nonlocal calls
        calls += 1
        await client.ping()

    results = await asyncio.gather(*(valkey.run(count) for _ in range(10)), return_exceptions=True)
    assert calls == 1
    assert [result for result in results if not isinstance(result, ValkeyUnavailable)] == [None]


async def test_a_call_to_a_stuck_server_times_out_and_its_late_reply_reaches_no_other_call(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python 3.11 may lose the cancellation by `Valkey.run`; the socket's own time-out ends such a call.
    monkeypatch.setattr("servicekit.valkey.client.CALL_SECONDS", 5)
    async with create_client(SecretStr(valkey_url), application="test") as client, Redis.from_url(valkey_url) as other:
        valkey = Valkey(client)
        await client.mset({str(number): number for number in range(20)})
        # Pausing writes alone leaves the server able to notice closed connections.
        await other.client_pause(60_000, all=False)
        monkeypatch.setattr("servicekit.valkey.client.CALL_SECONDS", 0.25)
        writes = (valkey.run(lambda client: client.set("late", "x")) for _ in range(20))
        stuck = await asyncio.gather(*writes, return_exceptions=True)
        assert {type(result) for result in stuck} == {ValkeyUnavailable}
        await other.client_unpause()
        values = await asyncio.gather(*(client.get(str(number)) for number in range(20)))
        assert values == [str(number).encode() for number in range(20)]


async def test_a_server_that_went_and_came_back_is_used_again(client: Redis, stores: StoreSet) -> None:
    valkey = Valkey(client)
    assert await valkey.run(ping)
    await stores.stop("valkey")
    try:
        for _ in range(FAILURES_TO_OPEN + 1):
            with pytest.raises(ValkeyUnavailable):
                await valkey.run(ping)
    finally:
        await stores.start("valkey")
    async with asyncio.timeout(60):
        while True:
            try:
                assert await valkey.run(ping)
                return
            except ValkeyUnavailable:
                await asyncio.sleep(0.05)


async def test_a_cancelled_probe_lets_the_next_call_probe() -> None:
    clock = Clock()
    async with create_client(SecretStr("redis://127.0.0.1:1"), application="test") as client:
        valkey = Valkey(client, clock=clock)
        await fail(valkey)
        clock.now = PAUSE_SECONDS

        async def wait_for_ever(client: Redis) -> None:
            await asyncio.Event().wait()

        async def succeed(client: Redis) -> str:
            return "available"

        probe = asyncio.create_task(valkey.run(wait_for_ever))
        await asyncio.sleep(0)
        with pytest.raises(ValkeyUnavailable):
            await valkey.run(succeed)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)

        assert await valkey.run(succeed) == "available"


async def test_an_outage_and_its_end_are_logged_once_however_many_probes_fail() -> None:
    clock = Clock()
    with logged_lines() as lines:
        async with create_client(SecretStr("redis://127.0.0.1:1"), application="test") as client:
            valkey = Valkey(client, clock=clock)
            await fail(valkey)
            for _ in range(3):
                clock.now += PAUSE_SECONDS
                await fail(valkey, 1)
            clock.now += PAUSE_SECONDS
            await valkey.run(lambda _client: asyncio.sleep(0))

    assert [line for line in lines if "Valkey" in line] == [
        "Valkey is unavailable, continuing without it: ConnectionError: ",
        "Valkey is available again",
    ]
