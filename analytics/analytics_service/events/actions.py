"""The action that records events."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from prometheus_client import Counter

from analytics_service.events.rules import Event, Sender, accept
from analytics_service.events.schemas import BatchIn, EventIn, Recorded
from servicekit.core.clock import Clock
from servicekit.idempotency import IdempotentRequest, StoredResponse

EVENTS = Counter("service_events_total", "Events that were sent, by result: new or duplicate.", ["result"])


class EventRecorder(Protocol):
    async def record(
        self,
        request: IdempotentRequest,
        events: Sequence[Event],
        labels: Mapping[str, str],
        respond: Callable[[int], StoredResponse],
    ) -> StoredResponse:
        """Add the events that are new, once per key; `respond` makes the response from their number.

        Raises `KeyInUse` or `KeyReused`, and `ServiceUnavailable` when other requests are in the way for too long.
        """


class TypeLabels(Protocol):
    async def labels(self, types: Iterable[str], user: str | None) -> Mapping[str, str]:
        """Return the label under which each type is counted.

        New types get one while there is room and the user's allowance lasts. Services (None) have no such limit.
        """


class EventActions:
    """Records events of clients and services."""

    def __init__(self, recorder: EventRecorder, types: TypeLabels, clock: Clock) -> None:
        self._recorder = recorder
        self._types = types
        self._clock = clock

    async def record(self, sender: Sender, body: EventIn | BatchIn, request: IdempotentRequest) -> StoredResponse:
        """Record all events or none; the response says how many are new. Raises `EventsRefused`."""
        events = accept(sender, body, request_id=request.id, now=self._clock())
        sent = len(body.events) if isinstance(body, BatchIn) else 1
        # Before the transaction: a label that no event uses after all does no harm.
        labels = await self._types.labels(
            (event.type for event in events), None if sender.user_id is None else sender.name
        )
        new = 0

        def respond(added: int) -> StoredResponse:
            nonlocal new
            new = added
            return StoredResponse.json(Recorded(accepted=added, duplicates=sent - added), status=202)

        stored = await self._recorder.record(request, events, labels, respond)
        if not stored.replayed:
            EVENTS.labels("new").inc(new)
            EVENTS.labels("duplicate").inc(sent - new)
        return stored
