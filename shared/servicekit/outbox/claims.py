"""Which facts of one destination may be delivered now: the first of each subject, where it is due.

A fact that waits behind another of its subject is due, too, and thousands of them may stand before everybody else's.
So the oldest due facts are looked at first, which is all there is to do nearly always; when they are many and have
brought too little, a walk through the subjects goes on where it ended the last time. Neither costs more the more facts
a subject has waiting.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from servicekit.outbox.store import Claim, OutboxStore

WINDOW: Final = 100


class LeaseSelector:
    """Claims facts of some types for one destination."""

    def __init__(
        self, store: OutboxStore[Any], destination: str, types: Iterable[str], *, lease_seconds: float
    ) -> None:
        self._store = store
        self._destination = destination
        self._types = sorted(types)
        self._lease_seconds = lease_seconds
        self._walked_to = ""

    async def claim(self, limit: int) -> list[Claim]:
        """Lease up to `limit` facts, no two of one subject."""
        due = await self._store.due_subjects(self._destination, self._types, limit=WINDOW)
        if not due:
            return []
        claims = await self._lease(list(dict.fromkeys(due)), limit)
        if len(claims) < limit and len(due) == WINDOW:
            claims += await self._lease(await self._walk(limit), limit - len(claims))
        return claims

    async def _walk(self, limit: int) -> list[str]:
        subjects = await self._store.subjects_after(self._destination, self._walked_to, limit=limit)
        # A short answer means that the end is reached; the next walk begins at the start.
        self._walked_to = subjects[-1] if len(subjects) == limit else ""
        return subjects

    async def _lease(self, subjects: Sequence[str], limit: int) -> list[Claim]:
        if not subjects:
            return []
        return await self._store.lease_first(
            self._destination, self._types, subjects, limit=limit, seconds=self._lease_seconds
        )
