"""The decisions of listing notes: where a page ends and how it continues. The store is a fake."""

from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from notes.tests.fakes import MemoryDatabase
from notes_service.notes.actions import NoteNotFound
from notes_service.notes.queries import NoteFilter, NoteQueries
from notes_service.notes.rules import count_fitting, new_note
from notes_service.notes.schemas import NoteIn
from servicekit.core.clock import utc_now
from servicekit.web.pagination import InvalidCursor, encode_cursor

MEBIBYTE = 1024 * 1024
ALL = NoteFilter()


async def pages_of(database: MemoryDatabase, owner_id: UUID, limit: int) -> list[list[str]]:
    """Follow the cursors to the end; return the titles of each page."""
    pages: list[list[str]] = []
    cursor: str | None = None
    while cursor or not pages:
        page = await NoteQueries(database).page(owner_id, ALL, cursor, limit)
        pages.append([note.title for note in page.notes])
        cursor = page.next_cursor
    return pages


def filled(owner_id: UUID, number: int, body: str = "") -> MemoryDatabase:
    """Return a database with notes that have their numbers as titles."""
    database = MemoryDatabase()
    for title in map(str, range(number)):
        database.put(new_note(owner_id, NoteIn(title=title, body=body), utc_now()))
    return database


@pytest.mark.parametrize(
    ("limit", "pages"),
    [(3, [["6", "5", "4"], ["3", "2", "1"], ["0"]]), (7, [["6", "5", "4", "3", "2", "1", "0"]])],
)
async def test_pages_show_each_note_once_and_the_newest_first(limit: int, pages: list[list[str]]) -> None:
    owner_id = uuid7()

    assert await pages_of(filled(owner_id, 7), owner_id, limit) == pages


async def test_a_page_ends_when_its_bodies_are_large() -> None:
    owner_id = uuid7()

    pages = await pages_of(filled(owner_id, 6, "x" * MEBIBYTE), owner_id, 100)

    assert pages == [["5", "4", "3", "2"], ["1", "0"]]


@pytest.mark.parametrize(("sizes", "number"), [([], 0), ([9, 1], 1), ([5], 1), ([2, 3, 1], 2), ([1, 1], 2)])
def test_a_page_has_at_least_one_note_whatever_its_size(sizes: list[int], number: int) -> None:
    assert count_fitting(sizes, 5) == number


@pytest.mark.parametrize("text", ["!", '"', "-", "\x00", "$", "_", ". * ?"])
async def test_a_search_without_words_finds_nothing(text: str) -> None:
    owner_id = uuid7()
    database = filled(owner_id, 2, body='! " - $ _ . * ?')

    page = await NoteQueries(database).page(owner_id, NoteFilter.of(None, text), None, 20)

    assert (page.notes, page.next_cursor) == ([], None)


@pytest.mark.parametrize("text", [None, "", " ", "\t"])
async def test_a_blank_search_finds_all(text: str | None) -> None:
    owner_id = uuid7()

    page = await NoteQueries(filled(owner_id, 2)).page(owner_id, NoteFilter.of("", text), None, 20)

    assert [note.title for note in page.notes] == ["1", "0"]


async def test_another_users_note_is_not_found() -> None:
    database = MemoryDatabase()
    note = database.put(new_note(uuid7(), NoteIn(title="t"), utc_now()))

    assert await NoteQueries(database).get(note.owner_id, note.id) == note
    with pytest.raises(NoteNotFound):
        await NoteQueries(database).get(uuid7(), note.id)


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "WyJ4Il0",
        encode_cursor(["x"]),
        encode_cursor([{"$gt": ""}]),
        encode_cursor([None]),
        encode_cursor([]),
        encode_cursor(["01a217b0-14b1-73f7-8128-d75b34cf33e9", 1]),
        encode_cursor([{"$where": "1"}]),
        "e30",
    ],
)
async def test_a_forged_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        await NoteQueries(MemoryDatabase()).page(uuid7(), ALL, cursor, 20)
