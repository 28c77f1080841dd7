"""Connections are spread over the workers of a replica."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from servicekit.server import accepting
from servicekit.server.accepting import SLACK, BalancedListener, ConnectionCounts


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> ConnectionCounts:
    counts = ConnectionCounts()
    monkeypatch.setattr(accepting, "counts", counts)
    return counts


def _other_worker(counts: ConnectionCounts, connections: int) -> int | None:
    """Let another worker have so many connections; return its place."""
    place, own = counts.reserve(), counts._own
    counts.take(place)
    counts.report(connections)
    counts.take(own)
    return place


def test_a_worker_leaves_connections_to_one_that_has_fewer(counts: ConnectionCounts) -> None:
    counts.take(counts.reserve())
    _other_worker(counts, 3)

    assert not counts.is_ahead(3 + SLACK)
    assert counts.is_ahead(4 + SLACK)


def test_a_worker_that_stops_leaves_connections_to_others_and_gets_none(counts: ConnectionCounts) -> None:
    counts.take(counts.reserve())
    other = _other_worker(counts, 1_000)
    counts.report(0)

    counts.stop()
    assert counts.is_ahead(0)
    # It stays so, whatever it reports.
    counts.report(0)
    counts.take(other)
    counts._stopping = False
    assert not counts.is_ahead(1_000)


@pytest.mark.parametrize("others", [pytest.param([], id="alone"), pytest.param([None], id="beside one that starts")])
def test_a_worker_takes_what_no_other_worker_can_take(counts: ConnectionCounts, others: list[None]) -> None:
    counts.take(counts.reserve())
    for _ in others:
        counts.reserve()

    assert not counts.is_ahead(500)


def test_the_place_of_an_ended_worker_is_used_again(counts: ConnectionCounts) -> None:
    places = [counts.reserve() for _ in range(3)]
    counts.take(places[0])
    counts.report(9)
    counts.release(places[1])

    assert counts.reserve() == places[1]
    assert not counts.is_ahead(9)


def test_workers_beyond_the_places_take_what_they_get(counts: ConnectionCounts) -> None:
    while counts.reserve() is not None:
        pass
    counts.take(None)
    counts.report(9)
    counts.release(None)

    assert not counts.is_ahead(9)


def test_processes_see_the_counts_of_each_other(counts: ConnectionCounts) -> None:
    counts.take(counts.reserve())
    place = counts.reserve()
    if (child := os.fork()) == 0:
        counts.take(place)
        counts.report(2)
        os._exit(0)
    os.waitpid(child, 0)

    assert counts.is_ahead(3 + SLACK)
    assert not counts.is_ahead(2 + SLACK)


@asynccontextmanager
async def _listening() -> AsyncIterator[tuple[tuple[str, int], list[socket.socket]]]:
    """Accept connections; give the address and what has been accepted."""
    accepted: list[socket.socket] = []

    async def connect(client: socket.socket) -> None:
        accepted.append(client)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = BalancedListener(listener, connect, lambda: len(accepted))
        try:
            yield listener.getsockname(), accepted
        finally:
            server.close()
            await server.wait_closed()
            for client in accepted:
                client.close()


async def _until(accepted: list[socket.socket], count: int) -> None:
    async with asyncio.timeout(60):
        while len(accepted) < count:
            await asyncio.sleep(0)


async def test_a_connection_that_nobody_else_takes_is_accepted_in_the_end(counts: ConnectionCounts) -> None:
    counts.take(counts.reserve())
    _other_worker(counts, 0)
    async with _listening() as (address, accepted):
        clients = [socket.create_connection(address) for _ in range(SLACK + 2)]
        await _until(accepted, SLACK + 2)
        for client in clients:
            client.close()


async def test_the_rest_of_a_burst_is_left_to_a_worker_that_has_fewer(
    counts: ConnectionCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "PATIENCE_SECONDS", 3600)
    counts.take(counts.reserve())
    other = _other_worker(counts, 0)
    async with _listening() as (address, accepted):
        clients = [socket.create_connection(address) for _ in range(SLACK + 2)]
        await _until(accepted, SLACK + 1)
        assert len(accepted) == SLACK + 1
        # The other worker has got connections meanwhile, so it is this one's turn.
        counts._counts[other or 0] = 5
        await _until(accepted, SLACK + 2)
        for client in clients:
            client.close()
