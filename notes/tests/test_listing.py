"""Lists: pages, tags, search, and hostile queries. Where a page ends is decided in `NoteQueries`."""

from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandListener
from uuid_utils.compat import uuid7

from notes_service.notes.queries import NoteFilter
from notes_service.notes.store import NoteStore, list_query
from servicekit.storage import mongo


class Commands(CommandListener):
    """Remembers the queries that were sent to the server."""

    def __init__(self) -> None:
        self.finds: list[Any] = []

    def started(self, event: Any) -> None:
        if event.command_name == "find":
            self.finds.append(event.command)

    def succeeded(self, event: Any) -> None: ...

    def failed(self, event: Any) -> None: ...


async def pages_of(user: Any, **params: Any) -> list[list[str]]:
    """Follow the cursors to the end; return the titles of each page."""
    pages: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        response = await user.get(params={**params, **cursor})
        assert response.status_code == 200, response.text
        assert list(response.json()) == ["items", "next_cursor"]
        pages.append([item["title"] for item in response.json()["items"]])
        if response.json()["next_cursor"] is None:
            return pages
        cursor = {"cursor": response.json()["next_cursor"]}


async def test_items_are_whole_notes(user: Any) -> None:
    note = await user.created(body="text", tags=["t"])

    assert (await user.get()).json() == {"items": [{**note, "etag": '"1-0"'}], "next_cursor": None}


async def test_an_edit_of_a_listed_note_needs_no_other_read(user: Any) -> None:
    note = await user.created(title="first")
    await user.publish(note["id"])
    (listed,) = (await user.get()).json()["items"]

    edited = await user.edit(note["id"], listed["etag"], "PATCH", title="second")

    assert listed["etag"] == '"1-1"'
    assert (edited.status_code, edited.headers["ETag"]) == (200, '"2-1"')
    assert (await user.edit(note["id"], listed["etag"], "PATCH", title="third")).status_code == 412


async def test_changes_between_two_pages_neither_repeat_nor_hide_other_notes(user: Any) -> None:
    notes = [await user.created(title=str(number)) for number in range(6)]
    first = (await user.get(params={"limit": 2})).json()
    await user.created(title="new")
    await user.edit(notes[3]["id"], "*", title="edited")
    # The cursor names this note.
    await user.delete(notes[4]["id"])

    second = (await user.get(params={"limit": 9, "cursor": first["next_cursor"]})).json()

    assert [item["title"] for item in second["items"]] == ["edited", "2", "1", "0"]


async def test_a_tag_selects_the_notes_that_have_exactly_this_tag(user: Any, stranger: Any) -> None:
    for title, tags in {"1": ["a"], "2": ["a", "b"], "3": ["ab"], "4": ["A"], "5": []}.items():
        await user.created(title=title, tags=tags)
    await stranger.created(title="not yours", tags=["a"])

    assert await user.titles(tag="a") == ["2", "1"]
    assert await user.titles(tag="c") == []
    assert await pages_of(user, tag="a", limit=1) == [["2"], ["1"]]
    assert len(await user.titles(tag="")) == 5


async def test_tags_compare_by_one_form(user: Any) -> None:
    note = await user.created(tags=["caf\u00e9", "cafe\u0301", " caf\u00e9\u200b", "cafe"])

    assert note["tags"] == ["caf\u00e9", "cafe"]
    for tag in ("caf\u00e9", "cafe\u0301", "ca\u00adf\u00e9 "):
        assert await user.titles(tag=tag) == ["a title"]
    assert await user.titles(tag="\u200b") == []
    longest = await user.edit(note["id"], "*", "PATCH", tags=["e\u0301" * 50])
    assert longest.json()["tags"] == ["\u00e9" * 50]


@pytest.mark.parametrize("tag", ["", " ", "\u200b", "\u3164", "\u2800", "\u0301", "a\x00", "x" * 51], ids=ascii)
async def test_a_tag_without_visible_characters_is_refused(user: Any, tag: str) -> None:
    response = await user.create(tags=[tag])

    assert response.status_code == 422
    assert (
        response.json()["errors"][0]["field"] == "body.tags[0]"
        or response.json()["errors"][0]["field"] == "body.tags.0"
    )


async def test_a_search_finds_words_of_any_script_inside_of_a_text(user: Any) -> None:
    for title, body in {"hi": "यह नदी है", "th": "ฉันรักประเทศไทย", "tm": "Hello\u2122", "shy": "so\u00adft"}.items():
        await user.created(title=title, body=body)

    for query, found in {"हिन्दी": [], "ไทย": ["th"], "hellotm": ["tm"], "soft": ["shy"], "s\u200boft": ["shy"]}.items():
        assert await user.titles(q=query) == found


