"""The rollups in MongoDB, with one document per cell and shard.

    {"_id": {"span": "hour", "label": "page.view", "start": 2026-01-01T10:00Z, "shard": 3}, "counts": {"17": 2}}

The id needs no other index: embedded documents compare field by field, so a range of starts of one label is a range of
ids. https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/#objects
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from bson import MaxKey
from pymongo import IndexModel, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from analytics_service.rollups.rules import EVER_SLOT, SLOTS, Cell, Counts, Span
from servicekit.storage.mongo import Document

COLLECTION_NAME: Final = "rollups"
INDEXES: Final = [IndexModel([("_id.span", 1), ("_id.start", 1)], name="by_start")]
"""Only for the comparison with the events, which reads all labels of a day. Requests use the id."""

# Corrections have a shard that no pool has, so they do not conflict with events.
CORRECTIONS_SHARD: Final = -1


class RollupStore:
    """Adds to the counts and reads them; fulfils `statistics.queries.Rollups`."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._rollups = database[COLLECTION_NAME]

    async def add(self, session: AsyncClientSession, counts: Counts, shard: int) -> None:
        """Add within the caller's transaction. Raises `OperationFailure` on a conflict in the shard."""
        if counts:
            await self._rollups.bulk_write(
                [_increment(cell, slots, shard) for cell, slots in counts.items()], session=session
            )

    async def totals(self) -> dict[str, int]:
        labels = await self._rollups.aggregate(
            [
                {"$match": _ids({"span": Span.EVER}, {"span": Span.EVER, "label": MaxKey()})},
                {"$group": {"_id": "$_id.label", "count": {"$sum": f"$counts.{EVER_SLOT}"}}},
            ]
        )
        return {found["_id"]: found["count"] async for found in labels}

    async def counts(self, span: Span, label: str, first: datetime, last: datetime) -> dict[datetime, dict[int, int]]:
        documents = await self._rollups.aggregate(
            [
                {"$match": _ids(_prefix(span, label, first), {**_prefix(span, label, last), "shard": MaxKey()})},
                {"$group": {"_id": "$_id.start", **_sums(span)}},
            ]
        )
        return {found.pop("_id"): _slots(found) async for found in documents}

    async def cells(
        self, session: AsyncClientSession, span: Span, since: datetime, until: datetime
    ) -> dict[Cell, dict[int, int]]:
        """Return the counts of all labels, as the session sees them."""
        documents = await self._rollups.aggregate(
            [
                {"$match": {"_id.span": span, "_id.start": {"$gte": since, "$lt": until}}},
                {"$group": {"_id": {"label": "$_id.label", "start": "$_id.start"}, **_sums(span)}},
            ],
            session=session,
        )
        return {
            Cell(span, key["label"], key["start"]): _slots(found)
            async for found in documents
            for key in [found.pop("_id")]
        }

    async def starts(self, span: Span) -> tuple[datetime, datetime] | None:
        """Return the first and the last start of the documents of a span, or None without documents."""
        ends = [
            await self._rollups.find_one({"_id.span": span}, {"_id": True}, sort=[("_id.start", direction)])
            for direction in (1, -1)
        ]
        first, last = [end and end["_id"]["start"] for end in ends]
        return (first, last) if first and last else None


def _increment(cell: Cell, slots: Mapping[int, int], shard: int) -> UpdateOne:
    return UpdateOne(
        {"_id": {**_prefix(cell.span, cell.label, cell.start), "shard": shard}},
        {"$inc": {f"counts.{slot}": count for slot, count in slots.items()}},
        upsert=True,
    )


def _prefix(span: Span, label: str, start: datetime) -> dict[str, Any]:
    """Return the beginning of ids; the order of its fields is the order of the index."""
    return {"span": span, "label": label, "start": start}


def _ids(first: Document, end: Document) -> Document:
    return {"_id": {"$gte": first, "$lt": end}}


def _sums(span: Span) -> Document:
    """Return the accumulators that add up the shards, slot by slot."""
    return {str(slot): {"$sum": f"$counts.{slot}"} for slot in SLOTS[span]}


def _slots(found: Document) -> dict[int, int]:
    return {int(slot): count for slot, count in found.items() if count}
