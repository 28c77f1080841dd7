"""Stores in memory, which fulfil the interfaces that the service's decisions declare.

The contract tests run them beside PostgreSQL, the folder and the bucket.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from uuid_utils.compat import uuid7

from assets_service.records.schemas import AssetOut
from assets_service.storage.interface import BytesMissing, StoreUnavailable, WrongStore, shard_of
from assets_service.uploads.actions import RESERVED_FOR, QuotaExceeded, QuotaReserved, Transaction, UploadTooSlow
from servicekit.auth.access_tokens import InvalidToken
from servicekit.core.clock import Clock, utc_now
from servicekit.idempotency import IdempotentRequest, StoredResponse
from servicekit.outbox import DomainEvent


class MemoryByteStore:
    """A `ByteStore`. While `unavailable` is set, every call fails."""

    def __init__(self, *, clock: Clock = utc_now) -> None:
        self.unavailable = False
        self.objects: dict[UUID, bytes] = {}
        self.staged: dict[UUID, bytearray] = {}
        self.publications = 0
        # Called after each write with the size of all objects.
        self.measure: Callable[[int], None] = lambda _size: None
        self._published_at: dict[UUID, datetime] = {}
        self.clock = clock
        self._prepared = False

    async def stage(self, asset_id: UUID) -> "MemoryStaging":
        self.require_available()
        self.staged[asset_id] = bytearray()
        return MemoryStaging(self, asset_id)

    def publish(self, asset_id: UUID) -> None:
        self.require_available()
        self.objects[asset_id] = bytes(self.staged.pop(asset_id))
        self._published_at[asset_id] = self.clock()
        self.publications += 1

    async def read(self, asset_id: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        self.require_available()
        if asset_id not in self.objects:
            raise BytesMissing
        return self._chunks(self.objects[asset_id][start:stop])

    async def exists(self, asset_id: UUID) -> bool:
        self.require_available()
        return asset_id in self.objects

    async def remove(self, asset_id: UUID) -> None:
        self.require_available()
        self.staged.pop(asset_id, None)
        self.objects.pop(asset_id, None)

    async def published(self, shard: int) -> Mapping[UUID, datetime]:
        self.require_available()
        return {asset_id: self._published_at[asset_id] for asset_id in self.objects if shard_of(asset_id) == shard}

    def location(self, asset_id: UUID) -> str | None:
        return str(asset_id)

    async def prepare(self, *, in_use: bool) -> None:
        self.require_available()
        if in_use and not self._prepared:
            raise WrongStore
        self._prepared = True

    async def check(self) -> None:
        self.require_available()
        if not self._prepared:
            raise FileNotFoundError

    def require_available(self) -> None:
        if self.unavailable:
            raise StoreUnavailable

    @staticmethod
    async def _chunks(content: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]


class MemoryStaging:
    """A `Staging`."""

    def __init__(self, store: MemoryByteStore, asset_id: UUID) -> None:
        self._store = store
        self._asset_id = asset_id

    async def write(self, chunks: Sequence[bytes]) -> None:
        await asyncio.sleep(0)
        self._store.require_available()
        self._store.staged[self._asset_id] += b"".join(chunks)
        self._store.measure(sum(map(len, [*self._store.staged.values(), *self._store.objects.values()])))

    async def publish(self) -> None:
        await asyncio.sleep(0)
        self._store.publish(self._asset_id)

    async def discard(self) -> None:
        await self._store.remove(self._asset_id)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room in a quota."""

    asset_id: UUID
    owner: UUID
    key: bytes | None
    size: int
    until: datetime


