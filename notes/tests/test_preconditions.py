"""Conditional requests: which condition matches which version, and which concurrent edit wins."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from notes_service.preconditions import EntityTag, IfMatch, is_current, parse_if_match
from servicekit.core.errors import PreconditionFailed
from servicekit.web.entity_tags import parse_entity_tags


@pytest.mark.parametrize(
    ("values", "versions"),
    [
        (['"3-0"'], {3}),
        (['W/"3-0"'], {3}),
        (['"3"'], {3}),
        (['"3-1", "4-0"'], {3, 4}),
        (['"3-1"', 'W/"4-0"'], {3, 4}),
        ([', ,"3-1",,'], {3}),
        (['  "3-1"  '], {3}),
        (['""'], set()),
        (['"x"'], set()),
        (['"-1"'], set()),
        (['"' + "9" * 5000 + '"'], set()),
    ],
)
def test_if_match_names_versions(values: list[str], versions: set[int]) -> None:
    assert parse_if_match(values) == IfMatch(frozenset(versions))


def test_a_star_matches_any_version_and_a_missing_header_is_no_condition() -> None:
    assert parse_if_match([" * "]) == IfMatch(None)
    assert parse_if_match([]) is None


def test_a_condition_matches_its_versions_only() -> None:
    IfMatch(None).check(7)
    IfMatch(frozenset({6, 7})).check(7)
    with pytest.raises(PreconditionFailed):
        IfMatch(frozenset({6})).check(7)
    with pytest.raises(PreconditionFailed):
        IfMatch(frozenset()).check(7)


@pytest.mark.parametrize(
    ("values", "current"),
    [
        (['"3-1"'], True),
        (['W/"3-1"'], True),
        (['"0", "3-1"'], True),
        (["*"], True),
        (['"3-2"'], False),
        (['"3"'], False),
        ([], False),
    ],
)
def test_if_none_match_names_representations(values: list[str], current: bool) -> None:
    assert is_current(EntityTag(3, 1), parse_entity_tags("If-None-Match", values)) is current


async def test_a_read_with_the_current_tag_gets_304_without_a_body(user: Any) -> None:
    created = await user.create()
    path, tag = f"/{created.json()['id']}", created.headers["ETag"]

    responses = [
        await user.get(path, headers={"If-None-Match": sent}) for sent in (tag, f"W/{tag}", f'"x", {tag}', "*")
    ]

    assert [(response.status_code, response.content) for response in responses] == [(304, b"")] * 4
    assert {response.headers["ETag"] for response in responses} == {tag}
    assert (await user.get(path, headers={"If-None-Match": '"0-0"'})).status_code == 200


async def test_every_edit_makes_a_new_tag(user: Any) -> None:
    created = await user.create()
    note_id, tags = created.json()["id"], [created.headers["ETag"]]
    for method in ("PUT", "PATCH", "PUT"):
        response = await user.edit(note_id, tags[-1], method, title="same")
        assert response.status_code == 200
        tags.append(response.headers["ETag"])

    assert len(set(tags)) == 4
    assert (await user.get(f"/{note_id}", headers={"If-None-Match": tags[0]})).status_code == 200


async def test_a_publication_changes_the_tag_and_prevents_no_edit(user: Any) -> None:
    created = await user.create()
    note_id, tag = created.json()["id"], created.headers["ETag"]
    await user.publish(note_id)

    read = await user.get(f"/{note_id}", headers={"If-None-Match": tag})
    assert (read.status_code, read.json()["slug"] is not None) == (200, True)
    edited = await user.edit(note_id, tag, title="new")
    assert edited.status_code == 200
    assert edited.json()["slug"] == read.json()["slug"]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_change_needs_the_current_version(user: Any, method: str) -> None:
    created = await user.create()
    note_id, tag = created.json()["id"], created.headers["ETag"]
    current = (await user.edit(note_id, tag, title="current")).headers["ETag"]

    async def attempt(match: str | None) -> int:
        if method == "DELETE":
            return int((await user.delete(note_id, match)).status_code)
        return int((await user.edit(note_id, match, method, title="other")).status_code)

    assert await attempt(None) == 428
    assert await attempt(tag) == 412
    assert await attempt('"no-tag"') == 412
    assert await attempt(tag.strip('"')) == 400
    assert (await user.get(f"/{note_id}")).json()["title"] == "current"
    assert await attempt(f'"0", W/{current}') == (204 if method == "DELETE" else 200)


async def test_of_eight_concurrent_edits_of_one_version_one_wins(replicas: Any) -> None:
    user = replicas[0].user()
    created = await user.create()
    note_id, tag = created.json()["id"], created.headers["ETag"]
    editors = [user.on(replicas[number % 2]) for number in range(8)]

    responses = await asyncio.gather(
        *(
            editor.edit(note_id, tag, ("PUT", "PATCH")[number % 2], title=str(number))
            for number, editor in enumerate(editors)
        )
    )

    assert Counter(response.status_code for response in responses) == {200: 1, 412: 7}
    winner = next(response for response in responses if response.status_code == 200)
    assert (await user.get(f"/{note_id}")).json() == winner.json()


async def test_of_concurrent_edits_and_deletions_of_one_version_one_wins(replicas: Any) -> None:
    user = replicas[0].user()
    for _ in range(5):
        created = await user.create()
        note_id, tag = created.json()["id"], created.headers["ETag"]
        other = user.on(replicas[1])

        responses = await asyncio.gather(
            user.edit(note_id, tag, title="1"),
            other.delete(note_id, tag),
            other.edit(note_id, tag, title="2"),
            user.delete(note_id, tag),
        )

        statuses = [response.status_code for response in responses]
        assert sum(status < 300 for status in statuses) == 1
        assert {status for status in statuses if status >= 300} <= {404, 412}


async def test_concurrent_edits_of_any_version_are_all_made(replicas: Any) -> None:
    user = replicas[0].user()
    note = await user.created()
    editors = [user.on(replicas[number % 2]) for number in range(4)]
    changes: list[dict[str, Any]] = [{"title": "t"}, {"body": "b"}, {"tags": ["g"]}, {"title": "t"}]

    responses = await asyncio.gather(
        *(editor.edit(note["id"], "*", "PATCH", **change) for editor, change in zip(editors, changes, strict=True))
    )

    assert [response.status_code for response in responses] == [200] * 4
    merged = (await user.get(f"/{note['id']}")).json()
    assert (merged["title"], merged["body"], merged["tags"]) == ("t", "b", ["g"])
    assert await user.titles(q="b t") == ["t"]
