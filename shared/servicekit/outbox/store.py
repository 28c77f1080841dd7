"""What the outbox needs from a store. `servicekit.outbox.postgres` and `.mongo` provide it, and keep one contract.

A store keeps one row or document per fact and destination, so that a destination that is away delays no other. It has a
place in the order of its destination and subject, given by the store's own counter, and a time at which it is due.
Claiming moves that time to the lease's end: a relay that dies lets its facts become due again by itself, and no
transaction stays open during a delivery. All times are the store's clock, so that the clocks of replicas may differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self, TypeVar
from uuid import UUID

from servicekit.core import context
from servicekit.outbox.events import DomainEvent

TxT_contra = TypeVar("TxT_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Origin:
    """The request that caused a fact, so that logs and traces lead from it to the delivery."""

    correlation_id: str | None = None
    traceparent: str | None = None

    @classmethod
    def current(cls) -> Self:
        """Return the request in progress, or an empty origin outside of one."""
        request = context.current()
        return cls(request.correlation_id, request.traceparent) if request else cls()


@dataclass(frozen=True, slots=True)
class Claim:
    """A fact that one relay has leased for one destination. `key` is the store's own name for it."""

    key: Any
    lease: UUID
    fact: DomainEvent
    origin: Origin
    # Failures that count towards parking; being unable to reach the destination does not.
    failures: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much one destination has not heard of yet."""

    waiting: int = 0
    parked: int = 0
    # Age of the oldest waiting fact.
    oldest_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A fact that was given up until someone retries it. The payload is left out: it may be somebody's data."""

    id: UUID
    destination: str
    type: str
    subject: str
    failures: int
    parked_at: datetime
    last_error: str


class OutboxStore(Protocol[TxT_contra]):
    """Keeps facts until they are delivered. `TxT_contra` is the transaction in which a fact is recorded."""

    async def record(self, tx: TxT_contra, fact: DomainEvent, destinations: Sequence[str], origin: Origin) -> None:
        """Add the fact for each destination within the caller's transaction."""

    async def due_subjects(self, destination: str, types: Sequence[str], *, limit: int) -> list[str]:
        """Return the subjects of up to `limit` facts that are due, the longest due first; a subject may repeat."""

    async def subjects_after(self, destination: str, subject: str, *, limit: int) -> list[str]:
        """Return the next subjects that have waiting facts, in the order of their names."""

    async def lease_first(
        self, destination: str, types: Sequence[str], subjects: Sequence[str], *, limit: int, seconds: float
    ) -> list[Claim]:
        """Lease the first waiting fact of each subject where it is due and of one of these types: `limit` at most."""

    async def delivered(self, claims: Sequence[Claim]) -> None:
        """Forget these facts, whoever holds their lease by now: they have arrived."""

    async def postpone(self, claim: Claim, *, seconds: float, error: str | None, counted: bool) -> None:
        """Give the lease back and let the fact be due in `seconds`. Without the lease this does nothing."""

    async def park(self, claim: Claim, error: str) -> None:
        """Put the fact aside until it is retried. Without the lease this does nothing."""

    async def backlogs(self) -> Mapping[str, Backlog]:
        """Return the backlog of each destination that has one."""

    async def parked(self) -> list[DeadLetter]:
        """Return all parked facts, in the order in which they were recorded."""

    async def retry(self, fact_id: UUID | None = None) -> int:
        """Let parked facts be due again: one, for all its destinations, or all of them. Return how many were parked."""
