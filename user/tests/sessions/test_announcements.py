"""How the end of a session is told, step by step, with stores that fail where it hurts."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from user_service.sessions.announcements import Announcements

EXPIRY = 4_000_000_000.0


class Records:
    """Sessions that ended, and whether they were published."""

    def __init__(self, **_: object) -> None:
        self.rows: dict[UUID, bool] = {}

    def end(self) -> UUID:
        session_id = uuid4()
        self.rows[session_id] = False
        return session_id

    async def unpublished(self) -> Mapping[UUID, float]:
        return {session_id: EXPIRY for session_id, published in self.rows.items() if not published}

    async def unexpired(self, now: datetime) -> Mapping[UUID, float]:
        return dict.fromkeys(self.rows, EXPIRY)

    async def mark_published(self, ids: Collection[UUID]) -> None:
        self.rows.update(dict.fromkeys(ids, True))


class Stream:
    """Valkey and this process's memory. `heard` is what others can read."""

    def __init__(self) -> None:
        self.refused: set[UUID] = set()
        self.heard: set[UUID] | None = set()
        self.fails = False

    def add(self, session_id: UUID, expires_at: float) -> None:
        self.refused.add(session_id)

    async def publish(self, ended: Mapping[UUID, float]) -> bool:
        if self.fails:
            raise ConnectionError
        if self.heard is None:
            return False
        self.heard |= ended.keys()
        return True

    async def refill(self, ended: Mapping[UUID, float]) -> None:
        if self.fails:
            raise ConnectionError
        self.heard = set(ended)

    async def exists(self) -> bool:
        if self.fails:
            raise ConnectionError
        return self.heard is not None


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def announcements(stream: Stream, records: Records) -> Announcements:
    return Announcements(stream, records, clock=lambda: datetime.now(UTC))


async def test_the_own_process_refuses_before_anything_is_told(announcements: Announcements, stream: Stream) -> None:
    session_id = uuid4()

    announcements.announce({session_id: EXPIRY})

    assert session_id in stream.refused
    assert stream.heard == set()


async def test_what_was_told_is_not_told_again(announcements: Announcements, stream: Stream, records: Records) -> None:
    session_id = records.end()
    await announcements.round()
    assert stream.heard == {session_id}

    stream.heard = set()
    await announcements.round()
    assert stream.heard == set()


async def test_a_failure_leaves_the_work_to_the_next_round_and_is_refused_here_meanwhile(
    announcements: Announcements, stream: Stream, records: Records
) -> None:
    stream.fails = True
    session_id = records.end()
    with pytest.raises(ConnectionError):
        await announcements.round()
    assert session_id in stream.refused
    assert records.rows == {session_id: False}

    stream.fails = False
    await announcements.round()
    assert stream.heard == {session_id}
    assert records.rows == {session_id: True}


async def test_an_emptied_valkey_gets_everything_back_what_was_told_before_included(
    announcements: Announcements, stream: Stream, records: Records
) -> None:
    before = records.end()
    await announcements.round()
    stream.heard = None
    after = records.end()

    await announcements.round()

    assert stream.heard == {before, after}


async def test_a_valkey_that_is_emptied_between_look_and_publication_is_not_taken_for_told(
    announcements: Announcements, stream: Stream, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = records.end()
    await announcements.round()
    after = records.end()
    looked = stream.exists

    async def look_then_lose_everything() -> bool:
        found = await looked()
        stream.heard = None
        return found

    with monkeypatch.context() as patch:
        patch.setattr(stream, "exists", look_then_lose_everything)
        await announcements.round()
    assert records.rows[after] is False

    await announcements.round()
    assert stream.heard == {before, after}


async def test_a_new_process_knows_what_ended_before_it(
    announcements: Announcements, stream: Stream, records: Records
) -> None:
    session_id = records.end()
    records.rows[session_id] = True
    stream.fails = True

    with pytest.raises(ConnectionError):
        await announcements.round()

    assert session_id in stream.refused
