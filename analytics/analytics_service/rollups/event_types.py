"""The labels under which types of events are counted.

Clients invent types and statistics list them, so the number of labels is limited: `ALLOWANCE` new ones for each user,
and `MAX_TYPES` on the platform. Further types are counted under `OTHER`. Their events say so, because the same type may
get a label later. An operator can free labels (`analytics_service.free_types`). The domain events of the platform do
not count towards the limits and always have a label. Events keep their type in any case.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from loguru import logger
from prometheus_client import Counter
from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase

from analytics_service.rollups.rules import OTHER
from servicekit.storage.mongo import Document

COLLECTION_NAME: Final = "event_types"
MAX_TYPES: Final = 1_000
ALLOWANCE: Final = 50
"""How many labels one user may add. Services of the platform may add any number."""
# A process learns of freed labels within this time.
CACHE_SECONDS: Final = 5.0
# The document with all labels, which the migration creates. Beside it, each user who added some has a document.
_ID: Final = "types"
# Takes the place of a freed label of a user, whose allowance stays used.
_FREED: Final = "(freed)"

UNLABELLED = Counter("service_events_unlabelled_total", "Requests with a type that has no label of its own.")


async def ensure_document(database: AsyncDatabase[Document]) -> None:
    """Create the list of types if it is missing."""
    await database[COLLECTION_NAME].update_one({"_id": _ID}, {"$setOnInsert": {"names": []}}, upsert=True)


class EventTypes:
    """The types that have a label; fulfils `events.actions.TypeLabels`. Each process caches them for a short time."""

    def __init__(
        self,
        database: AsyncDatabase[Document],
        reserved: Collection[str],
        *,
        limit: int = MAX_TYPES,
        allowance: int = ALLOWANCE,
        cache_seconds: float = CACHE_SECONDS,
    ) -> None:
        self._types = database[COLLECTION_NAME]
        self._reserved = frozenset(reserved)
        self._limit = limit
        self._allowance = allowance
        self._cache_seconds = cache_seconds
        self._cached: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    async def labels(self, types: Iterable[str], user: str | None) -> Mapping[str, str]:
        wanted = list(dict.fromkeys(types))
        if time.monotonic() - self._read_at > self._cache_seconds:
            await self._read()
        if self._unlabelled(wanted) and len(self._cached) < self._limit:
            # A type that another process has added costs no allowance.
            await self._read()
            if new := await self._allowed(self._unlabelled(wanted), user):
                await self._add(new)
        labels = {type_: self._label(type_) for type_ in wanted}
        if OTHER in labels.values():
            UNLABELLED.inc()
        return labels

    async def stored_labels(self, types: Iterable[str]) -> Mapping[str, str]:
        """Return the label of each type as stored now. No type gets a new one."""
        await self._read()
        return {type_: self._label(type_) for type_ in types}

    async def stored(self) -> frozenset[str]:
        """Return all types that have a label now, those of the platform included."""
        await self._read()
        return self._cached | self._reserved

    async def free(self, types: Sequence[str]) -> None:
        """Take the labels of these types away. Processes may give out those labels for `cache_seconds` more."""
        await self._types.update_one(
            {"_id": _ID}, [{"$set": {"names": {"$setDifference": ["$names", {"$literal": list(types)}]}}}]
        )
        freed = {"$cond": [{"$in": ["$$this", {"$literal": list(types)}]}, _FREED, "$$this"]}
        await self._types.update_many(
            {"_id": {"$ne": _ID}, "names": {"$in": list(types)}},
            [{"$set": {"names": {"$map": {"input": "$names", "in": freed}}}}],
        )

    def _label(self, type_: str) -> str:
        return type_ if type_ in self._reserved or type_ in self._cached else OTHER

    def _unlabelled(self, types: Iterable[str]) -> list[str]:
        return [type_ for type_ in types if self._label(type_) == OTHER]

    async def _read(self) -> None:
        found = await self._types.find_one({"_id": _ID})
        self._keep(found["names"] if found else ())

    def _keep(self, names: Iterable[str]) -> None:
        self._cached = frozenset(names)
        self._read_at = time.monotonic()

    async def _allowed(self, new: list[str], user: str | None) -> list[str]:
        """Return the types that the user may add, in one atomic update: each replica sees what the others allowed."""
        if user is None or not new:
            return new
        document: Any = await self._types.find_one_and_update(
            {"_id": f"user:{user}"}, _appended(new, self._allowance), upsert=True, return_document=ReturnDocument.AFTER
        )
        return [type_ for type_ in new if type_ in document["names"]]

    async def _add(self, new: list[str]) -> None:
        """Add as many types as there is room for, in one atomic update: replicas may add types at the same time."""
        document = await self._types.find_one_and_update(
            {"_id": _ID}, _appended(new, self._limit), return_document=ReturnDocument.AFTER
        )
        if document is None:
            raise LookupError("the list of types is missing: run `python -m analytics_service.migrate`")
        self._keep(document["names"])
        if len(self._cached) >= self._limit:
            logger.warning("all {} labels are in use; further types are counted as {}", self._limit, OTHER)


def _appended(new: list[str], limit: int) -> list[Document]:
    """Return the update that appends those names that are missing, in their order, while there is room."""
    names: Document = {"$ifNull": ["$names", []]}
    missing = {"$filter": {"input": {"$literal": new}, "cond": {"$not": {"$in": ["$$this", names]}}}}
    return [{"$set": {"names": {"$slice": [{"$concatArrays": [names, missing]}, limit]}}}]
