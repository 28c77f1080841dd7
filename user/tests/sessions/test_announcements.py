"""Announcements of revoked sessions, step by step, with stores that fail at the worst moment."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from user.tests.fakes import MemoryDatabase, MemoryRevocation, MemoryRevocationRecords, MemoryStream
from user_service.sessions.announcements import (
    BATCH,
    BATCHES,
    UNPUBLISHED,
    Announcements,
    StreamLost,
)

EXPIRY = datetime(2096, 1, 1, tzinfo=UTC)


class Records(MemoryRevocationRecords):
    """The revoked sessions in the database."""

    def __init__(self) -> None:
        self.database = MemoryDatabase()
        super().__init__(self.database)

    def add(self, *, published: bool = False) -> UUID:
        session_id = uuid4()
        self.database.tables.revocations[session_id] = MemoryRevocation(EXPIRY, published)
        return session_id

    def is_published(self, session_id: UUID) -> bool:
        return self.database.tables.revocations[session_id].published


@pytest.fixture
def stream() -> MemoryStream:
    return MemoryStream()


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def announcements(stream: MemoryStream, records: Records) -> Announcements:
    return Announcements(stream, records, clock=lambda: datetime.now(UTC))


async def test_the_process_itself_refuses_before_anything_is_published(
    announcements: Announcements, stream: MemoryStream
) -> None:
    session_id = uuid4()

    announcements.announce({session_id: EXPIRY.timestamp()})

    assert session_id in stream.refused
    assert stream.published == set()


async def test_a_published_session_is_not_published_again(
    announcements: Announcements, stream: MemoryStream, records: Records
) -> None:
    session_id = records.add()
    await announcements.publish_pending()
    assert stream.published == {session_id}

    stream.published = set()
    await announcements.publish_pending()
    assert stream.published == set()


async def test_after_a_failure_the_next_attempt_publishes_and_this_process_refuses_already(
    announcements: Announcements, stream: MemoryStream, records: Records
) -> None:
    stream.fails = True
    session_id = records.add()
    with pytest.raises(ConnectionError):
        await announcements.publish_pending()
    assert session_id in stream.refused
    assert not records.is_published(session_id)

    stream.fails = False
    await announcements.publish_pending()
    assert stream.published == {session_id}
    assert records.is_published(session_id)


async def test_an_emptied_valkey_gets_all_sessions_again_those_published_before_included(
    announcements: Announcements, stream: MemoryStream, records: Records
) -> None:
    before = records.add()
    await announcements.publish_pending()
    stream.published = None
    after = records.add()

    await announcements.publish_pending()

    assert stream.published == {before, after}


async def test_a_valkey_that_is_emptied_between_check_and_publication_is_refilled(
    announcements: Announcements, stream: MemoryStream, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = records.add()
    await announcements.publish_pending()
    after = records.add()
    heartbeat = stream.heartbeat

    async def check_then_lose_everything() -> bool:
        found = await heartbeat()
        stream.published = None
        return found

    with monkeypatch.context() as patch:
        patch.setattr(stream, "heartbeat", check_then_lose_everything)
        with pytest.raises(StreamLost):
            await announcements.publish_pending()
    assert not records.is_published(after)

    await announcements.publish_pending()
    assert stream.published == {before, after}


async def test_only_one_process_refills(announcements: Announcements, stream: MemoryStream, records: Records) -> None:
    records.add()
    stream.published, stream.refilled_elsewhere = None, True

    with pytest.raises(StreamLost):
        await announcements.publish_pending()
    assert stream.published is None


async def test_many_revocations_are_published_in_batches_with_heartbeats_between(
    announcements: Announcements, stream: MemoryStream, records: Records
) -> None:
    for _ in range(BATCH * BATCHES + 1):
        records.add()

    await announcements.publish_pending()
    assert stream.publications == [BATCH] * BATCHES
    await announcements.publish_pending()
    assert stream.publications == [*[BATCH] * BATCHES, 1]
    assert stream.heartbeats == 2


async def test_a_valkey_that_takes_no_writes_is_reported_although_nothing_is_pending(
    announcements: Announcements, stream: MemoryStream
) -> None:
    stream.fails = True
    async with announcements.running():
        assert await announcements.trouble() == "fails: ConnectionError"
        assert UNPUBLISHED._value.get() == 1

        stream.fails = False
    assert await announcements.trouble() is None
    assert UNPUBLISHED._value.get() == 0


async def test_a_new_process_knows_what_was_revoked_before_its_start(
    announcements: Announcements, stream: MemoryStream, records: Records
) -> None:
    session_id = records.add(published=True)
    stream.fails = True

    with pytest.raises(ConnectionError):
        await announcements.publish_pending()

    assert session_id in stream.refused


async def test_a_worker_that_hears_the_stream_has_nothing_to_do_until_it_revokes_a_session(
    announcements: Announcements, stream: MemoryStream
) -> None:
    assert announcements.is_due()

    stream.current = True
    assert not announcements.is_due()

    announcements.announce({uuid4(): EXPIRY.timestamp()})
    assert announcements.is_due()


async def test_a_worker_tries_again_after_a_failure_although_it_hears_the_stream(
    announcements: Announcements, stream: MemoryStream
) -> None:
    stream.current = stream.fails = True

    async with announcements.running():
        assert announcements.is_due()
