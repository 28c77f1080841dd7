"""Measure one owner's lists and searches at 10³ and 10⁵ notes, and the word index against MongoDB's text index.

    .venv/bin/python load/bench_notes.py [--quick] [--notes 100000]

It starts its own MongoDB. Each query runs on the small and on the large collection in turn. It takes two minutes, a
part of them to insert notes; differences below 15 % are ties.
"""

import argparse
import random
import string
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice, product
from uuid import UUID

from pydantic import SecretStr
from pymongo import TEXT, IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError
from uuid_utils.compat import uuid7

from benchlib import Run, calls, main
from local_platform.stores import running_stores
from notes_service.database import migrate
from notes_service.notes import store
from notes_service.notes.queries import NoteFilter, NoteQueries
from notes_service.notes.search_terms import search_terms
from notes_service.notes.store import NoteStore
from servicekit.core.clock import utc_now
from servicekit.storage import mongo
from servicekit.storage.mongo import Document

SMALL = 1_000
BATCH = 1_000
VOCABULARY = ["".join(letters) for letters in islice(product(string.ascii_lowercase, repeat=4), 3_000)]
# In every note; in one of 50; in about one of 3,000.
COMMON, USUAL, RARE = "the", "often", VOCABULARY[-1]
TEXT_INDEX = IndexModel([("owner_id", 1), ("title", TEXT), ("body", TEXT)], name="text", default_language="none")

Query = Callable[[], Awaitable[object]]


def text_of(number: int, rng: random.Random) -> str:
    """Return the body of a note: about twenty words."""
    words = rng.choices(VOCABULARY, k=16)
    return " ".join([COMMON, *words, *([USUAL] if number % 50 == 0 else [])])


async def fill(database: AsyncDatabase[Document], owner: UUID, number: int) -> None:
    """Insert notes of one owner."""
    rng = random.Random(number)
    for start in range(0, number, BATCH):
        documents = []
        for index in range(start, min(start + BATCH, number)):
            body, now = text_of(index, rng), utc_now()
            documents.append(
                {
                    "_id": uuid7(),
                    "owner_id": owner,
                    "title": f"note {index}",
                    "body": body,
                    "tags": [f"tag{index % 10}"],
                    "attachments": [],
                    "created_at": now,
                    "updated_at": now,
                    "version": 1,
                    "publication": 0,
                    "words": search_terms(f"note {index}", body),
                    "size": len(body),
                }
            )
        await database[store.COLLECTION_NAME].insert_many(documents, ordered=False)


async def middle_note(notes: NoteStore, owner: UUID, number: int) -> UUID:
    """Return the id of the note in the middle of the owner's list."""
    found = await notes.find_newest(owner, NoteFilter(), None, number // 2)
    return found[-1].id


def pages(notes: NoteStore, owner: UUID, after: UUID) -> dict[str, Query]:
    """Return the service's own queries."""
    queries = NoteQueries(notes)

    def page(tag: str | None = None, text: str | None = None) -> Query:
        return lambda: queries.page(owner, NoteFilter.of(tag, text), None, 20)

    async def deep() -> object:
        return await notes.find_newest(owner, NoteFilter(), after, 21)

    return {
        "first page": page(),
        "page in the middle": deep,
        "page of a tag": page(tag="tag3"),
        "word in every note": page(text=COMMON),
        "word in 1 of 50": page(text=USUAL),
        "rare word": page(text=RARE),
        "common and rare word": page(text=f"{COMMON} {RARE}"),
    }


def text_searches(database: AsyncDatabase[Document], owner: UUID) -> dict[str, Query]:
    """Return the same searches over a text index, with results in the same order."""

    def search(text: str) -> Query:
        wanted = {"owner_id": owner, "$text": {"$search": text}}
        return lambda: database[store.COLLECTION_NAME].find(wanted).sort("_id", -1).limit(20).to_list()

    return {
        "word in every note": search(COMMON),
        "word in 1 of 50": search(USUAL),
        "rare word": search(RARE),
        "common and rare word": search(f'"{COMMON}" "{RARE}"'),
    }


async def compare(run: Run, title: str, small: dict[str, Query], large: dict[str, Query], number: int) -> None:
    """Compare each query on the small collection with the same one on the large."""
    for name in small:
        few, many = calls(f"{SMALL:,} notes", small[name], 1), calls(f"{number:,} notes", large[name], 1)
        await run.compare([few, many], group=f"{title}: {name}")
        run.ratio(f"{title}: {name}", "p50", many, few)


async def largest_note(database: AsyncDatabase[Document], words: Sequence[str]) -> str:
    """Insert a note of 1 MiB of different words; return the times, or why it was refused."""
    document: Document = {
        "_id": uuid7(),
        "owner_id": uuid7(),
        "title": "",
        "body": " ".join(words)[: 1024 * 1024],
        "size": 0,
    }
    started = time.perf_counter()
    document["words"] = search_terms(document["body"])
    extracted = time.perf_counter()
    try:
        await database[store.COLLECTION_NAME].insert_one(document)
    except PyMongoError as error:
        return f"refused by the server: {str(error).partition(', full error')[0][:110]}"
    finally:
        inserted = time.perf_counter()
    return f"{(extracted - started) * 1000:.0f} ms for its words, {(inserted - extracted) * 1000:.0f} ms to insert"


async def measure(run: Run) -> None:
    """Fill, measure, replace the word index by a text index, measure again."""
    number = run.options.notes or (10_000 if run.quick else 100_000)
    owners = {SMALL: uuid7(), number: uuid7()}
    many_words = ["".join(letters) for letters in islice(product(string.ascii_lowercase, repeat=4), 210_000)]
    async with running_stores(run.folder, engines=["mongo"]) as stores:
        client = mongo.create_client(SecretStr(stores.mongo_url("bench")), application="bench")
        database = mongo.database(client)
        collection = database[store.COLLECTION_NAME]
        await migrate(database)
        for size, owner in owners.items():
            run.progress(f"writing {size:,} notes")
            await fill(database, owner, size)
        notes = NoteStore(database)
        small, large = [pages(notes, owner, await middle_note(notes, owner, size)) for size, owner in owners.items()]
        await compare(run, "service", small, large, number)
        print("1 MiB of different words:", await largest_note(database, many_words))

        run.progress("making a text index")
        await collection.drop_index("by_word")
        await collection.create_indexes([TEXT_INDEX])
        small, large = [text_searches(database, owner) for owner in owners.values()]
        await compare(run, "text index", small, large, number)
        print("1 MiB of different words:", await largest_note(database, many_words))
        await mongo.close(client)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--notes", type=int, help="size of the large collection (default 100000)")


if __name__ == "__main__":
    main(measure, __doc__, rounds=5, seconds=0.4, quick=(3, 0.2), add_options=add_options)
