"""Takes files in.

The bytes are complete and durable before the row that makes them visible is committed. Whatever happens before that
commit – a refusal, a client that goes away, a process that dies – leaves bytes that are noted as loose, or none.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from loguru import logger
from prometheus_client import Counter
from uuid_utils.compat import uuid7

from assets_service.records.schemas import AssetOut
from assets_service.storage.interface import Staging, StoreUnavailable
from assets_service.uploads.ingest import Intake, ReceivedFile
from assets_service.uploads.request import IncomingFile
from servicekit.core.clock import Clock
from servicekit.core.errors import PayloadTooLarge, ServiceError
from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.outbox import DomainEvent

ASSET_UPLOADED: Final = "asset.uploaded"

BYTES = Counter("service_uploaded_bytes_total", "Bytes of files that were taken in.")


class QuotaExceeded(PayloadTooLarge):
    """`quota` is in bytes."""

    type = "urn:baseplate:problem:quota-exceeded"

    def __init__(self, quota: int) -> None:
        super().__init__(
            f"Your files may have {quota} bytes together, and this one is too much.", user_quota_bytes=quota
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """In bytes: of one file, and of all files of one user."""

    file: int
    user: int


class Bytes(Protocol):
    async def stage(self, asset_id: UUID) -> Staging: ...


class Transaction(Protocol):
    async def add(self, asset: AssetOut, owner: UUID, *, quota: int) -> None:
        """Turn the loose bytes into an asset and charge its owner.

        Raises `QuotaExceeded`; `UploadTooSlow` when the bytes were given up meanwhile; `InvalidToken` when the account
        was deleted meanwhile.
        """

    async def record(self, fact: DomainEvent) -> None: ...


class Uploads(Protocol):
    async def announce(self, asset_id: UUID, owner: UUID, *, expected: int, quota: int) -> None:
        """Note that there will be loose bytes. Raises `QuotaExceeded` when so many are sure to be too much."""

    async def withdraw(self, asset_id: UUID) -> None:
        """Note that the loose bytes are gone."""

    async def find_stored(self, attempt: IdempotentRequest) -> StoredResponse | None: ...

    async def once(
        self, attempt: IdempotentRequest, effect: Callable[[Transaction], Awaitable[StoredResponse]]
    ) -> StoredResponse: ...


class UploadActions:
    """Uploads, each once per Idempotency-Key."""

    def __init__(self, uploads: Uploads, bytes_: Bytes, *, limits: Limits, clock: Clock) -> None:
        self._uploads = uploads
        self._bytes = bytes_
        self.limits = limits
        self._clock = clock

    async def upload(
        self,
        owner: UUID,
        file: IncomingFile,
        attempt_of: Callable[[bytes], Awaitable[IdempotentRequest]],
        answer: Callable[[AssetOut], StoredResponse],
    ) -> StoredResponse:
        """Store the file. `attempt_of` gets what makes two uploads the same. Raises what is wrong with the file."""
        asset_id = uuid7()
        quota = self.limits.user
        await self._uploads.announce(asset_id, owner, expected=file.expected or 0, quota=quota)
        staging = await self._bytes.stage(asset_id)
        try:
            received = await Intake(staging, declared=file.declared, limit=self.limits.file).receive(file)
            attempt = await attempt_of(_content(file.filename, received))
            stored = await self._uploads.find_stored(attempt)
            if stored is None:
                await staging.publish()
        except BaseException:
            await self._clean_up(asset_id, staging)
            raise
        if stored is not None:
            await self._clean_up(asset_id, staging)
            return stored
        asset = _asset(asset_id, file.filename, received, self._clock())
        return await self._commit(asset, owner, attempt, staging, answer)

    async def _commit(
        self,
        asset: AssetOut,
        owner: UUID,
        attempt: IdempotentRequest,
        staging: Staging,
        answer: Callable[[AssetOut], StoredResponse],
    ) -> StoredResponse:
        async def effect(transaction: Transaction) -> StoredResponse:
            await transaction.add(asset, owner, quota=self.limits.user)
            await transaction.record(_fact(asset, owner))
            return answer(asset)

        try:
            given = await self._uploads.once(attempt, effect)
        except ServiceError:
            # A refusal: nothing was committed. Of any other error nobody knows that, so it leaves the bytes, which
            # either have their row now or are found by the sweeper.
            await self._clean_up(asset.id, staging)
            raise
        if given.replayed:
            await self._clean_up(asset.id, staging)
        else:
            BYTES.inc(asset.size)
        return given

    async def _clean_up(self, asset_id: UUID, staging: Staging) -> None:
        try:
            await staging.discard()
            await self._uploads.withdraw(asset_id)
        except Exception as error:  # Whoever is answered now has a better reason; the sweeper has time.
            kind = "store away" if isinstance(error, StoreUnavailable) else type(error).__name__
            logger.warning("the bytes of upload {} are left to the sweeper: {}", asset_id, kind)


def _asset(asset_id: UUID, filename: str, received: ReceivedFile, now: datetime) -> AssetOut:
    return AssetOut(
        id=asset_id,
        filename=filename,
        media_type=received.media_type,
        size=received.size,
        sha256=received.sha256.hex(),
        created_at=now,
    )


def _fact(asset: AssetOut, owner: UUID) -> DomainEvent:
    payload = {"asset_id": str(asset.id), "size": asset.size, "media_type": asset.media_type}
    return DomainEvent(type=ASSET_UPLOADED, subject=str(owner), payload=payload)


def _content(filename: str, received: ReceivedFile) -> bytes:
    # The digest has a fixed length and a type no line break, so that no two uploads read the same.
    return received.sha256 + received.media_type.encode() + b"\n" + filename.encode()