async def test_a_search_finds_notes_with_all_words(user: Any, stranger: Any) -> None:
    for title, body in {"Blue moon": "rises", "moon": "is blue, and full", "blues": "moonlight", "Mönd": "été"}.items():
        await user.created(title=title, body=body)
    await stranger.created(title="blue moon")

    assert await user.titles(q="moon") == ["moon", "Blue moon"]
    assert await user.titles(q="BLUE moon") == ["moon", "Blue moon"]
    assert await user.titles(q="moon full") == ["moon"]
    assert await user.titles(q="mond ete") == ["Mönd"]
    assert await user.titles(q="moo") == []
    assert await user.titles(q="moon nothing") == []
    assert await pages_of(user, q="moon", limit=1) == [["moon"], ["Blue moon"]]


async def test_a_search_sees_edits_at_once(user: Any) -> None:
    note = await user.created(title="t", body="before")
    await user.edit(note["id"], "*", "PATCH", body="after")
    assert (await user.titles(q="before"), await user.titles(q="after t")) == ([], ["t"])

    await user.edit(note["id"], "*", "PATCH", title="other")
    assert (await user.titles(q="t"), await user.titles(q="other after")) == ([], ["other"])

    await user.delete(note["id"])
    assert await user.titles(q="after") == []


async def test_a_tag_and_a_search_are_combined(user: Any) -> None:
    await user.created(title="1", body="word", tags=["a"])
    await user.created(title="2", body="word", tags=["b"])

    assert await user.titles(q="word", tag="a") == ["1"]


@pytest.mark.parametrize(
    "text",
    [
        "-word",
        '"word"',
        '"word',
        "word\x00",
        "\x00word",
        "$where word",
        '{"$ne": word}',
        "\\word",
        "word;",
        ".*word.*",
        "word" + " " * 150,
    ],
)
async def test_no_character_of_a_search_is_an_operator(user: Any, text: str) -> None:
    """Only words count, and a note must have all of them."""
    await user.created(title="1", body="word")
    await user.created(title="2", body="word where ne")

    found = await user.titles(q=text)

    assert found == (["2"] if "$" in text else ["2", "1"])


@pytest.mark.parametrize(
    "query",
    [
        "tag[$ne]=x",
        "q[$gt]=",
        "limit[$gt]=1",
        "owner_id=x",
        "$where=1",
        "tag=%7B%22%24ne%22%3A1%7D",
        "tag=%00",
        "tag=%ff",
        "q=%ed%a0%80",
    ],
)
async def test_operators_in_a_query_have_no_effect(user: Any, stranger: Any, query: str) -> None:
    await stranger.created(title="not yours", tags=["x"])
    await user.created(title="yours")

    response = await user.get(f"?{query}")

    assert response.status_code == 200
    assert {item["title"] for item in response.json()["items"]} <= {"yours"}


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 101}, {"limit": "x"}, {"tag": "x" * 51}, {"q": "x" * 201}])
async def test_a_query_beyond_its_limits_is_refused(user: Any, params: dict[str, Any]) -> None:
    assert (await user.get(params=params)).status_code == 422


@pytest.mark.parametrize("cursor", ["x", "%00", "x" * 513])
async def test_a_forged_cursor_is_refused(user: Any, cursor: str) -> None:
    assert (await user.get(f"?cursor={cursor}")).status_code == 422


async def test_a_cursor_of_another_user_shows_none_of_that_users_notes(user: Any, stranger: Any) -> None:
    for number in range(3):
        await stranger.created(title=f"not yours {number}")
        await user.created(title=str(number))
    theirs = (await stranger.get(params={"limit": 1})).json()["next_cursor"]

    assert await user.titles(cursor=theirs) == ["1", "0"]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (NoteFilter(), "by_owner"),
        (NoteFilter(tag="a"), "by_tag"),
        (NoteFilter(terms=["b", "a"]), "by_word"),
        (NoteFilter(tag="a", terms=["b"]), "by_word"),
    ],
)
async def test_every_list_reads_one_index_in_order(deployment: Any, wanted: NoteFilter, index: str) -> None:
    """The server explains the command that it received: it neither sorts nor skips other notes."""
    listener = Commands()
    url = deployment.settings.mongo_url.get_secret_value()
    async with AsyncMongoClient(url, event_listeners=[listener]) as client:
        database = mongo.database(client)
        owner = uuid7()
        await database["notes"].insert_many(
            [{"_id": uuid7(), "owner_id": owner, "tags": ["a"], "words": ["a", "b"], "size": 1} for _ in range(500)]
        )
        assert len(await NoteStore(database).find_newest(owner, wanted, uuid7(), 21)) == 21

        names = ("find", "filter", "hint", "projection", "sort", "limit")
        command = {name: listener.finds[-1][name] for name in names if name in listener.finds[-1]}
        plan = await database.command(
            "explain", command, verbosity="executionStats", codec_options=database.codec_options
        )

    stages = str(plan["queryPlanner"]["winningPlan"])
    assert f"'indexName': '{index}'" in stages
    assert "'SORT'" not in stages
    assert plan["executionStats"]["totalKeysExamined"] <= 25


async def test_a_long_word_is_looked_up_before_a_short_one(database: Any) -> None:
    query, _ = list_query(uuid7(), NoteFilter.of(None, "of the platform"), None)

    assert query["words"] == {"$all": ["platform", "the", "of"]}
