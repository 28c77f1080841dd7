"""Under which label a type of event is counted. Clients invent types and statistics list them, so they are bounded.

The first `MAX_TYPES` types of the platform have a label of their own, for ever; what comes later is counted under
`OTHER`. The platform's own facts are not among them and always have theirs. Events keep their type in any case.
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
# The one document, which the migration creates.
_ID: Final = "types"

UNLABELLED = Counter("service_events_unlabelled_total", "Requests with a type that has no label of its own.")


async def ensure_document(database: AsyncDatabase[Document]) -> None:
    """Create the list of types where it is missing."""
    await database[COLLECTION_NAME].update_one({"_id": _ID}, {"$setOnInsert": {"names": []}}, upsert=True)


class Labels:
    """The types with a label, as this process knows them. They are only ever added, so knowledge stays true."""

    def __init__(self, database: AsyncDatabase[Document], facts: Collection[str], *, limit: int = MAX_TYPES) -> None:
        self._types = database[COLLECTION_NAME]
        self._facts = frozenset(facts)
        self._limit = limit
        self._known: frozenset[str] = frozenset()

    async def of(self, types: Iterable[str]) -> Mapping[str, str]:
        """Return the label of each type. New types get one while there is room."""
        wanted = set(types)
        new = wanted - self._facts - self._known
        if new and len(self._known) < self._limit:
            await self._add(sorted(new))
        labels = {type_: self._label(type_) for type_ in wanted}
        if OTHER in labels.values():
            UNLABELLED.inc()
        return labels

    async def known(self, types: Iterable[str]) -> Mapping[str, str]:
        """Return the label of each type as it stands in the database now. No type gets a new one."""
        found = await self._types.find_one({"_id": _ID})
        self._known = frozenset(found["names"]) if found else frozenset()
        return {type_: self._label(type_) for type_ in types}

    def _label(self, type_: str) -> str:
        return type_ if type_ in self._facts or type_ in self._known else OTHER

    async def _add(self, new: list[str]) -> None:
        """Add as many as there is room for, in one step: replicas may add at the same time."""
        joined = {"$concatArrays": ["$names", {"$setDifference": [{"$literal": new}, "$names"]}]}
        document = await self._types.find_one_and_update(
            {"_id": _ID},
            [{"$set": {"names": {"$slice": [joined, self._limit]}}}],
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            raise LookupError("the list of types is missing: run `python -m analytics_service.migrate`")
        self._known = frozenset(document["names"])
        if len(self._known) >= self._limit:
            logger.warning("all {} types of events are taken; further ones are counted as {}", self._limit, OTHER)
