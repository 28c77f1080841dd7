"""The notes in MongoDB. Every query names the owner, so that no mistake above it shows somebody else's note."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from pymongo import DESCENDING, IndexModel, ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from notes_service.notes.queries import NoteFilter
from notes_service.notes.rules import Note
from servicekit.storage.mongo import Document

COLLECTION_NAME: Final = "notes"
# Every list goes by id, which begins with the time of creation: each of these gives one in order, without sorting.
# Words stand in an ordinary index and not in a text index (docs/adr/0009).
INDEXES: Final = [
    IndexModel([("owner_id", 1), ("_id", -1), ("size", 1)], name="by_owner"),
    IndexModel([("owner_id", 1), ("tags", 1), ("_id", -1)], name="by_tag"),
    IndexModel([("owner_id", 1), ("words", 1), ("_id", -1)], name="by_word"),
]
# Words that are in many notes each and together in none make a search read all of those.
LIST_MILLISECONDS: Final = 5_000

_FIELDS: Final = tuple(Note.__dataclass_fields__)
# `words` may take as much room as the text itself and is of no use here.
_SHOWN: Final = {**dict.fromkeys(_FIELDS, True), "_id": True}


class NoteStore:
    """Adds, finds, changes and deletes notes."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._notes = database[COLLECTION_NAME]

    async def add(self, session: AsyncClientSession, note: Note, words: Sequence[str]) -> None:
        """Add a note within the caller's transaction."""
        fixed = {
            "_id": note.id,
            "owner_id": note.owner_id,
            "created_at": note.created_at,
            "version": note.version,
            "publication": note.publication,
        }
        await self._notes.insert_one({**fixed, **_content(note, words)}, session=session)

    async def find(self, owner_id: UUID, note_id: UUID) -> Note | None:
        """Return the note if it is this owner's."""
        document = await self._notes.find_one({"_id": note_id, "owner_id": owner_id}, _SHOWN)
        return None if document is None else note_of(document)

    async def find_version(self, owner_id: UUID, note_id: UUID) -> int | None:
        """Return the note's version if it is this owner's."""
        document = await self._notes.find_one({"_id": note_id, "owner_id": owner_id}, {"version": True})
        return None if document is None else document["version"]

    async def save(self, note: Note, words: Sequence[str]) -> Note | None:
        """Store the note in place of the version before; return it as stored, or None when that is not there."""
        document = await self._notes.find_one_and_update(
            {"_id": note.id, "owner_id": note.owner_id, "version": note.version - 1},
            {"$set": {**_content(note, words), "version": note.version}},
            projection=_SHOWN,
            return_document=ReturnDocument.AFTER,
        )
        return None if document is None else note_of(document)

    async def remove(self, owner_id: UUID, note_id: UUID, version: int) -> bool:
        """Delete the note if it has this version; return whether it did."""
        result = await self._notes.delete_one({"_id": note_id, "owner_id": owner_id, "version": version})
        return result.deleted_count == 1

    async def remove_all(self, owner_id: UUID) -> int:
        """Delete all notes of an owner; return how many there were."""
        return (await self._notes.delete_many({"owner_id": owner_id})).deleted_count

    async def newest(
        self, owner_id: UUID, wanted: NoteFilter, after: UUID | None, limit: int
    ) -> Sequence[tuple[UUID, int]]:
        """Return ids of notes and the sizes of their bodies from the newest on, those after a position."""
        query, index = query_of(owner_id, wanted, after)
        found = self._notes.find(query, {"size": True}).hint(index)
        page = found.sort("_id", DESCENDING).limit(limit).max_time_ms(LIST_MILLISECONDS)
        return [(document["_id"], document["size"]) async for document in page]

    async def several(self, owner_id: UUID, note_ids: Sequence[UUID]) -> Sequence[Note]:
        """Return these notes, the newest first, without those that are gone."""
        found = self._notes.find({"_id": {"$in": list(note_ids)}, "owner_id": owner_id}, _SHOWN)
        return [note_of(document) async for document in found.sort("_id", DESCENDING)]


def query_of(owner_id: UUID, wanted: NoteFilter, after: UUID | None) -> tuple[Document, str]:
    """Return the query for notes after a position in the list, and the index that it reads.

    The server would choose by what it met before: for somebody with few notes it may read everybody's.
    """
    query: Document = {"owner_id": owner_id}
    index = "by_owner"
    if wanted.tag is not None:
        query["tags"] = wanted.tag
        index = "by_tag"
    if wanted.words is not None:
        # It looks up the first word and reads the rest of those notes: long words are the rarer ones.
        query["words"] = {"$all": sorted(wanted.words, key=len, reverse=True)}
        index = "by_word"
    if after is not None:
        query["_id"] = {"$lt": after}
    return query, index


def note_of(document: Document) -> Note:
    """Return the note in a document."""
    fields: dict[str, Any] = {name: document[name] for name in _FIELDS if name in document}
    return Note(id=document["_id"], **fields)


def _content(note: Note, words: Sequence[str]) -> Document:
    return {
        "title": note.title,
        "body": note.body,
        "tags": list(note.tags),
        "attachments": list(note.attachments),
        "updated_at": note.updated_at,
        "words": list(words),
        "size": len(note.body.encode()),
    }
