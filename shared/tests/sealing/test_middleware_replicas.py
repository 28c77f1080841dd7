"""A sealed message is executed once, whichever replica gets it and whatever happens to Valkey meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from local_platform.stores import StoreSet
from servicekit.sealing import replay
from servicekit.sealing.replay import DEGRADED, ValkeyNonces

PATH = "/api/v1/parcels"


@pytest.fixture
async def replicas(make_replica: Any, valkey_url: str) -> AsyncIterator[list[Any]]:
    """Two replicas that have nothing in common but Valkey."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Redis.from_url(valkey_url)) for _ in range(2)]
        yield [make_replica(ValkeyNonces(client, "analytics")) for client in clients]


def _executed(replicas: list[Any]) -> list[str]:
    return [name for replica in replicas for name in replica.executed]


@pytest.mark.parametrize(("method", "target", "json"), [("POST", PATH, {"weight": 3}), ("GET", f"{PATH}/sealed", None)])
async def test_a_request_that_one_replica_executed_is_refused_by_the_other(
    replicas: list[Any], make_peer: Any, method: str, target: str, json: Any
) -> None:
    first, second = (make_peer(replica) for replica in replicas)
    recorded = first.seal(method, target, json=json)

    assert first.open(recorded, await first.send(recorded)).status < 300
    for peer in (second, first, second):
        assert (await peer.send(recorded)).status_code == 401
    assert len(_executed(replicas)) == 1


async def test_one_of_twenty_concurrent_copies_is_executed(replicas: list[Any], make_peer: Any) -> None:
    peers = [make_peer(replica) for replica in replicas]
    for _ in range(5):
        recorded = peers[0].seal("POST", PATH, json={"weight": 3})
        responses = await asyncio.gather(*(peer.send(recorded) for peer in peers for _ in range(10)))

        assert sorted(response.status_code for response in responses) == [201] + [401] * 19
        assert _executed(replicas) == ["create"]
        for replica in replicas:
            replica.executed.clear()


async def test_different_concurrent_requests_are_all_executed(replicas: list[Any], make_peer: Any) -> None:
    peers = [make_peer(replica) for replica in replicas]
    responses = await asyncio.gather(
        *(peer.call("POST", PATH, json={"weight": n}) for peer in peers for n in range(50))
    )

    assert sorted(response.json()["weight"] for response in responses) == sorted([*range(50)] * 2)
    assert len(_executed(replicas)) == 100


async def test_without_valkey_a_process_executes_a_message_once_and_later_no_other_process_does(
    replicas: list[Any], make_peer: Any, stores: StoreSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "PROBE_SECONDS", 0.01)
    DEGRADED.set(0)
    first, second = (make_peer(replica) for replica in replicas)
    before, during = (first.seal("POST", PATH, json={"weight": weight}) for weight in (1, 2))
    assert (await first.send(before)).status_code == 201

    await stores.stop("valkey")
    try:
        assert (await first.send(before)).status_code == 401
        responses = await asyncio.gather(*(first.send(during) for _ in range(20)))
        assert sorted(response.status_code for response in responses) == [201] + [401] * 19
        assert DEGRADED._value.get() == 1
    finally:
        await stores.start("valkey")
    async with asyncio.timeout(60):
        while DEGRADED._value.get():
            await asyncio.sleep(0.01)

    for recorded in (before, during):
        for peer in (first, second):
            assert (await peer.send(recorded)).status_code == 401
    assert _executed(replicas) == ["create", "create"]
