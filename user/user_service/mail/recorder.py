"""Records domain events in the outbox of their kind: for services, or for mails."""

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from servicekit.outbox import DomainEvent, Outbox
from user_service.domain_events import MAILS

Transaction = AsyncSession | AsyncConnection


class EventRecorder:
    """Records events within the transaction of their cause. Without an outbox for mails, it drops them.

    They would be sent when a server is configured some day, long after their cause.
    """

    def __init__(self, events: Outbox[Transaction], mails: Outbox[Transaction] | None) -> None:
        self._events = events
        self._mails = mails

    async def record(self, tx: Transaction, event: DomainEvent) -> None:
        """Have the event delivered if, and only if, the transaction commits."""
        if event.type not in MAILS:
            await self._events.record(tx, event)
        elif self._mails is not None:
            await self._mails.record(tx, event)
