"""What an upload leaves in the database and in the store, however it ends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from assets.tests.fakes import MemoryByteStore, MemoryDatabase
from assets_service.records.schemas import AssetOut
from assets_service.storage.interface import StoreUnavailable
from assets_service.uploads.actions import (
    RESERVED_FOR,
    QuotaExceeded,
    QuotaReserved,
    UploadActions,
    UploadLimits,
    UploadTooSlow,
)
from assets_service.uploads.ingest import EmptyFile
from assets_service.uploads.media_types import TypeMismatch, UnsupportedType
from assets_service.uploads.request import FileTooLarge, IncomingFile, UploadBrokeOff
from servicekit.auth.access_tokens import InvalidToken
from servicekit.core.clock import utc_now
from servicekit.core.errors import ServiceError
from servicekit.idempotency import IdempotentRequest, KeyInUse, KeyReused, StoredResponse

CONTENT = b"content"
LIMITS = UploadLimits(file=1000, user=1500)
HTML = b"<!DOCTYPE html><script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>'


class Service:
    """Upload actions on stores in memory, and one user."""

    def __init__(self) -> None:
        self.database = MemoryDatabase()
        self.store = MemoryByteStore()
        self.actions = UploadActions(self.database, self.store, limits=LIMITS, clock=utc_now)
        self.user = uuid4()
        self.identities: list[bytes] = []

    async def upload(
        self,
        *chunks: bytes | BaseException,
        name: str = "a.txt",
        declared_type: str | None = None,
        expected_size: int | None = None,
        key: bytes | None = None,
    ) -> StoredResponse:
        async def incoming() -> AsyncIterator[bytes]:
            for chunk in chunks or (CONTENT,):
                if isinstance(chunk, BaseException):
                    raise chunk
                yield chunk

        async def identify(content: bytes) -> IdempotentRequest:
            # Without content, it is asked for the key alone.
            if content:
                self.identities.append(content)
            return IdempotentRequest("/", key, content)

        file = IncomingFile(name, declared_type, expected_size, incoming())
        return await self.actions.upload(self.user, file, identify, _respond)

    def assert_nothing_left(self) -> None:
        assert not self.database.assets
        assert not self.database.events
        self.assert_no_orphans()
        assert not self.store.objects

    def assert_no_orphans(self) -> None:
        """Every object in the store has its row, and nothing else is recorded or staged."""
        assert self.store.objects.keys() == self.database.assets.keys()
        assert not self.store.staged
        assert not self.database.orphans


def _respond(asset: AssetOut) -> StoredResponse:
    return StoredResponse.json(asset)


@pytest.fixture
def service() -> Service:
    return Service()


async def test_a_committed_upload_has_its_row_its_bytes_and_its_event(service: Service) -> None:
    before = REGISTRY.get_sample_value("service_uploaded_bytes_total") or 0

    response = await service.upload(b"con", b"", b"tent")

    ((asset, owner),) = service.database.assets.values()
    assert response == _respond(asset)
    assert owner == service.user
    assert (asset.filename, asset.media_type, asset.size) == ("a.txt", "text/plain", 7)
    assert service.store.objects == {asset.id: CONTENT}
    (event,) = service.database.events
    assert (event.type, event.subject) == ("asset.uploaded", str(service.user))
    assert event.payload == {"asset_id": str(asset.id), "size": 7, "media_type": "text/plain"}
    service.assert_no_orphans()
    assert (REGISTRY.get_sample_value("service_uploaded_bytes_total") or 0) - before == 7


async def test_a_repeated_request_gets_the_stored_response_and_publishes_nothing(service: Service) -> None:
    first = await service.upload(key=b"key")
    published = service.store.publications

    repeated = await service.upload(key=b"key")

    assert repeated == first.as_replay()
    assert service.store.publications == published
    assert len(service.database.assets) == 1
    service.assert_no_orphans()


async def test_an_upload_that_loses_the_key_at_the_commit_removes_its_bytes(service: Service) -> None:
    def lose() -> None:
        service.database.responses[b"key"] = (StoredResponse(201), service.identities[0])

    service.database.before_run = lose

    assert (await service.upload(key=b"key")).replayed
    service.assert_nothing_left()


async def test_of_concurrent_uploads_with_one_key_one_is_stored(service: Service) -> None:
    outcomes = await asyncio.gather(*(service.upload(key=b"key") for _ in range(10)), return_exceptions=True)

    created = [outcome for outcome in outcomes if isinstance(outcome, StoredResponse) and not outcome.replayed]
    assert len(created) == 1
    assert all(isinstance(outcome, StoredResponse | KeyInUse) for outcome in outcomes)
    assert len(service.database.assets) == len(service.database.events) == 1
    service.assert_no_orphans()


@pytest.mark.parametrize("changed", [{"name": "other.txt"}, {"content": b"other"}])
async def test_a_key_belongs_to_one_file(service: Service, changed: dict[str, Any]) -> None:
    await service.upload(key=b"key")

    with pytest.raises(KeyReused):
        await service.upload(changed.get("content", CONTENT), name=changed.get("name", "a.txt"), key=b"key")

    assert len(service.database.assets) == 1
    service.assert_no_orphans()


@pytest.mark.parametrize(
    ("chunks", "options", "error"),
    [
        ((b"",), {}, EmptyFile),
        ((b"x" * 600, b"x" * 401), {}, FileTooLarge),
        ((b"a beginning", UploadBrokeOff()), {}, UploadBrokeOff),
        ((b"a beginning", asyncio.CancelledError()), {}, asyncio.CancelledError),
        ((HTML,), {"declared_type": "text/plain"}, UnsupportedType),
        ((HTML,), {"declared_type": "image/png"}, UnsupportedType),
        ((SVG,), {}, UnsupportedType),
        ((b"MZ\x90\x00" + bytes(256),), {}, UnsupportedType),
        ((b"#!/bin/sh\necho\n",), {"declared_type": "text/plain"}, UnsupportedType),
        ((b"only text",), {"declared_type": "image/png"}, TypeMismatch),
        ((b"text and then\x00",), {"declared_type": "text/plain"}, UnsupportedType),
        ((b"a cut character \xc3",), {}, UnsupportedType),
        ((b"content",), {"expected_size": 1501}, QuotaExceeded),
    ],
)
async def test_a_refused_file_leaves_nothing_and_its_key_is_free(
    service: Service, chunks: tuple[bytes | BaseException], options: dict[str, Any], error: type[BaseException]
) -> None:
    with pytest.raises(error):
        await service.upload(*chunks, **options, key=b"key")

    service.assert_nothing_left()
    assert not (await service.upload(key=b"key")).replayed


async def test_a_text_is_checked_beyond_its_first_piece(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assets_service.uploads.ingest.PIECE_BYTES", 10)

    with pytest.raises(UnsupportedType):
        await service.upload(b"only text ", b"only text ", b"\xff")

    service.assert_nothing_left()


async def test_a_declared_type_that_is_the_files_type_is_accepted(service: Service) -> None:
    assert (await service.upload(declared_type="text/plain")).is_success


async def test_an_upload_that_cannot_fit_is_refused_before_its_first_byte(service: Service) -> None:
    with pytest.raises(QuotaExceeded):
        await service.upload(AssertionError("a byte was read"), expected_size=1501)

    service.assert_nothing_left()


@pytest.mark.parametrize("expected_size", [400, None])
async def test_uploads_at_once_never_stage_more_than_the_quota(
    service: Service, monkeypatch: pytest.MonkeyPatch, expected_size: int | None
) -> None:
    monkeypatch.setattr("assets_service.uploads.ingest.PIECE_BYTES", 100)
    most = 0

    def measure(size: int) -> None:
        nonlocal most
        most = max(most, size)

    service.store.measure = measure
    uploads = (service.upload(*[b"x" * 100] * 4, expected_size=expected_size) for _ in range(8))
    outcomes = await asyncio.gather(*uploads, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} <= {StoredResponse, QuotaReserved, QuotaExceeded}
    assert any(isinstance(outcome, StoredResponse) for outcome in outcomes)
    assert 0 < most <= LIMITS.user
    service.assert_no_orphans()


async def test_a_long_upload_renews_its_reservation(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assets_service.uploads.ingest.PIECE_BYTES", 1)
    monkeypatch.setattr("assets_service.uploads.actions.RENEWAL_SECONDS", 0.0)
    now = utc_now()

    def measure(_size: int) -> None:
        service.database.clock = lambda: now + RESERVED_FOR * len(service.store.staged)
        (reservation,) = service.database.reservations.values()
        renewals.append(reservation.until)

    renewals: list[Any] = []
    service.store.measure = measure
    await service.upload(b"a", b"b", expected_size=2)

    assert renewals[0] < renewals[1]


def _fill_quota(service: Service) -> None:
    service.database.usage[service.user] = LIMITS.user


def _sweep(service: Service) -> None:
    service.database.orphans.clear()


def _erase(service: Service) -> None:
    service.database.erased[service.user] = utc_now()


@pytest.mark.parametrize(
    ("meanwhile", "error"), [(_fill_quota, QuotaExceeded), (_sweep, UploadTooSlow), (_erase, InvalidToken)]
)
async def test_an_upload_refused_at_its_commit_removes_its_bytes(
    service: Service, meanwhile: Callable[[Service], None], error: type[ServiceError]
) -> None:
    service.database.before_run = lambda: meanwhile(service)

    with pytest.raises(error):
        await service.upload()

    service.assert_nothing_left()


async def test_when_a_commit_may_have_succeeded_the_bytes_stay_for_the_sweeper(service: Service) -> None:
    service.database.commit_error = ConnectionResetError()

    with pytest.raises(ConnectionResetError):
        await service.upload()

    assert service.store.objects.keys() == service.database.orphans.keys()
    assert len(service.store.objects) == 1


async def test_bytes_that_cannot_be_removed_stay_for_the_sweeper_and_hide_no_refusal(service: Service) -> None:
    def fail() -> None:
        _fill_quota(service)
        service.store.unavailable = True

    service.database.before_run = fail

    with pytest.raises(QuotaExceeded):
        await service.upload()

    assert service.store.objects.keys() == service.database.orphans.keys()
    assert len(service.store.objects) == 1


async def test_an_unavailable_store_stores_nothing_and_leaves_the_key_free(service: Service) -> None:
    service.store.unavailable = True
    with pytest.raises(StoreUnavailable):
        await service.upload(key=b"key")
    assert not service.database.assets

    service.store.unavailable = False
    assert not (await service.upload(key=b"key")).replayed


async def test_two_uploads_are_the_same_request_if_name_type_and_content_are(service: Service) -> None:
    await service.upload(b"con", b"tent")
    await service.upload(b"content", declared_type="text/plain")
    await service.upload(b"content", name="b.txt")
    await service.upload(b"Content")

    same, also, other_name, other_content = service.identities
    assert same == also
    assert len({same, other_name, other_content}) == 3
