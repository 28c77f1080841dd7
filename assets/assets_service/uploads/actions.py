"""Uploads, each with one effect per Idempotency-Key.

The bytes are complete and durable before the row that makes them visible is committed. Whatever happens before that
commit – a refusal, a client that disconnects, a process that dies – leaves no bytes, or bytes that are recorded as an
orphan.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Final, Protocol
from uuid import UUID

from loguru import logger
from prometheus_client import Counter
from uuid_utils.compat import uuid7

from assets_service.domain_events import ASSET_UPLOADED
from assets_service.records.schemas import AssetOut
from assets_service.storage.interface import ByteStore, Staging, StoreUnavailable
from assets_service.uploads.ingest import ReceivedFile, ingest
from assets_service.uploads.request import IncomingFile
from servicekit.core.clock import Clock
from servicekit.core.errors import PayloadTooLarge, ServiceError, ServiceUnavailable
from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.outbox import DomainEvent

# A reservation expires after this time, so that a killed process soon frees what its uploads had reserved.
RESERVED_FOR: Final = timedelta(minutes=2)
# An upload in progress renews its reservation this often. No upload waits as long for its client's next bytes.
RENEWAL_SECONDS: Final = 20.0

BYTES: Final = Counter("service_uploaded_bytes_total", "Bytes of files that were stored.")


class QuotaExceeded(PayloadTooLarge):
    """All files of the user together would exceed the quota."""

    type = "urn:baseplate:problem:quota-exceeded"
    extensions: ClassVar[Mapping[str, str]] = {"limit_bytes": "the quota", "user_quota_bytes": "the quota"}
    example: ClassVar[Mapping[str, Any]] = {"limit_bytes": 1073741824, "user_quota_bytes": 1073741824}

    def __init__(self, quota: int) -> None:
        super().__init__(
            quota,
            f"All your files together may have {quota} bytes, and this one exceeds that.",
            user_quota_bytes=quota,
        )


class QuotaReserved(QuotaExceeded):
    """Uploads in progress have reserved the room; it is free again if one of them fails."""

    def __init__(self, quota: int) -> None:
        super().__init__(quota)
        self.detail = (
            f"All your files together, those being uploaded included, may have {quota} bytes. Try again later."
        )
        self.headers["Retry-After"] = "1"


class UploadTooSlow(ServiceUnavailable):
    """The sweeper has taken the upload for one that died."""

    detail = "The upload took so long that it was given up. Try again."


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """The most bytes of one file, and of all files of one user."""

    file: int
    user: int


class Transaction(Protocol):
    async def add(self, asset: AssetOut, owner: UUID, *, quota: int) -> None:
        """Turn the orphan into an asset and charge its owner.

        Raises `QuotaExceeded`; `UploadTooSlow` when the orphan has been removed meanwhile; `InvalidToken` when the
        account has been deleted meanwhile.
        """

    async def record(self, event: DomainEvent) -> None: ...


class Uploads(Protocol):
    async def begin(
        self, asset_id: UUID, owner: UUID, request: IdempotentRequest, *, expected_size: int, quota: int
    ) -> None:
        """Record that there will be orphaned bytes, and reserve this much of the quota for `RESERVED_FOR`.

        Raises `QuotaExceeded` if they cannot fit, `QuotaReserved` while other uploads take the room, and `KeyInUse` if
        one of those has the same key.
        """

    async def reserve(self, asset_id: UUID, owner: UUID, *, size: int, quota: int) -> None:
        """Reserve this much altogether, for `RESERVED_FOR` from now.

        Raises `QuotaExceeded`, `QuotaReserved`, and `UploadTooSlow` when the orphan has been removed meanwhile.
        """

    async def abandon(self, asset_id: UUID) -> None:
        """Note that the orphaned bytes are gone."""

    async def find_stored(self, request: IdempotentRequest) -> StoredResponse | None:
        """Return the response to an earlier request with the same key. Raises `KeyReused`."""

    async def run_once(
        self, request: IdempotentRequest, effect: Callable[[Transaction], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        """Commit `effect` and its response, or return the stored response. Raises `KeyInUse`, `KeyReused`."""


class UploadActions:
    """Stores files."""

    def __init__(self, uploads: Uploads, store: ByteStore, *, limits: UploadLimits, clock: Clock) -> None:
        self._uploads = uploads
        self._store = store
        self.limits = limits
        self._clock = clock

    async def upload(
        self,
        owner: UUID,
        file: IncomingFile,
        identify: Callable[[bytes], Awaitable[IdempotentRequest]],
        respond: Callable[[AssetOut], StoredResponse],
    ) -> StoredResponse:
        """Store the file. `identify` gets what makes two uploads the same request.

        Raises what `ingest` raises, and what `Uploads` and `Transaction` raise.
        """
        asset_id = uuid7()
        expected_size, quota = file.expected_size or 0, self.limits.user
        # The content is not known yet, and neither is the fingerprint.
        pending = await identify(b"")
        await self._uploads.begin(asset_id, owner, pending, expected_size=expected_size, quota=quota)
        reservation = _Reservation(self._uploads, asset_id, owner, size=expected_size, quota=quota)
        staging = await self._store.stage(asset_id)
        try:
            received = await ingest(file, staging, limit=self.limits.file, make_room=reservation.cover)
            request = await identify(_identity(file.filename, received))
            stored = await self._uploads.find_stored(request)
            if stored is None:
                await staging.publish()
        except BaseException:
            await self._clean_up(asset_id, staging)
            raise
        if stored is not None:
            await self._clean_up(asset_id, staging)
            return stored
        asset = AssetOut(
            id=asset_id,
            filename=file.filename,
            media_type=received.media_type,
            size=received.size,
            sha256=received.sha256.hex(),
            created_at=self._clock(),
        )
        return await self._commit(asset, owner, request, staging, respond)

    async def _commit(
        self,
        asset: AssetOut,
        owner: UUID,
        request: IdempotentRequest,
        staging: Staging,
        respond: Callable[[AssetOut], StoredResponse],
    ) -> StoredResponse:
        async def effect(transaction: Transaction) -> StoredResponse:
            await transaction.add(asset, owner, quota=self.limits.user)
            await transaction.record(_uploaded(asset, owner))
            return respond(asset)

        try:
            response = await self._uploads.run_once(request, effect)
        except ServiceError:
            # A refusal: nothing was committed. After any other error that is unknown, so the bytes stay: either the
            # asset's row exists, or the sweeper finds the orphan.
            await self._clean_up(asset.id, staging)
            raise
        if response.replayed:
            await self._clean_up(asset.id, staging)
        else:
            BYTES.inc(asset.size)
        return response

    async def _clean_up(self, asset_id: UUID, staging: Staging) -> None:
        try:
            await staging.discard()
            await self._uploads.abandon(asset_id)
        except Exception as error:  # The caller has a better reason to give; the sweeper tries again.
            kind = "store unavailable" if isinstance(error, StoreUnavailable) else type(error).__name__
            logger.warning("the bytes of upload {} are left to the sweeper: {}", asset_id, kind)


class _Reservation:
    """The part of a quota that an upload in progress has reserved."""

    def __init__(self, uploads: Uploads, asset_id: UUID, owner: UUID, *, size: int, quota: int) -> None:
        self._uploads = uploads
        self._asset_id = asset_id
        self._owner = owner
        self._size = size
        self._quota = quota
        self._renewed_at = time.monotonic()

    async def cover(self, size: int) -> None:
        """Reserve so many bytes at least, and renew the reservation when that is due."""
        if size <= self._size and time.monotonic() - self._renewed_at < RENEWAL_SECONDS:
            return
        self._size = max(self._size, size)
        await self._uploads.reserve(self._asset_id, self._owner, size=self._size, quota=self._quota)
        self._renewed_at = time.monotonic()


def _uploaded(asset: AssetOut, owner: UUID) -> DomainEvent:
    payload = {"asset_id": str(asset.id), "size": asset.size, "media_type": asset.media_type}
    return DomainEvent(type=ASSET_UPLOADED, subject=str(owner), payload=payload)


def _identity(filename: str, received: ReceivedFile) -> bytes:
    # The digest has a fixed length and a type contains no line break, so two different uploads never look the same.
    return received.sha256 + received.media_type.encode() + b"\n" + filename.encode()
