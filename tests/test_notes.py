"""Notes through the gateway, as a frontend uses them, with two replicas and the other services."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx2
import pytest

pytestmark = pytest.mark.needs("notes")

SignIn = Callable[[], Awaitable[Any]]
NOTES = "/api/v1/notes"
# The promised time within which a public page shows a change.
SHOWN_WITHIN = 5.0


async def create(gateway: httpx2.AsyncClient, user: Any, **fields: Any) -> httpx2.Response:
    response = await gateway.post(NOTES, headers=user.headers, json={"title": "a title", **fields})
    assert response.status_code == 201, response.text
    return response


async def publish(gateway: httpx2.AsyncClient, user: Any, note: httpx2.Response) -> str:
    response = await gateway.post(f"{note.headers['Location']}/publish", headers=user.headers)
    assert response.status_code == 200, response.text
    url: str = response.json()["url"]
    return url


async def test_a_compressed_note_is_edited_with_its_weak_tag(gateway: httpx2.AsyncClient, sign_in: SignIn) -> None:
    user = await sign_in()
    path = (await create(gateway, user, body="a long text " * 100)).headers["Location"]

    read = await gateway.get(path, headers=user.headers)
    assert read.headers["Content-Encoding"] == "gzip"
    assert read.headers["ETag"].startswith("W/")

    unchanged = await gateway.get(path, headers={**user.headers, "If-None-Match": read.headers["ETag"]})
    assert unchanged.status_code == 304
    edited = await gateway.patch(path, headers={**user.headers, "If-Match": read.headers["ETag"]}, json={"title": "b"})
    assert (edited.status_code, edited.json()["title"]) == (200, "b")
    stale = await gateway.delete(path, headers={**user.headers, "If-Match": read.headers["ETag"]})
    assert stale.status_code == 412
    assert (await gateway.delete(path, headers=user.headers)).status_code == 428
    assert (await gateway.delete(path, headers={**user.headers, "If-Match": "*"})).status_code == 204


async def test_only_the_owner_sees_and_changes_a_note(gateway: httpx2.AsyncClient, sign_in: SignIn) -> None:
    owner, stranger = await sign_in(), await sign_in()
    path = (await create(gateway, owner)).headers["Location"]

    for method in ("GET", "PUT", "PATCH", "DELETE"):
        body = {"json": {"title": "mine"}} if method in ("PUT", "PATCH") else {}
        assert (await gateway.request(method, path, headers=stranger.headers, **body)).status_code == 404
        assert (await gateway.request(method, path, **body)).status_code == 401
    for action in ("POST", "DELETE"):
        assert (await gateway.request(action, f"{path}/publish", headers=stranger.headers)).status_code == 404
    assert (await gateway.get(NOTES, headers=stranger.headers)).json()["items"] == []
    assert (await gateway.get(path, headers=owner.headers)).json()["title"] == "a title"


async def test_of_eight_concurrent_edits_one_wins(gateway: httpx2.AsyncClient, sign_in: SignIn) -> None:
    user = await sign_in()
    note = await create(gateway, user)
    headers = {**user.headers, "If-Match": note.headers["ETag"]}

    responses = await asyncio.gather(
        *(gateway.put(note.headers["Location"], headers=headers, json={"title": str(number)}) for number in range(8))
    )

    assert Counter(response.status_code for response in responses) == {200: 1, 412: 7}


async def test_ten_posts_with_one_key_create_one_note(gateway: httpx2.AsyncClient, sign_in: SignIn) -> None:
    user, key = await sign_in(), str(uuid4())

    async def post() -> httpx2.Response:
        return await gateway.post(NOTES, headers={**user.headers, "Idempotency-Key": key}, json={"title": "one"})

    responses = await asyncio.gather(*(post() for _ in range(10)))

    assert {response.status_code for response in responses} <= {201, 409}
    created = [response for response in responses if response.status_code == 201]
    assert len({response.json()["id"] for response in created}) == 1
    assert sum("Idempotency-Replayed" not in response.headers for response in created) == 1
    assert len((await gateway.get(NOTES, headers=user.headers)).json()["items"]) == 1


async def test_a_published_note_is_cached_and_shows_every_change(gateway: httpx2.AsyncClient, sign_in: SignIn) -> None:
    user = await sign_in()
    note = await create(gateway, user, title="first")
    url = await publish(gateway, user, note)

    pages = [await gateway.get(url) for _ in range(3)]
    assert [page.headers["X-Cache"] for page in pages] == ["MISS", "HIT", "HIT"]
    assert {page.json()["title"] for page in pages} == {"first"}

    headers = {**user.headers, "If-Match": note.headers["ETag"]}
    assert (await gateway.put(note.headers["Location"], headers=headers, json={"title": "second"})).status_code == 200
    async with asyncio.timeout(60):
        while (await gateway.get(url)).json()["title"] != "second":
            await asyncio.sleep(0.1)

    assert (await gateway.delete(f"{note.headers['Location']}/publish", headers=user.headers)).status_code == 204
    async with asyncio.timeout(60):
        while (await gateway.get(url)).status_code != 404:
            await asyncio.sleep(0.1)
    again = await publish(gateway, user, note)
    assert again != url
    assert (await gateway.get(again)).json()["title"] == "second"
    assert (await gateway.get(url)).status_code == 404


async def test_a_cached_page_without_requests_is_at_most_five_seconds_old(
    gateway: httpx2.AsyncClient, sign_in: SignIn
) -> None:
    """The first request after the promised time sees the change."""
    user = await sign_in()
    note = await create(gateway, user, title="first")
    url = await publish(gateway, user, note)
    assert (await gateway.get(url)).json()["title"] == "first"

    assert (
        await gateway.delete(note.headers["Location"], headers={**user.headers, "If-Match": "*"})
    ).status_code == 204
    await asyncio.sleep(SHOWN_WITHIN)

    assert (await gateway.get(url)).status_code == 404


async def test_no_response_for_one_user_reaches_another_client(gateway: httpx2.AsyncClient, sign_in: SignIn) -> None:
    users = [await sign_in(), await sign_in()]
    paths = [(await create(gateway, user, title=user.username)).headers["Location"] for user in users]

    for _ in range(3):
        for user, path in zip(users, paths, strict=True):
            own = await gateway.get(path, headers=user.headers)
            assert (own.status_code, own.json()["title"]) == (200, user.username)
            assert "X-Cache" not in own.headers
            items = (await gateway.get(NOTES, headers=user.headers)).json()["items"]
            assert [item["title"] for item in items] == [user.username]
            assert (await gateway.get(path)).status_code == 401
        assert (await gateway.get(paths[0], headers=users[1].headers)).status_code == 404


async def test_a_public_page_requested_with_a_token_bypasses_the_cache(
    gateway: httpx2.AsyncClient, sign_in: SignIn
) -> None:
    user = await sign_in()
    url = await publish(gateway, user, await create(gateway, user))

    responses = [await gateway.get(url, headers=user.headers), await gateway.get(url)]

    assert [response.headers["X-Cache"] for response in responses] == ["BYPASS", "MISS"]


async def test_lists_are_searched_and_filtered_through_the_gateway(
    gateway: httpx2.AsyncClient, sign_in: SignIn
) -> None:
    user = await sign_in()
    for number in range(5):
        await create(
            gateway, user, title=f"Nr. {number}", body="Grün wie Gras", tags=["even" if number % 2 == 0 else "odd"]
        )

    async def titles(**params: Any) -> list[str]:
        response = await gateway.get(NOTES, headers=user.headers, params=params)
        assert response.status_code == 200, response.text
        return [item["title"] for item in response.json()["items"]]

    assert await titles(q="GRUN gras") == [f"Nr. {number}" for number in (4, 3, 2, 1, 0)]
    assert await titles(tag="odd") == ["Nr. 3", "Nr. 1"]
    first = (await gateway.get(NOTES, headers=user.headers, params={"limit": 2})).json()
    assert await titles(limit=2, cursor=first["next_cursor"]) == ["Nr. 2", "Nr. 1"]


@pytest.mark.needs("analytics")
async def test_a_new_note_is_counted_by_analytics(gateway: httpx2.AsyncClient, sign_in: SignIn) -> None:
    user = await sign_in()
    note = await create(gateway, user)

    async def events() -> list[dict[str, Any]]:
        response = await gateway.get("/api/v1/analytics/events", headers=user.headers, params={"type": "note.created"})
        items: list[dict[str, Any]] = response.json()["items"]
        return items

    async with asyncio.timeout(60):
        while not (found := await events()):
            await asyncio.sleep(0.1)
    assert [event["properties"] for event in found] == [{"note_id": note.json()["id"]}]


@pytest.mark.needs("assets")
async def test_only_own_files_are_attached(gateway: httpx2.AsyncClient, sign_in: SignIn, running: Any) -> None:
    owner, other = await sign_in(), await sign_in()
    files = []
    for user in (owner, other):
        headers = {**user.headers, "Content-Type": "text/plain", "X-Filename": "a.txt"}
        upload = await gateway.post("/api/v1/assets", headers=headers, content=b"some text")
        assert upload.status_code == 201, upload.text
        files.append(upload.json()["id"])

    note = await create(gateway, owner, attachments=files[:1])
    assert note.json()["attachments"] == files[:1]
    for wrong in (files[1], str(uuid4())):
        refused = await gateway.post(
            NOTES, headers=owner.headers, json={"title": "x", "attachments": [files[0], wrong]}
        )
        assert refused.status_code == 422
        assert [error["message"] for error in refused.json()["errors"]] == [f"not one of your assets: {wrong}"]
    assert len((await gateway.get(NOTES, headers=owner.headers)).json()["items"]) == 1


async def test_a_published_note_has_an_author_and_files_that_end_with_it(
    gateway: httpx2.AsyncClient, sign_in: SignIn
) -> None:
    user = await sign_in()
    headers = {**user.headers, "Content-Type": "text/plain", "X-Filename": "a.txt"}
    upload = await gateway.post("/api/v1/assets", headers=headers, content=b"some text")
    note = await create(gateway, user, attachments=[upload.json()["id"]])
    page = (await gateway.get(await publish(gateway, user, note))).json()

    assert page["author"] == {name: user.account[name] for name in ("id", "username", "display_name")}
    (file,) = page["attachments"]
    assert (file["filename"], file["media_type"], file["size"]) == ("a.txt", "text/plain", 9)
    for sent in ({}, {"Authorization": "Bearer a.b.c"}):
        content = await gateway.get(file["url"], headers=sent)
        assert (content.status_code, content.content) == (200, b"some text")

    path = note.headers["Location"]
    assert (await gateway.delete(f"{path}/publish", headers=user.headers)).status_code == 204
    async with asyncio.timeout(5):
        while (await gateway.get(file["url"])).status_code != 404:
            await asyncio.sleep(0.1)


async def test_a_deleted_account_loses_its_notes_and_pages(gateway: httpx2.AsyncClient, sign_in: SignIn) -> None:
    user = await sign_in()
    url = await publish(gateway, user, await create(gateway, user))
    assert (await gateway.get(url)).status_code == 200

    assert (await gateway.delete("/api/v1/users/profile", headers=user.headers)).status_code == 204

    async with asyncio.timeout(30):
        while (await gateway.get(url)).status_code != 404:
            await asyncio.sleep(0.1)
