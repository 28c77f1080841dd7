"""Notes are created, read, replaced, changed and deleted by their owners only."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

MEBIBYTE = 1024 * 1024
API = "/api/v1/notes"


async def test_a_created_note_is_returned_and_read_alike(user: Any) -> None:
    response = await user.create(title="Plan", body="First ü.", tags=["b", "a", "b"])

    note = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"{API}/{note['id']}"
    assert response.headers["ETag"]
    assert list(note) == ["id", "title", "body", "tags", "attachments", "slug", "created_at", "updated_at"]
    assert (note["title"], note["body"], note["tags"]) == ("Plan", "First ü.", ["b", "a"])
    assert (note["attachments"], note["slug"]) == ([], None)
    assert UUID(note["id"]).version == 7
    assert note["created_at"] == note["updated_at"]
    assert datetime.fromisoformat(note["created_at"]).utcoffset() == timedelta()
    again = await user.get(f"/{note['id']}")
    assert (again.status_code, again.json(), again.headers["ETag"]) == (200, note, response.headers["ETag"])


async def test_responses_with_notes_are_not_cached(user: Any) -> None:
    created = await user.create()
    path = f"/{created.json()['id']}"
    edited = await user.edit(created.json()["id"], created.headers["ETag"], title="new")
    unchanged = await user.get(path, headers={"If-None-Match": edited.headers["ETag"]})

    responses = [created, edited, unchanged, await user.get(path), await user.get(), await user.get("/unknown")]
    responses.append(await user.send("POST", f"{path}/publish"))
    assert all("no-store" in response.headers["Cache-Control"] for response in responses)


async def test_put_replaces_the_whole_content(user: Any, clock: Any) -> None:
    note = await user.created(title="old", body="old", tags=["old"])
    await user.publish(note["id"])
    clock.advance(seconds=5)

    response = await user.edit(note["id"], "*", title="new")

    assert response.status_code == 200
    assert response.json() == (await user.get(f"/{note['id']}")).json()
    new = response.json()
    assert (new["title"], new["body"], new["tags"]) == ("new", "", [])
    assert (new["id"], new["created_at"]) == (note["id"], note["created_at"])
    assert new["slug"] is not None
    assert new["updated_at"] > note["updated_at"]


@pytest.mark.parametrize(
    "change", [{"title": "new"}, {"body": "new"}, {"tags": ["x", "y"]}, {"body": ""}, {"tags": []}, {}]
)
async def test_patch_changes_the_named_fields_only(user: Any, change: dict[str, Any]) -> None:
    note = await user.created(title="old", body="old", tags=["old"])

    response = await user.edit(note["id"], "*", "PATCH", **change)

    assert response.status_code == 200
    assert response.json() == {**note, **change, "updated_at": response.json()["updated_at"]}


async def test_a_deleted_note_is_gone(user: Any) -> None:
    note = await user.created()

    response = await user.delete(note["id"])

    assert (response.status_code, response.content) == (204, b"")
    assert (await user.get(f"/{note['id']}")).status_code == 404
    assert (await user.delete(note["id"])).status_code == 404
    assert await user.titles() == []


@pytest.mark.parametrize("condition", [{}, {"If-Match": '"99-0"'}, {"If-Match": "*"}])
async def test_other_users_get_404_for_every_method(user: Any, stranger: Any, condition: dict[str, str]) -> None:
    """The 404 comes before any 412 or 428, and has the same text as for a missing note."""
    note = await user.created()
    path, content = f"/{note['id']}", {"title": "mine"}
    attempts: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "", {}),
        ("PUT", "", {"json": content}),
        ("PATCH", "", {"json": content}),
        ("DELETE", "", {}),
        ("POST", "/publish", {}),
        ("DELETE", "/publish", {}),
    ]

    for method, end, options in attempts:
        foreign = await stranger.send(method, path + end, headers=condition, **options)
        missing = await stranger.send(method, f"/{uuid7()}{end}", headers=condition, **options)
        assert (foreign.status_code, missing.status_code) == (404, 404), method
        assert foreign.json()["detail"] == missing.json()["detail"]
    assert await stranger.titles() == []
    assert (await user.get(path)).json() == note


async def test_administrators_get_404_too(replica: Any, user: Any) -> None:
    note = await user.created()
    headers = replica.headers(uuid7(), roles=("admin",))

    assert (await replica.http.get(f"{API}/{note['id']}", headers=headers)).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("POST", ""),
        ("GET", "/{id}"),
        ("PUT", "/{id}"),
        ("PATCH", "/{id}"),
        ("DELETE", "/{id}"),
        ("POST", "/{id}/publish"),
        ("DELETE", "/{id}/publish"),
    ],
)
async def test_requests_without_a_valid_token_get_401(replica: Any, user: Any, method: str, path: str) -> None:
    note = await user.created()
    url = API + path.format(id=note["id"])
    body = {"json": {"title": "x"}} if method in ("POST", "PUT", "PATCH") else {}

    for headers in ({}, {"Authorization": "Bearer a.b.c"}):
        response = await replica.http.request(method, url, headers=headers, **body)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await user.get(f"/{note['id']}")).json() == note


INVALID: list[dict[str, Any]] = [
    {"title": ""},
    {"title": "x" * 201},
    {"title": None},
    {"title": 1},
    {"title": {"$ne": ""}},
    {"title": "x", "body": None},
    {"title": "x", "body": "x" * (MEBIBYTE + 1)},
    {"title": "x", "body": "ü" * (MEBIBYTE // 2 + 1)},
    {"title": "x", "body": {"$gt": ""}},
    {"title": "x", "tags": None},
    {"title": "x", "tags": "a"},
    {"title": "x", "tags": [""]},
    {"title": "x", "tags": ["x" * 51]},
    {"title": "x", "tags": [str(number) for number in range(21)]},
    {"title": "x", "tags": [{"$gt": ""}]},
    {"title": "x", "attachments": None},
    {"title": "x", "attachments": ["x"]},
    {"title": "x", "attachments": [str(uuid7()) for _ in range(101)]},
    {"title": "x", "slug": "mine"},
    {"title": "x", "id": str(uuid7())},
    {"title": "x", "owner_id": str(uuid7())},
    {"title": "x", "version": 7},
    {"title": "x", "$set": {"owner_id": "me"}},
    {"title": "x", "words": ["x"]},
]


@pytest.mark.parametrize("content", INVALID)
async def test_invalid_content_is_refused_by_post_put_and_patch(user: Any, content: dict[str, Any]) -> None:
    note = await user.created()
    responses = [
        await user.send("POST", json=content),
        await user.edit(note["id"], "*", **content),
        await user.edit(note["id"], "*", "PATCH", **content),
    ]

    assert [response.status_code for response in responses] == [422, 422, 422]
    assert all(response.json()["errors"] for response in responses)
    assert (await user.get(f"/{note['id']}")).json() == note
    assert await user.titles() == ["a title"]


async def test_a_note_needs_a_title(user: Any) -> None:
    assert (await user.send("POST", json={"body": "x"})).status_code == 422
    assert (await user.send("POST", json=[])).status_code == 422
    broken = await user.send("POST", content=b"{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, broken.json()["type"]) == (400, "urn:baseplate:problem:invalid-json")


@pytest.mark.parametrize(
    "content",
    [
        {"title": "t" * 200, "body": "x" * MEBIBYTE},
        {"title": "ü" * 200, "body": "😀" * (MEBIBYTE // 4)},
        {"title": "\x00", "body": "a\x00b\x00\x1f\x7f"},
        {"title": "$where", "body": '{"$ne": 1}', "tags": ["$gt", "a.b", "__proto__"]},
        {
            "title": "\u202e\u2066\ufeff",
            "body": "</script>\u2028",
            "tags": [str(number) * 25 for number in range(10, 30)],
        },
    ],
    ids=["longest", "longest in bytes", "control characters", "operators", "marks"],
)
async def test_any_text_is_returned_unchanged(user: Any, content: dict[str, Any]) -> None:
    note = await user.created(**content)
    read = (await user.get(f"/{note['id']}")).json()
    replaced = (await user.edit(note["id"], "*", **content)).json()

    for response in (note, read, replaced):
        assert {name: response[name] for name in content} == content


async def test_a_note_with_every_character_escaped_is_accepted(user: Any) -> None:
    body = b'{"title": "x", "body": "' + b"\\u0001" * MEBIBYTE + b'"}'

    response = await user.send(
        "POST", content=body, headers={"Content-Type": "application/json", "Idempotency-Key": "k"}
    )

    assert response.status_code == 201
    assert response.json()["body"] == "\x01" * MEBIBYTE


async def test_a_note_of_different_words_only_is_accepted(user: Any) -> None:
    """A text index of it would not fit into the cache of the server."""
    body = " ".join(f"{number:x}" for number in range(MEBIBYTE // 6))

    note = await user.created(body=body[:MEBIBYTE])

    assert await user.titles(q="1f") == ["a title"]
    assert (await user.edit(note["id"], "*", title="next", body=body[-MEBIBYTE:])).status_code == 200


@pytest.mark.parametrize("text", [b'{"title": "\\ud800"}', b'{"title": "x", "tags": ["\\udfff"]}', b'{"\\ud800": 1}'])
async def test_a_lone_surrogate_is_refused(user: Any, text: bytes) -> None:
    response = await user.send("POST", content=text, headers={"Content-Type": "application/json"})

    assert response.status_code in (400, 422)
    assert await user.titles() == []


async def test_a_body_that_is_too_large_is_refused(user: Any) -> None:
    read = 0

    async def endless() -> Any:
        nonlocal read
        for _ in range(64):
            read += MEBIBYTE
            yield b" " * MEBIBYTE

    response = await user.send("POST", content=endless(), headers={"Content-Type": "application/json"})
    announced = await user.send("POST", json={}, headers={"Content-Length": str(8 * MEBIBYTE)})

    assert (response.status_code, announced.status_code) == (413, 413)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["limit_bytes"] == 7 * MEBIBYTE
    assert await user.titles() == []


@pytest.mark.parametrize("note_id", ["x", "1", "$ne", "%00", "..", "00000000-0000-0000-0000-00000000000g"])
async def test_a_malformed_id_finds_nothing(user: Any, note_id: str) -> None:
    assert 400 <= (await user.get(f"/{note_id}")).status_code < 500


async def test_a_sealed_call_is_refused(replica: Any) -> None:
    response = await replica.service("user").call("GET", API)

    assert response.status == 403
