"""Ended sessions reach every process, and a Valkey that lost them does not make them valid again."""

import asyncio
import time
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError
from uuid_utils.compat import uuid7

from opskit.valkey_acl import acl
from servicekit.auth import revoked_sessions as revoked_sessions
from servicekit.auth.revoked_sessions import BLOCK_SECONDS, AccountSessions, RevokedSessions
from servicekit.core.tasks import background_task
from servicekit.valkey.client import create_client


def _knows(follower: RevokedSessions, session: UUID) -> bool:
    """Whether the follower refuses a new token of this session."""
    return follower.revokes(uuid4(), session, time.time())


def _be_silent(follower: RevokedSessions) -> None:
    """Let the follower have heard its last entry too long ago."""
    follower._heard_at -= revoked_sessions.SILENCE_SECONDS + 1


async def test_a_published_end_is_known_to_every_process_after_a_refresh(valkey: Redis) -> None:
    publisher, *followers = (RevokedSessions(valkey) for _ in range(3))
    session = uuid4()
    await publisher.refill({})
    assert await publisher.publish({session: time.time() + 60})

    for follower in followers:
        assert not _knows(follower, session)
        await follower.refresh()
        assert _knows(follower, session)


async def test_the_issuer_may_publish_and_every_service_may_hear(valkey: Redis, valkey_url: str) -> None:
    address = valkey_url.rpartition("@")[2].partition("/")[0]
    lines = acl("a", {"user": "u", "notes": "n"}, frozenset({"user"})).splitlines()
    for _, name, *rules in (line.split() for line in lines[2:]):
        await valkey.execute_command("ACL", "SETUSER", name, "reset", *rules)
    first, second = uuid4(), AccountSessions(uuid7(), 1)
    async with (
        Redis.from_url(f"redis://user:u@{address}/1") as issuer,
        Redis.from_url(f"redis://notes:n@{address}/1") as service,
    ):
        publisher, follower = RevokedSessions(issuer), RevokedSessions(service)
        assert await publisher.may_refill()
        await publisher.refill({first: time.time() + 60})
        assert await publisher.publish({second: time.time() + 60})
        assert await publisher.heartbeat()
        await follower.refresh()
        with pytest.raises(NoPermissionError):
            await follower.publish({uuid4(): time.time() + 60})
    await valkey.execute_command("ACL", "DELUSER", "user", "notes")
    assert _knows(follower, first)
    assert await follower.trouble() is None


async def test_more_revocations_than_one_batch_all_arrive(valkey: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revoked_sessions, "BATCH", 10)
    sessions = {uuid4(): time.time() + 60 for _ in range(35)}
    await RevokedSessions(valkey).refill(sessions)

    follower = RevokedSessions(valkey)
    await follower.refresh()
    assert all(_knows(follower, session) for session in sessions)


async def test_an_emptied_valkey_looks_complete_only_once_it_was_refilled(valkey: Redis) -> None:
    follower, before, after = RevokedSessions(valkey), uuid4(), uuid4()
    await follower.refill({before: time.time() + 60})
    await follower.refresh()

    await valkey.flushall()
    assert not await follower.publish({after: time.time() + 60})
    assert not await follower.heartbeat()

    await follower.refill({before: time.time() + 60, after: time.time() + 60})
    newcomer = RevokedSessions(valkey)
    for process in (follower, newcomer):
        await process.refresh()
        assert _knows(process, before)
        assert _knows(process, after)


async def test_a_refill_without_revoked_sessions_creates_the_stream_and_revokes_none(valkey: Redis) -> None:
    ended = RevokedSessions(valkey)
    await ended.refill({})
    await ended.refresh()

    assert await ended.heartbeat()
    assert not _knows(ended, UUID(int=0))


async def test_without_valkey_a_metric_shows_that_revocations_are_stale() -> None:
    follower = RevokedSessions(Redis.from_url("redis://127.0.0.1:1/0"))

    await follower.refresh()

    assert revoked_sessions.REVOCATIONS_STALE._value.get() == 1
    revoked_sessions.REVOCATIONS_STALE.set(0)


