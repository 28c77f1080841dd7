"""An outbox store in memory, for tests that need no server. It keeps the contract of the real ones."""

import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

from servicekit.outbox import Backlog, DeadLetter, DomainEvent, LeasedEvent, Origin


@dataclass(eq=False)
class _Row:
    event: DomainEvent
    destination: str
    origin: Origin
    recorded_at: float = field(default_factory=time.monotonic)
    due_at: float = field(default_factory=time.monotonic)
    lease: UUID | None = None
    failures: int = 0
    last_error: str = ""
    dead_since: datetime | None = None


class MemoryOutboxStore:
    """Events in a list, in the order in which their transactions committed. A transaction is a list of new rows."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[list[_Row]]:
        """Open a transaction that commits at the end, unless the block raises."""
        new: list[_Row] = []
        yield new
        self._rows += new

    async def record_all(self, tx: list[_Row], events: Sequence[tuple[DomainEvent, Sequence[str], Origin]]) -> None:
        tx += [_Row(event, destination, origin) for event, names, origin in events for destination in names]

    async def due_subjects(self, destination: str, types: Sequence[str], *, limit: int) -> list[str]:
        due = [row for row in self._waiting(destination) if _is_due(row, types)]
        return [row.event.subject for row in sorted(due, key=lambda row: row.due_at)[:limit]]

    async def subjects_after(self, destination: str, subject: str, *, limit: int) -> list[str]:
        subjects = {row.event.subject for row in self._waiting(destination)}
        return sorted(name for name in subjects if name > subject)[:limit]

    async def lease_first(
        self, destination: str, types: Sequence[str], subjects: Sequence[str], *, limit: int, seconds: float
    ) -> list[LeasedEvent]:
        first: dict[str, _Row] = {}
        for row in self._waiting(destination):
            first.setdefault(row.event.subject, row)
        due = [row for subject, row in first.items() if subject in subjects and _is_due(row, types)]
        lease = uuid4()
        for row in due[:limit]:
            row.lease, row.due_at = lease, time.monotonic() + seconds
        return [LeasedEvent(row, lease, row.event, row.origin, row.failures) for row in due[:limit]]

    async def delete(self, leased: Sequence[LeasedEvent]) -> None:
        delivered = {item.key for item in leased}
        self._rows = [row for row in self._rows if row not in delivered]

    async def postpone(self, leased: LeasedEvent, *, seconds: float, error: str | None, counted: bool) -> None:
        row: _Row = leased.key
        if row.lease == leased.lease:
            row.lease, row.due_at = None, time.monotonic() + seconds
            row.failures += int(counted)
            row.last_error = error or row.last_error

    async def dead_letter(self, leased: LeasedEvent, error: str) -> None:
        row: _Row = leased.key
        if row.lease == leased.lease:
            row.lease, row.dead_since, row.last_error = None, datetime.now(UTC), error
            row.failures += 1

    async def backlogs(self) -> Mapping[str, Backlog]:
        return {destination: self._backlog(destination) for destination in {row.destination for row in self._rows}}

    async def dead_letters(self) -> list[DeadLetter]:
        return [
            DeadLetter(
                id=row.event.id,
                destination=row.destination,
                type=row.event.type,
                subject=row.event.subject,
                occurred_at=row.event.occurred_at,
                failures=row.failures,
                since=row.dead_since,
                last_error=row.last_error,
            )
            for row in self._rows
            if row.dead_since
        ]

    async def newest_dead_letters(self, *, limit: int) -> list[DeadLetter]:
        return (await self.dead_letters())[: -limit - 1 : -1]

    async def retry(self, event_ids: Collection[UUID] | None = None) -> int:
        dead = [row for row in self._rows if row.dead_since and (event_ids is None or row.event.id in event_ids)]
        for row in dead:
            row.dead_since, row.failures, row.due_at = None, 0, time.monotonic()
        return len(dead)

    def _waiting(self, destination: str) -> list[_Row]:
        return [row for row in self._rows if row.destination == destination and not row.dead_since]

    def _backlog(self, destination: str) -> Backlog:
        waiting = self._waiting(destination)
        dead = sum(row.destination == destination and row.dead_since is not None for row in self._rows)
        oldest_seconds = time.monotonic() - waiting[0].recorded_at if waiting else 0.0
        return Backlog(len(waiting), dead, oldest_seconds)


def _is_due(row: _Row, types: Sequence[str]) -> bool:
    return row.due_at <= time.monotonic() and row.event.type in types
