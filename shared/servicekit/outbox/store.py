"""What the outbox needs of a store. `servicekit.outbox.postgres` and `servicekit.outbox.mongo` provide it.

A store has one row, or document, for each event and destination, so that an unavailable destination delays no other.
The row has a position, given by the store's own counter, and the time at which the event is due. Events of one subject
go to a destination in the order of their positions.

A relay leases an event by moving its due time to the end of the lease. No transaction stays open during a delivery,
and the event of a relay that dies becomes due again by itself. All times come from the store's clock, because the
clocks of replicas may differ.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self, TypeVar
from uuid import UUID

from servicekit.core import context
from servicekit.outbox.events import DomainEvent

TxT_contra = TypeVar("TxT_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Origin:
    """The request that caused an event. Logs and traces lead from that request to the delivery."""

    correlation_id: str | None = None
    traceparent: str | None = None

    @classmethod
    def current(cls) -> Self:
        """Return the request in progress; outside of a request, an empty origin."""
        request = context.current()
        return cls(request.correlation_id, request.traceparent) if request else cls()


@dataclass(frozen=True, slots=True)
class LeasedEvent:
    """An event that one relay has leased for one destination. `key` identifies it in the store."""

    key: Any
    lease: UUID
    event: DomainEvent
    origin: Origin
    # Failed deliveries so far, without those that found the destination unavailable.
    failures: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What one destination has not received yet."""

    waiting: int = 0
    dead_letters: int = 0
    # Age of the oldest waiting event.
    oldest_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event whose delivery was given up until an operator retries it. The payload is omitted: it may be private."""

    id: UUID
    destination: str
    type: str
    subject: str
    occurred_at: datetime
    failures: int
    since: datetime
    last_error: str


class OutboxStore(Protocol[TxT_contra]):
    """Keeps events until they are delivered. `TxT_contra` is the transaction in which an event is recorded."""

    async def record_all(self, tx: TxT_contra, events: Sequence[tuple[DomainEvent, Sequence[str], Origin]]) -> None:
        """Add each event for each of its destinations, within the caller's transaction."""

    async def due_subjects(self, destination: str, types: Sequence[str], *, limit: int) -> list[str]:
        """Return the subjects of at most `limit` due events, longest due first. A subject may occur repeatedly."""

    async def subjects_after(self, destination: str, subject: str, *, limit: int) -> list[str]:
        """Return the next subjects with waiting events, in alphabetical order."""

    async def lease_first(
        self, destination: str, types: Sequence[str], subjects: Sequence[str], *, limit: int, seconds: float
    ) -> list[LeasedEvent]:
        """Lease the first waiting event of each subject, if it is due and of one of these types; at most `limit`."""

    async def delete(self, leased: Sequence[LeasedEvent]) -> None:
        """Delete delivered events, even if their leases have passed to another relay."""

    async def postpone(self, leased: LeasedEvent, *, seconds: float, error: str | None, counted: bool) -> None:
        """Return the lease and let the event be due in `seconds`. Without the lease, do nothing."""

    async def dead_letter(self, leased: LeasedEvent, error: str) -> None:
        """Make the event a dead letter until it is retried. Without the lease, do nothing."""

    async def backlogs(self) -> Mapping[str, Backlog]:
        """Return the backlog of each destination that has one."""

    async def dead_letters(self) -> list[DeadLetter]:
        """Return all dead letters, in the order in which their events were recorded."""

    async def newest_dead_letters(self, *, limit: int) -> list[DeadLetter]:
        """Return at most `limit` dead letters, those first whose events were recorded last."""

    async def retry(self, event_ids: Collection[UUID] | None = None) -> int:
        """Let dead letters be due again: those of these events, or all. Return how many there were."""
