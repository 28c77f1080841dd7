"""The notes in MongoDB. Every query names the owner, so that no mistake of a caller shows a note to another user."""

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from pymongo import DESCENDING, IndexModel, ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase

from notes_service.notes.queries import ListedNote, NoteFilter
from notes_service.notes.rules import Note
from notes_service.notes.search_terms import FORM
from servicekit.storage.mongo import Document

COLLECTION_NAME: Final = "notes"
# Lists are sorted by id, which begins with the time of creation, so each index returns a list in order.
# The search terms (`words`) have an ordinary index instead of a text index (docs/adr/0009).
INDEXES: Final = [
    IndexModel([("owner_id", 1), ("_id", -1), ("size", 1)], name="by_owner"),
    IndexModel([("owner_id", 1), ("tags", 1), ("_id", -1)], name="by_tag"),
    IndexModel([("owner_id", 1), ("words", 1), ("_id", -1)], name="by_word"),
    # Finds the notes whose terms other rules have made: the first term names the rules.
    IndexModel([("words.0", 1)], name="by_form"),
]
# A search for terms that are common but never occur together reads all notes that have the first of them.
LIST_MILLISECONDS: Final = 5_000

# A list of at most this number of notes is read by one query, except for the bodies that are longer than this. Other
# lists are looked up in the index first, so that the database reads little more than one page holds.
MOST_READ_AT_ONCE: Final = 25
LONG_BODY_BYTES: Final = 64 * 1024

# A caller names the owner.
_FIELDS: Final = tuple(name for name in Note.__dataclass_fields__ if name not in ("id", "owner_id"))
# `words` may be as large as the text itself, and only the index needs it.
_PROJECTION: Final = dict.fromkeys(_FIELDS, True)
_WITHOUT_LONG_BODIES: Final = {
    **_PROJECTION,
    "size": True,
    "body": {"$cond": [{"$gt": ["$size", LONG_BODY_BYTES]}, "$$REMOVE", "$body"]},
}


class NoteStore:
    """Fulfils `actions.EditableNotes`, `queries.ReadableNotes` and `erasure.actions.OwnedNotes`."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._notes = database[COLLECTION_NAME]

    async def add_all(self, session: AsyncClientSession, notes: Iterable[tuple[Note, Sequence[str]]]) -> None:
        """Add notes, each with its search terms, within the caller's transaction."""
        await self._notes.insert_many(
            [
                {
                    "_id": note.id,
                    "owner_id": note.owner_id,
                    "created_at": note.created_at,
                    "version": note.version,
                    "publication": note.publication,
                    **_content(note, terms),
                }
                for note, terms in notes
            ],
            session=session,
        )

    async def find(self, owner_id: UUID, note_id: UUID) -> Note | None:
        document = await self._notes.find_one({"_id": note_id, "owner_id": owner_id}, _PROJECTION)
        return None if document is None else _note(owner_id, document)

    async def find_version(self, owner_id: UUID, note_id: UUID) -> int | None:
        document = await self._notes.find_one({"_id": note_id, "owner_id": owner_id}, {"version": True})
        return None if document is None else document["version"]

    async def save(self, note: Note, terms: Sequence[str]) -> Note | None:
        document = await self._notes.find_one_and_update(
            {"_id": note.id, "owner_id": note.owner_id, "version": note.version - 1},
            {"$set": {**_content(note, terms), "version": note.version}},
            projection=_PROJECTION,
            return_document=ReturnDocument.AFTER,
        )
        return None if document is None else _note(note.owner_id, document)

    async def remove(self, owner_id: UUID, note_id: UUID, version: int) -> bool:
        result = await self._notes.delete_one({"_id": note_id, "owner_id": owner_id, "version": version})
        return result.deleted_count == 1

    async def remove_all(self, owner_id: UUID) -> int:
        return (await self._notes.delete_many({"owner_id": owner_id})).deleted_count

    async def find_newest(
        self, owner_id: UUID, wanted: NoteFilter, after: UUID | None, limit: int
    ) -> Sequence[ListedNote]:
        query, index = list_query(owner_id, wanted, after)
        fields = _WITHOUT_LONG_BODIES if limit <= MOST_READ_AT_ONCE else {"size": True}
        found = self._notes.find(query, fields).hint(index)
        page = found.sort("_id", DESCENDING).limit(limit).max_time_ms(LIST_MILLISECONDS)
        return [
            ListedNote(found["_id"], found["size"], _note(owner_id, found) if "body" in found else None)
            for found in await page.to_list()
        ]

    async def find_many(self, owner_id: UUID, note_ids: Sequence[UUID]) -> Sequence[Note]:
        found = self._notes.find({"_id": {"$in": list(note_ids)}, "owner_id": owner_id}, _PROJECTION)
        return [_note(owner_id, document) for document in await found.sort("_id", DESCENDING).to_list()]


def list_query(owner_id: UUID, wanted: NoteFilter, after: UUID | None) -> tuple[Document, str]:
    """Return the query for notes after a position in the list, and the index that it must use.

    The server chooses an index by earlier queries: for an owner of few notes it might read the notes of all.
    """
    query: Document = {"owner_id": owner_id}
    index = "by_owner"
    if wanted.tag is not None:
        query["tags"] = wanted.tag
        index = "by_tag"
    if wanted.terms is not None:
        # The server looks up the first term and reads all notes that have it. Long words are usually the rarer ones.
        query["words"] = {"$all": sorted(wanted.terms, key=len, reverse=True)}
        index = "by_word"
    if after is not None:
        query["_id"] = {"$lt": after}
    return query, index


def _note(owner_id: UUID, document: Document) -> Note:
    return Note(
        id=document["_id"],
        owner_id=owner_id,
        title=document["title"],
        body=document["body"],
        tags=document["tags"],
        attachments=document["attachments"],
        created_at=document["created_at"],
        updated_at=document["updated_at"],
        version=document["version"],
        publication=document["publication"],
        # A private note has no such field.
        slug=document.get("slug"),
    )


def _content(note: Note, terms: Sequence[str]) -> Document:
    return {
        "title": note.title,
        "body": note.body,
        "tags": list(note.tags),
        "attachments": list(note.attachments),
        "updated_at": note.updated_at,
        "words": [FORM, *terms],
        "size": len(note.body.encode()),
    }