class MemoryDatabase:
    """Fulfils `Uploads`, `Records`, `Orphans` and `AssetRows`.

    `before_run` is called at the start of `run_once`. `commit_error` is raised instead of a commit, as when the
    connection breaks.
    """

    def __init__(self, *, clock: Clock = utc_now) -> None:
        self.assets: dict[UUID, tuple[AssetOut, UUID]] = {}
        self.orphans: dict[UUID, datetime] = {}
        self.reservations: dict[UUID, Reservation] = {}
        self.usage: dict[UUID, int] = {}
        self.erased: dict[UUID, datetime] = {}
        self.events: list[DomainEvent] = []
        self.responses: dict[bytes, tuple[StoredResponse, bytes]] = {}
        self.commit_error: Exception | None = None
        self.before_run: Callable[[], None] = lambda: None
        self._leased: set[UUID] = set()
        self._running: set[bytes] = set()
        self._locked = False
        self.clock = clock

    async def begin(
        self, asset_id: UUID, owner: UUID, request: IdempotentRequest, *, expected_size: int, quota: int
    ) -> None:
        try:
            self._check_room(asset_id, owner, expected_size, quota)
        except QuotaReserved:
            if request.id is not None and any(other.key == request.id for other in self._in_progress(owner)):
                raise request.in_use() from None
            raise
        self.orphans[asset_id] = self.clock()
        until = self.clock() + RESERVED_FOR
        self.reservations[asset_id] = Reservation(asset_id, owner, request.id, expected_size, until)

    async def reserve(self, asset_id: UUID, owner: UUID, *, size: int, quota: int) -> None:
        self._check_room(asset_id, owner, size, quota)
        if asset_id not in self.orphans:
            raise UploadTooSlow
        reserved = self.reservations[asset_id]
        self.reservations[asset_id] = replace(reserved, size=size, until=self.clock() + RESERVED_FOR)

    def _in_progress(self, owner: UUID) -> list["Reservation"]:
        reservations = [self.reservations[key] for key in self.orphans.keys() & self.reservations.keys()]
        return [item for item in reservations if item.owner == owner and item.until > self.clock()]

    def _check_room(self, asset_id: UUID, owner: UUID, size: int, quota: int) -> None:
        used = self.usage.get(owner, 0)
        if used + size > quota:
            raise QuotaExceeded(quota)
        if used + size + sum(item.size for item in self._in_progress(owner) if item.asset_id != asset_id) > quota:
            raise QuotaReserved(quota)

    async def abandon(self, asset_id: UUID) -> None:
        self.orphans.pop(asset_id, None)

    async def find_stored(self, request: IdempotentRequest) -> StoredResponse | None:
        if request.id is None or request.id not in self.responses:
            return None
        return request.replay(*self.responses[request.id])

    async def run_once(
        self, request: IdempotentRequest, effect: Callable[[Transaction], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        self.before_run()
        if request.id in self._running:
            raise request.in_use()
        if stored := await self.find_stored(request):
            return stored
        if request.id is not None:
            self._running.add(request.id)
        transaction = MemoryTransaction(self)
        try:
            response = await effect(transaction)
            if self.commit_error is not None:
                raise self.commit_error
            transaction.commit()
        finally:
            self._running.discard(request.id or b"")
        if request.id is not None and response.is_success:
            self.responses[request.id] = (response, request.fingerprint)
        return response

    async def remove(self, owner: UUID, asset_id: UUID) -> bool:
        if asset_id not in self.assets or self.assets[asset_id][1] != owner:
            return False
        await self.drop(asset_id)
        self.orphans[asset_id] = self.clock()
        return True

    async def remove_all(self, owner: UUID, now: datetime) -> int:
        removed = [asset_id for asset_id, (_, owner_id) in self.assets.items() if owner_id == owner]
        for asset_id in removed:
            await self.drop(asset_id)
            self.orphans[asset_id] = datetime.fromtimestamp(0, now.tzinfo)
        self.usage[owner] = 0
        self.erased[owner] = now
        return len(removed)

    async def forget_orphan(self, asset_id: UUID) -> None:
        self.orphans.pop(asset_id, None)

    @asynccontextmanager
    async def lease(self, before: datetime, limit: int) -> AsyncIterator[Sequence[UUID]]:
        due = sorted(self.orphans.keys() - self._leased, key=lambda asset_id: self.orphans[asset_id])
        leased = [asset_id for asset_id in due if self.orphans[asset_id] <= before][:limit]
        self._leased.update(leased)
        try:
            yield leased
            for asset_id in leased:
                del self.orphans[asset_id]
        finally:
            self._leased.difference_update(leased)

    async def forget_accounts(self, before: datetime) -> None:
        for owner in [owner for owner, since in self.erased.items() if since <= before]:
            del self.erased[owner], self.usage[owner]

    @asynccontextmanager
    async def try_lock(self) -> AsyncIterator[bool]:
        if self._locked:
            yield False
            return
        self._locked = True
        try:
            yield True
        finally:
            self._locked = False

    async def in_shard(self, shard: int) -> Mapping[UUID, datetime]:
        return {key: asset.created_at for key, (asset, _) in self.assets.items() if shard_of(key) == shard}

    async def add_orphans(self, asset_ids: Collection[UUID]) -> None:
        for asset_id in asset_ids:
            self.orphans.setdefault(asset_id, self.clock())

    async def drop(self, asset_id: UUID) -> None:
        if asset_id in self.assets:
            asset, owner = self.assets.pop(asset_id)
            self.usage[owner] -= asset.size


class MemoryTransaction:
    """A `Transaction` whose changes become visible together, by `commit`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self._assets: dict[UUID, tuple[AssetOut, UUID]] = {}
        self._events: list[DomainEvent] = []

    async def add(self, asset: AssetOut, owner: UUID, *, quota: int) -> None:
        if asset.id not in self._database.orphans:
            raise UploadTooSlow
        if owner in self._database.erased:
            raise InvalidToken
        if self._database.usage.get(owner, 0) + asset.size > quota:
            raise QuotaExceeded(quota)
        self._assets[asset.id] = (asset, owner)

    async def record(self, event: DomainEvent) -> None:
        self._events.append(event)

    def commit(self) -> None:
        self._database.events += self._events
        self._database.assets |= self._assets
        for asset, owner in self._assets.values():
            del self._database.orphans[asset.id]
            self._database.usage[owner] = self._database.usage.get(owner, 0) + asset.size


async def stored_asset(
    database: MemoryDatabase, store: MemoryByteStore, owner: UUID, content: bytes = b"content"
) -> AssetOut:
    """Store a file, as an upload that succeeded."""
    asset = new_asset(size=len(content), created_at=database.clock())
    await database.begin(asset.id, owner, IdempotentRequest("/", None), expected_size=0, quota=10**9)
    staging = await store.stage(asset.id)
    await staging.write([content])
    await staging.publish()

    async def effect(transaction: Transaction) -> StoredResponse:
        await transaction.add(asset, owner, quota=10**9)
        return StoredResponse(201)

    await database.run_once(IdempotentRequest("/", None), effect)
    return asset


def new_asset(*, size: int = 1, created_at: datetime | None = None) -> AssetOut:
    return AssetOut(
        id=uuid7(),
        filename="a.txt",
        media_type="text/plain",
        size=size,
        sha256="00" * 32,
        created_at=created_at or utc_now(),
    )
