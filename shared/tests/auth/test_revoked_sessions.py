"""Ended sessions reach every process, and a Valkey that lost them does not make them valid again."""

import time
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from servicekit.auth import revoked_sessions as revoked_sessions
from servicekit.auth.revoked_sessions import RevokedSessions


@pytest.fixture
async def valkey(valkey_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(valkey_url) as client:
        yield client


async def test_a_published_end_is_known_to_every_process_after_a_refresh(valkey: Redis) -> None:
    publisher, *followers = (RevokedSessions(valkey) for _ in range(3))
    session = uuid4()
    await publisher.refill({})
    assert await publisher.publish({session: time.time() + 60})

    for follower in followers:
        assert session not in follower
        await follower.refresh()
        assert session in follower


async def test_more_revocations_than_one_batch_all_arrive(valkey: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revoked_sessions, "BATCH", 10)
    sessions = {uuid4(): time.time() + 60 for _ in range(35)}
    await RevokedSessions(valkey).refill(sessions)

    follower = RevokedSessions(valkey)
    await follower.refresh()
    assert all(session in follower for session in sessions)


async def test_an_emptied_valkey_looks_complete_only_once_it_was_refilled(valkey: Redis) -> None:
    follower, before, after = RevokedSessions(valkey), uuid4(), uuid4()
    await follower.refill({before: time.time() + 60})
    await follower.refresh()

    await valkey.flushall()
    assert not await follower.publish({after: time.time() + 60})
    assert not await follower.exists()

    await follower.refill({before: time.time() + 60, after: time.time() + 60})
    newcomer = RevokedSessions(valkey)
    for process in (follower, newcomer):
        await process.refresh()
        assert before in process
        assert after in process


async def test_a_refill_without_revoked_sessions_creates_the_stream_and_revokes_none(valkey: Redis) -> None:
    ended = RevokedSessions(valkey)
    await ended.refill({})
    await ended.refresh()

    assert await ended.exists()
    assert UUID(int=0) not in ended


async def test_without_valkey_a_metric_shows_that_revocations_are_stale() -> None:
    follower = RevokedSessions(Redis.from_url("redis://127.0.0.1:1/0"))

    await follower.refresh()

    assert revoked_sessions.REVOCATIONS_STALE._value.get() == 1
    revoked_sessions.REVOCATIONS_STALE.set(0)


async def test_a_session_is_forgotten_once_its_token_has_expired(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower, session = RevokedSessions(valkey), uuid4()
    follower.add(session, time.time() + 60)

    later = time.time() + 61
    monkeypatch.setattr("servicekit.auth.revoked_sessions.time.time", lambda: later)
    await follower.refresh()
    assert session not in follower
