"""The database and the user service in memory. The contract tests run the database beside MongoDB."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from analytics_service.events.queries import EventFilter, Position
from analytics_service.events.rules import RESERVED_EVENT_TYPES, Event, count_minutes
from analytics_service.rollups.rules import EPOCH, EVER_SLOT, OTHER, Cell, Span, count_events, count_users
from analytics_service.statistics.queries import UserCountUnavailable
from analytics_service.statistics.rules import Interval
from servicekit.idempotency import IdempotentRequest, StoredResponse


class MemoryDatabase:
    """Fulfils the Protocols of the actions and queries."""

    def __init__(
        self, *, max_types: int = 1_000, allowance: int = 50, reserved: Collection[str] = RESERVED_EVENT_TYPES
    ) -> None:
        self.events: dict[bytes, Event] = {}
        self.responses: dict[bytes, tuple[StoredResponse, bytes]] = {}
        self._users: set[UUID] = set()
        self._types: set[str] = set()
        self._counts: defaultdict[Cell, Counter[int]] = defaultdict(Counter)
        self._max_types = max_types
        self._allowance = allowance
        self._added: defaultdict[str, int] = defaultdict(int)
        self._reserved = frozenset(reserved)

    async def record(
        self,
        request: IdempotentRequest,
        events: Sequence[Event],
        labels: Mapping[str, str],
        respond: Callable[[int], StoredResponse],
    ) -> StoredResponse:
        if request.id is not None and request.id in self.responses:
            return request.replay(*self.responses[request.id])
        new = [event for event in events if event.key not in self.events]
        response = respond(len(new))
        users = {event.user_id for event in new if event.user_id is not None} - self._users
        for cell, slots in {**count_events(count_minutes(new, labels)), **count_users(len(users))}.items():
            self._counts[cell].update(slots)
        self.events |= {event.key: event for event in new}
        self._users |= users
        if request.id is not None:
            self.responses[request.id] = (response, request.fingerprint)
        return response

    async def labels(self, types: Iterable[str], user: str | None) -> Mapping[str, str]:
        wanted = list(dict.fromkeys(types))
        for type_ in wanted:
            if type_ in self._reserved | self._types or len(self._types) == self._max_types:
                continue
            if user is None or self._added[user] < self._allowance:
                self._types.add(type_)
                if user is not None:
                    self._added[user] += 1
        return {type_: type_ if type_ in self._reserved | self._types else OTHER for type_ in wanted}

    async def find_newest(self, wanted: EventFilter, after: Position | None, limit: int) -> Sequence[Mapping[str, Any]]:
        found = [
            {**{name: getattr(event, name) for name in Event.__dataclass_fields__}, "_id": UUID(bytes=event.key)}
            for event in self.events.values()
            if wanted.user_id in (None, event.user_id)
            and wanted.type in (None, event.type)
            and (wanted.since is None or wanted.since <= event.occurred_at)
            and (wanted.until is None or event.occurred_at < wanted.until)
            and (after is None or (event.occurred_at, UUID(bytes=event.key)) < after)
        ]
        return sorted(found, key=lambda event: (event["occurred_at"], event["_id"]), reverse=True)[:limit]

    async def count_types(self, wanted: EventFilter, limit: int) -> Mapping[str, int]:
        return Counter(event["type"] for event in await self.find_newest(wanted, None, limit))

    async def count_intervals(self, wanted: EventFilter, interval: Interval, limit: int) -> Mapping[datetime, int]:
        found = await self.find_newest(wanted, None, limit)
        times = (event["occurred_at"] for event in found)
        return Counter(EPOCH + (time - EPOCH) // interval.length * interval.length for time in times)

    async def stored_labels(self, types: Iterable[str]) -> Mapping[str, str]:
        return {type_: type_ if type_ in self._reserved | self._types else OTHER for type_ in types}

    async def totals(self) -> Mapping[str, int]:
        return {cell.label: slots[EVER_SLOT] for cell, slots in self._counts.items() if cell.span is Span.EVER}

    async def counts(
        self, span: Span, label: str, first: datetime, last: datetime
    ) -> Mapping[datetime, Mapping[int, int]]:
        return {
            cell.start: dict(slots)
            for cell, slots in self._counts.items()
            if (cell.span, cell.label) == (span, label) and first <= cell.start <= last
        }


class MemoryUsers:
    """Fulfils `statistics.queries.UserCounter`. With a `reason`, the number is unavailable."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.reason: str | None = None

    async def count(self) -> int:
        if self.reason is not None:
            raise UserCountUnavailable(self.reason)
        return self.number
