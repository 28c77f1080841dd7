"""The labels under which types of events are counted.

Clients invent types and statistics list them, so the number of labels is limited.
The first `MAX_TYPES` types of the platform have a label of their own, for ever. Later types are counted under `OTHER`.
The domain events of the platform do not count towards the limit and always have a label. Events keep their type in any
case.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from loguru import logger
from prometheus_client import Counter
from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase

from analytics_service.rollups.rules import OTHER
from servicekit.storage.mongo import Document

COLLECTION_NAME: Final = "event_types"
MAX_TYPES: Final = 1_000
# The only document, which the migration creates.
_ID: Final = "types"

UNLABELLED = Counter("service_events_unlabelled_total", "Requests with a type that has no label of its own.")


async def ensure_document(database: AsyncDatabase[Document]) -> None:
    """Create the list of types if it is missing."""
    await database[COLLECTION_NAME].update_one({"_id": _ID}, {"$setOnInsert": {"names": []}}, upsert=True)


class EventTypes:
    """The types that have a label; fulfils `events.actions.TypeLabels`.

    Each process caches them. Types are only ever added, so a cached one never becomes wrong.
    """

    def __init__(self, database: AsyncDatabase[Document], reserved: Collection[str], *, limit: int = MAX_TYPES) -> None:
        self._types = database[COLLECTION_NAME]
        self._reserved = frozenset(reserved)
        self._limit = limit
        self._cached: frozenset[str] = frozenset()

    async def labels(self, types: Iterable[str]) -> Mapping[str, str]:
        wanted = set(types)
        new = wanted - self._reserved - self._cached
        if new and len(self._cached) < self._limit:
            await self._add(sorted(new))
        labels = {type_: self._label(type_) for type_ in wanted}
        if OTHER in labels.values():
            UNLABELLED.inc()
        return labels

    async def stored_labels(self, types: Iterable[str]) -> Mapping[str, str]:
        """Return the label of each type as stored now. No type gets a new one."""
        found = await self._types.find_one({"_id": _ID})
        self._cached = frozenset(found["names"]) if found else frozenset()
        return {type_: self._label(type_) for type_ in types}

    def _label(self, type_: str) -> str:
        return type_ if type_ in self._reserved or type_ in self._cached else OTHER

    async def _add(self, new: list[str]) -> None:
        """Add as many types as there is room for, in one atomic update: replicas may add types at the same time."""
        joined = {"$concatArrays": ["$names", {"$setDifference": [{"$literal": new}, "$names"]}]}
        document = await self._types.find_one_and_update(
            {"_id": _ID},
            [{"$set": {"names": {"$slice": [joined, self._limit]}}}],
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            raise LookupError("the list of types is missing: run `python -m analytics_service.migrate`")
        self._cached = frozenset(document["names"])
        if len(self._cached) >= self._limit:
            logger.warning("all {} labels are in use; further types are counted as {}", self._limit, OTHER)
