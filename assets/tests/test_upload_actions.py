"""What becomes of the bytes in each way in which the last transaction can end; the stores are fakes here."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from assets_service.models import IDEMPOTENCY_KEYS, OUTBOX
from assets_service.peers import SUBSCRIPTIONS
from assets_service.records.schemas import AssetOut
from assets_service.storage.interface import StoreUnavailable
from assets_service.uploads.actions import Limits, QuotaExceeded, Transaction, UploadActions
from assets_service.uploads.request import IncomingFile
from assets_service.uploads.store import PostgresUploads, UploadTooSlow
from servicekit.core.clock import utc_now
from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.idempotency.postgres import PostgresIdempotency
from servicekit.outbox import Outbox
from servicekit.outbox.postgres import PostgresOutboxStore
from servicekit.storage.postgres_models import sessions_of

ANSWER = StoredResponse(201, b"{}")


class FakeStaging:
    """Notes what was done with the bytes."""

    def __init__(self, *, away: bool = False) -> None:
        self.done: list[str] = []
        self._away = away

    async def write(self, pieces: Sequence[bytes]) -> None:
        self.done.append("write")

    async def publish(self) -> None:
        self.done.append("publish")

    async def discard(self) -> None:
        self.done.append("discard")
        if self._away:
            raise StoreUnavailable


class FakeUploads:
    """Fulfils `actions.Uploads`; `outcome` is what the last transaction brings."""

    def __init__(self, outcome: StoredResponse | Exception, *, stored: StoredResponse | None = None) -> None:
        self._outcome = outcome
        self._stored = stored
        self.notes: set[UUID] = set()

    async def announce(self, asset_id: UUID, owner: UUID, *, expected: int, quota: int) -> None:
        self.notes.add(asset_id)

    async def withdraw(self, asset_id: UUID) -> None:
        self.notes.discard(asset_id)

    async def find_stored(self, attempt: IdempotentRequest) -> StoredResponse | None:
        return self._stored

    async def once(
        self, attempt: IdempotentRequest, effect: Callable[[Transaction], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class OneStaging:
    def __init__(self, staging: FakeStaging) -> None:
        self._staging = staging

    async def stage(self, asset_id: UUID) -> FakeStaging:
        return self._staging


async def _upload(uploads: FakeUploads, staging: FakeStaging) -> StoredResponse:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"content"

    async def attempt_of(content: bytes) -> IdempotentRequest:
        return IdempotentRequest("/", b"key")

    actions = UploadActions(uploads, OneStaging(staging), limits=Limits(file=100, user=100), clock=utc_now)
    file = IncomingFile("a.txt", None, None, pieces())
    return await actions.upload(uuid4(), file, attempt_of, lambda _asset: ANSWER)


async def test_a_committed_upload_keeps_its_bytes() -> None:
    uploads, staging = FakeUploads(ANSWER), FakeStaging()
    assert await _upload(uploads, staging) is ANSWER
    assert staging.done == ["write", "publish"]


async def test_a_known_repetition_is_not_even_published() -> None:
    uploads, staging = FakeUploads(ANSWER, stored=ANSWER.as_replay()), FakeStaging()
    assert (await _upload(uploads, staging)).replayed
    assert staging.done == ["write", "discard"]
    assert not uploads.notes


async def test_whoever_loses_the_key_at_the_last_moment_deletes_the_bytes() -> None:
    uploads, staging = FakeUploads(ANSWER.as_replay()), FakeStaging()
    assert (await _upload(uploads, staging)).replayed
    assert staging.done == ["write", "publish", "discard"]
    assert not uploads.notes


async def test_a_refusal_deletes_the_bytes() -> None:
    uploads, staging = FakeUploads(QuotaExceeded(1)), FakeStaging()
    with pytest.raises(QuotaExceeded):
        await _upload(uploads, staging)
    assert staging.done == ["write", "publish", "discard"]
    assert not uploads.notes


async def test_where_nobody_knows_whether_it_committed_the_bytes_stay_for_the_sweeper() -> None:
    uploads, staging = FakeUploads(ConnectionResetError()), FakeStaging()
    with pytest.raises(ConnectionResetError):
        await _upload(uploads, staging)
    assert staging.done == ["write", "publish"]
    assert uploads.notes


async def test_bytes_that_cannot_be_deleted_keep_their_note_and_hide_no_refusal() -> None:
    uploads, staging = FakeUploads(QuotaExceeded(1)), FakeStaging(away=True)
    with pytest.raises(QuotaExceeded):
        await _upload(uploads, staging)
    assert uploads.notes


async def test_bytes_that_were_given_up_become_no_asset(database: AsyncEngine, count: Callable[..., Any]) -> None:
    """The sweeper may have removed them after they were published: then the note is gone."""
    sessions = sessions_of(database)

    class Undelivered:
        async def deliver(self, route: Any, fact: Any) -> None: ...

    outbox = Outbox(PostgresOutboxStore(database, OUTBOX), SUBSCRIPTIONS, Undelivered())
    uploads = PostgresUploads(sessions, PostgresIdempotency(sessions, IDEMPOTENCY_KEYS), outbox)
    asset = AssetOut(
        id=uuid4(), filename="a", media_type="text/plain", size=1, sha256="00" * 32, created_at=datetime.now(UTC)
    )
    owner = uuid4()
    await uploads.announce(asset.id, owner, expected=1, quota=10)
    await uploads.withdraw(asset.id)

    async def effect(transaction: Transaction) -> StoredResponse:
        await transaction.add(asset, owner, quota=10)
        return ANSWER

    with pytest.raises(UploadTooSlow):
        await uploads.once(IdempotentRequest("/", None), effect)
    assert await count("assets") == 0
