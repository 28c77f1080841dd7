"""Published notes: who sees them, under which address, and for how long."""

import asyncio
import re
from typing import Any

import pytest
from uuid_utils.compat import uuid7

API = "/api/v1/notes"


async def test_a_published_note_is_read_without_a_token(replica: Any, user: Any) -> None:
    note = await user.created(title="Open", body="to all", tags=["private"])

    published = await user.publish(note["id"])
    page = await replica.http.get(published["url"])

    assert published == {"slug": published["slug"], "url": f"{API}/public/{published['slug']}"}
    assert page.status_code == 200
    assert list(page.json()) == ["title", "body", "published_at", "author", "attachments"]
    assert (page.json()["title"], page.json()["body"]) == ("Open", "to all")
    assert page.headers["Cache-Control"] == "public, max-age=2, stale-while-revalidate=2"
    assert (await user.get(f"/{note['id']}")).json() == {**note, "slug": published["slug"]}


async def test_a_token_is_not_read(replica: Any, user: Any) -> None:
    url = (await user.publish((await user.created())["id"]))["url"]

    assert (await replica.http.get(url, headers={"Authorization": "Bearer forged"})).status_code == 200


async def test_an_address_cannot_be_guessed(user: Any) -> None:
    slugs = [(await user.publish((await user.created())["id"]))["slug"] for _ in range(5)]

    assert len(set(slugs)) == 5
    # 24 characters of base64url are 144 bits.
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{24}", slug) for slug in slugs)


async def test_a_withdrawn_note_and_its_address_are_gone(replica: Any, user: Any) -> None:
    note = await user.created()
    old = await user.publish(note["id"])

    assert (await user.send("DELETE", f"/{note['id']}/publish")).status_code == 204
    assert (await user.send("DELETE", f"/{note['id']}/publish")).status_code == 204
    assert (await replica.http.get(old["url"])).status_code == 404
    assert (await user.get(f"/{note['id']}")).json()["slug"] is None

    new = await user.publish(note["id"])
    assert new["slug"] != old["slug"]
    assert (await replica.http.get(new["url"])).status_code == 200
    assert (await replica.http.get(old["url"])).status_code == 404


async def test_a_deleted_note_has_no_page(replica: Any, user: Any) -> None:
    note = await user.created()
    url = (await user.publish(note["id"]))["url"]

    await user.delete(note["id"])

    assert (await replica.http.get(url)).status_code == 404


async def test_the_page_shows_edits(replica: Any, user: Any) -> None:
    note = await user.created(title="old")
    url = (await user.publish(note["id"]))["url"]
    before = await replica.http.get(url)

    await user.edit(note["id"], "*", title="new", body="text")
    after = await replica.http.get(url, headers={"If-None-Match": before.headers["ETag"]})

    assert (after.status_code, after.json()["title"]) == (200, "new")
    assert after.json()["published_at"] == before.json()["published_at"]
    unchanged = await replica.http.get(url, headers={"If-None-Match": after.headers["ETag"]})
    assert (unchanged.status_code, unchanged.headers["Cache-Control"]) == (304, after.headers["Cache-Control"])


@pytest.mark.parametrize("slug", ["x", "null", "None", "%00", "$ne", "%7B%22%24gt%22:%22%22%7D", "x" * 2000, "%ff"])
async def test_an_unknown_page_is_404_and_not_cached(replica: Any, user: Any, slug: str) -> None:
    await user.created()

    response = await replica.http.get(f"{API}/public/{slug}")

    assert response.status_code == 404
    assert response.headers["Cache-Control"] == "no-store"


async def test_twelve_concurrent_publications_get_one_address(replica: Any, replicas: Any) -> None:
    user = replicas[0].user()
    note = await user.created()

    published = await asyncio.gather(*(user.on(replicas[number % 2]).publish(note["id"]) for number in range(12)))

    assert len({response["slug"] for response in published}) == 1


async def test_concurrent_publications_and_withdrawals_succeed_or_get_503(replicas: Any) -> None:
    user = replicas[0].user()
    note_id = (await user.created())["id"]

    responses = await asyncio.gather(
        *(
            user.on(replicas[number % 2]).send(("POST", "DELETE")[number % 3 == 0], f"/{note_id}/publish")
            for number in range(24)
        )
    )

    assert {response.status_code for response in responses} <= {200, 204, 503}
    slug = (await user.get(f"/{note_id}")).json()["slug"]
    assert slug is None or (await user.publish(note_id))["slug"] == slug


async def test_a_missing_note_cannot_be_published(user: Any) -> None:
    assert (await user.send("POST", f"/{uuid7()}/publish")).status_code == 404
    assert (await user.send("DELETE", f"/{uuid7()}/publish")).status_code == 404


async def test_the_database_refuses_one_address_for_two_notes(database: Any) -> None:
    # Private notes have no slug, which is no conflict.
    await database["notes"].insert_many([{"owner_id": uuid7()}, {"owner_id": uuid7()}])
    await database["notes"].insert_one({"owner_id": uuid7(), "slug": "one"})

    with pytest.raises(Exception, match="duplicate key"):
        await database["notes"].insert_one({"owner_id": uuid7(), "slug": "one"})


async def test_a_page_names_its_author_and_its_files(replica: Any, user: Any, peers: Any) -> None:
    asset = uuid7()
    peers.assets[user.id] = {asset}
    peers.authors[user.id] = {"username": "ada", "display_name": "Ada"}
    published = await user.publish((await user.created(attachments=[str(asset)]))["id"])

    page = (await replica.http.get(published["url"])).json()

    assert page["author"] == {"id": str(user.id), "username": "ada", "display_name": "Ada"}
    url = f"/api/v1/assets/{asset}/content?note={published['slug']}"
    file = {"filename": "a.png", "media_type": "image/png", "size": 9}
    assert page["attachments"] == [{"id": str(asset), **file, "url": url}]


async def test_a_page_without_its_files_has_another_entity_tag(
    deployment: Any, replica: Any, user: Any, peers: Any
) -> None:
    asset = uuid7()
    peers.assets[user.id] = {asset}
    url = (await user.publish((await user.created(attachments=[str(asset)]))["id"]))["url"]
    peers.assets_available = False
    without = await replica.http.get(url)
    peers.assets_available = True

    # Another replica has not failed to reach the assets service, so its circuit is closed.
    async with deployment.replica() as other:
        page = await other.http.get(url, headers={"If-None-Match": without.headers["ETag"]})

    assert (without.status_code, without.json()["attachments"]) == (200, None)
    assert (page.status_code, len(page.json()["attachments"])) == (200, 1)


async def test_assets_learns_which_files_a_published_note_has(replica: Any, user: Any, peers: Any) -> None:
    asset = uuid7()
    peers.assets[user.id] = {asset}
    note = await user.created(attachments=[str(asset)])
    slug = (await user.publish(note["id"]))["slug"]

    async def ask(asset_id: Any, caller: str = "assets") -> Any:
        question = {"slug": slug, "asset_id": str(asset_id)}
        return await replica.service(caller).call("POST", "/internal/published", json=question)

    assert (await ask(asset)).json() == {"published": True}
    assert (await ask(uuid7())).json() == {"published": False}
    assert (await ask(asset, "user")).status == 403
    await user.send("DELETE", f"/{note['id']}/publish")
    assert (await ask(asset)).json() == {"published": False}