async def test_a_valkey_that_takes_no_writes_is_noticed_by_its_silence(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, follower = RevokedSessions(valkey), RevokedSessions(valkey)
    monkeypatch.setattr(revoked_sessions, "HEARTBEAT_SECONDS", 0)
    await publisher.refill({})
    assert await publisher.heartbeat()
    await follower.refresh()
    assert await follower.trouble() is None

    _be_silent(follower)
    await follower.refresh()
    assert "nothing is published" in (await follower.trouble() or "")
    assert revoked_sessions.REVOCATIONS_STALE._value.get() == 1

    assert await publisher.heartbeat()
    await follower.refresh()
    assert await follower.trouble() is None
    assert revoked_sessions.REVOCATIONS_STALE._value.get() == 0


async def test_old_heartbeats_that_are_read_again_do_not_end_the_silence(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = RevokedSessions(valkey)
    await follower.refill({})
    monkeypatch.setattr(revoked_sessions, "HEARTBEAT_SECONDS", 0)
    await follower.heartbeat()
    await follower.refresh()
    _be_silent(follower)

    monkeypatch.setattr(follower, "_last_id", revoked_sessions.START)
    await follower.refresh()
    assert "nothing is published" in (await follower.trouble() or "")


async def test_a_stream_that_never_appears_is_silence(valkey: Redis) -> None:
    follower = RevokedSessions(valkey)
    await follower.refresh()
    assert await follower.trouble() is None

    _be_silent(follower)
    await follower.refresh()
    assert "nothing is published" in (await follower.trouble() or "")


async def test_a_user_service_of_the_version_before_writes_no_heartbeats(valkey: Redis) -> None:
    follower, session = RevokedSessions(valkey), uuid4()
    await valkey.xadd(revoked_sessions.STREAM, {"sid": str(session), "exp": str(time.time() + 60)})
    await follower.refresh()
    _be_silent(follower)

    await follower.refresh()

    assert await follower.trouble() is None
    assert _knows(follower, session)


async def test_heartbeats_are_rare_and_fail_on_a_full_valkey_each_time(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoked_sessions, "HEARTBEAT_SECONDS", 3600)
    publisher = RevokedSessions(valkey)
    await publisher.refill({})
    for _ in range(5):
        assert await publisher.heartbeat()
    assert await valkey.xlen(revoked_sessions.STREAM) == 1
    monkeypatch.setattr(revoked_sessions, "HEARTBEAT_SECONDS", 0)
    assert await publisher.heartbeat()
    assert await valkey.xlen(revoked_sessions.STREAM) == 2

    await valkey.config_set("maxmemory", 1)
    try:
        for _ in range(2):
            with pytest.raises(RedisError):
                await publisher.heartbeat()
    finally:
        await valkey.config_set("maxmemory", 0)


async def test_a_valkey_that_hangs_on_writes_fails_the_heartbeat(
    valkey: Redis, own_valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoked_sessions, "HEARTBEAT_SECONDS", 0)
    await RevokedSessions(valkey).refill({})
    async with Redis.from_url(own_valkey_url, socket_timeout=0.25) as impatient:
        await valkey.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
        try:
            with pytest.raises(RedisError):
                await RevokedSessions(impatient).heartbeat()
        finally:
            await valkey.execute_command("CLIENT", "UNPAUSE")


async def test_many_sessions_of_an_account_are_one_entry_that_an_older_process_skips(valkey: Redis) -> None:
    publisher, follower = RevokedSessions(valkey), RevokedSessions(valkey)
    ada, bob, kept = uuid4(), uuid4(), uuid4()
    at = 1_800_000_000_000
    before, after = [uuid7(nanoseconds=(at + difference) * 1_000_000) for difference in (0, 1)]
    await publisher.refill({})

    await publisher.publish({AccountSessions(ada, at, kept): time.time() + 60})

    await follower.refresh()
    assert await valkey.xlen(revoked_sessions.STREAM) == 2
    revoked = [(ada, before, True), (ada, after, False), (ada, kept, False), (bob, before, False)]
    assert [follower.revokes(user, session, at / 1000) for user, session, _ in revoked] == [end for *_, end in revoked]
    # An id without a time: the token's time counts.
    assert follower.revokes(ada, uuid4(), at / 1000)
    assert not follower.revokes(ada, uuid4(), at / 1000 + 1)
    ((_, fields),) = await valkey.xrevrange(revoked_sessions.STREAM, count=1)
    assert UUID(fields[b"sid"].decode()) == UUID(int=0)
    assert float(fields[b"exp"]) > time.time()


async def test_an_older_entry_about_an_account_does_not_replace_a_newer_one(valkey: Redis) -> None:
    known, ada, kept = RevokedSessions(valkey), uuid4(), uuid4()
    known.add(AccountSessions(ada, 2_000), time.time() + 60)
    known.add(AccountSessions(ada, 1_000, kept), time.time() + 60)

    assert known.revokes(ada, kept, 2)


async def test_a_refill_is_written_in_batches_and_appears_at_once(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoked_sessions, "WRITE_BATCH", 10)
    sessions = {uuid4(): time.time() + 60 for _ in range(35)}
    publisher, follower = RevokedSessions(valkey), RevokedSessions(valkey)
    assert await publisher.may_refill()
    assert not await follower.may_refill()

    await publisher.refill(sessions)

    await follower.refresh()
    assert all(_knows(follower, session) for session in sessions)
    assert await valkey.ttl(revoked_sessions.STREAM) == -1
    assert await valkey.keys() == [revoked_sessions.STREAM.encode()]
    # A refill that comes too late leaves nothing else behind.
    await follower.refill(sessions)
    assert await valkey.keys() == [revoked_sessions.STREAM.encode()]


async def test_a_session_is_forgotten_once_its_token_has_expired(
    valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower, session = RevokedSessions(valkey), uuid4()
    follower.add(session, time.time() + 60)

    later = time.time() + 61
    monkeypatch.setattr("servicekit.auth.revoked_sessions.time.time", lambda: later)
    await follower.refresh()
    assert not _knows(follower, session)


async def test_a_process_is_current_while_it_hears_entries(valkey: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher, follower = RevokedSessions(valkey), RevokedSessions(valkey)
    await publisher.refill({})
    await follower.refresh()
    assert follower.is_current()

    monkeypatch.setattr(revoked_sessions, "HEARTBEAT_SECONDS", 0)
    assert not follower.is_current()
    assert await publisher.heartbeat()
    await follower.refresh()
    monkeypatch.setattr(revoked_sessions, "HEARTBEAT_SECONDS", 3600)
    assert follower.is_current()


async def test_a_process_without_valkey_is_not_current() -> None:
    follower = RevokedSessions(Redis.from_url("redis://127.0.0.1:1/0"))
    await follower.refresh()

    assert not follower.is_current()
    revoked_sessions.REVOCATIONS_STALE.set(0)


async def test_a_waiting_process_hears_of_a_revocation_and_survives_a_wait_in_vain(
    valkey: Redis, own_valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = uuid4()
    publisher = RevokedSessions(valkey)
    await publisher.refill({})
    client = create_client(
        SecretStr(own_valkey_url), application="follower", pool_size=1, blocking_seconds=BLOCK_SECONDS
    )
    follower = RevokedSessions(client, client)
    read, waited_in_vain = client.xread, asyncio.Event()

    async def xread(*args: Any, **options: Any) -> Any:
        if not (entries := await read(*args, **options)):
            waited_in_vain.set()
        return entries

    monkeypatch.setattr(client, "xread", xread)
    async with background_task(follower.follow()), asyncio.timeout(60):
        await waited_in_vain.wait()
        await publisher.publish({session: time.time() + 60})
        while not _knows(follower, session):
            await asyncio.sleep(0.01)
    await client.aclose()
    assert await follower.trouble() is None
