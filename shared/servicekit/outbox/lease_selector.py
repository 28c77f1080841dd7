"""The choice of the events that a destination may get now."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from servicekit.outbox.store import LeasedEvent, OutboxStore

# How many due events are looked at before the subjects are walked through.
WINDOW: Final = 100


class LeaseSelector:
    """Leases the events of one destination that may be delivered now: the first of each subject, if it is due.

    An event that waits behind another of its subject may be due as well. Thousands of them may hide the other
    subjects. So the selector looks at the oldest due events first, which is nearly always enough. If these fill the
    window and too few of them can be leased, it walks through the subjects, from where the last walk ended. Neither
    step costs more for a subject with many events.
    """

    def __init__(
        self, store: OutboxStore[Any], destination: str, types: Iterable[str], *, lease_seconds: float
    ) -> None:
        self._store = store
        self._destination = destination
        self._types = sorted(types)
        self._lease_seconds = lease_seconds
        self._walked_to = ""

    async def lease(self, limit: int) -> list[LeasedEvent]:
        """Lease at most `limit` events, no two of one subject."""
        due = await self._store.due_subjects(self._destination, self._types, limit=WINDOW)
        leased = await self._lease_first(list(dict.fromkeys(due)), limit)
        if len(leased) < limit and len(due) == WINDOW:
            leased += await self._lease_first(await self._walk(limit), limit - len(leased))
        return leased

    async def _walk(self, limit: int) -> list[str]:
        subjects = await self._store.subjects_after(self._destination, self._walked_to, limit=limit)
        # Fewer than asked for: this is the end, and the next walk begins at the start.
        self._walked_to = subjects[-1] if len(subjects) == limit else ""
        return subjects

    async def _lease_first(self, subjects: Sequence[str], limit: int) -> list[LeasedEvent]:
        if not subjects:
            return []
        return await self._store.lease_first(
            self._destination, self._types, subjects, limit=limit, seconds=self._lease_seconds
        )
