"""What records events."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from prometheus_client import Counter

from analytics_service.events.rules import Event, Sender, accepted
from analytics_service.events.schemas import BatchIn, EventIn, Recorded
from servicekit.core.clock import Clock
from servicekit.idempotency import IdempotentRequest, StoredResponse

EVENTS = Counter(
    "service_events_total", "Events that were sent: new ones, and ones that were there already.", ["result"]
)


class RecordsOnce(Protocol):
    async def record(
        self,
        attempt: IdempotentRequest,
        events: Sequence[Event],
        labels: Mapping[str, str],
        answer: Callable[[int], StoredResponse],
    ) -> StoredResponse:
        """Add the events that are not there yet, once per attempt; `answer` is told how many those are."""


class NamesLabels(Protocol):
    async def of(self, types: Iterable[str]) -> Mapping[str, str]:
        """Return the label under which each type is counted."""


class RecordEvents:
    """Takes events from clients and services."""

    def __init__(self, ledger: RecordsOnce, labels: NamesLabels, clock: Clock) -> None:
        self._ledger = ledger
        self._labels = labels
        self._clock = clock

    async def record(self, sender: Sender, body: EventIn | BatchIn, attempt: IdempotentRequest) -> StoredResponse:
        """Record all events or none, and answer how many are new. Raises `EventsRefused`."""
        events = accepted(sender, body, request_id=attempt.id, now=self._clock())
        sent = len(body.events) if isinstance(body, BatchIn) else 1
        # Before the transaction: a label that no event uses after all does no harm.
        labels = await self._labels.of(event.type for event in events)
        new = 0

        def answer(added: int) -> StoredResponse:
            nonlocal new
            new = added
            return StoredResponse.json(Recorded(accepted=added, duplicates=sent - added), status=202)

        stored = await self._ledger.record(attempt, events, labels, answer)
        if not stored.replayed:
            EVENTS.labels("new").inc(new)
            EVENTS.labels("duplicate").inc(sent - new)
        return stored
