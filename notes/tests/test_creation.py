"""A note is created once per Idempotency-Key and announced to analytics once, completely or not at all."""

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from servicekit.testing.stages import STAGE_REACHED, program

# A process of the service that handles several posts at once. Each one stops at its own stage, until the process is
# killed. The stage is also the key of the post.
_POSTS = """
import asyncio, sys
from contextvars import ContextVar
import httpx2
from notes_service.app import create_app
from notes_service.notes import writer
from notes_service.notes.store import NoteStore
from notes_service.notes.writer import NoteWriter
from servicekit.idempotency.mongo import MongoIdempotency
from servicekit.outbox.mongo import MongoOutboxStore
from servicekit.testing.stages import stop_after

METHODS = {
    "claimed": (MongoIdempotency, "_claim"),
    "added": (NoteStore, "add_all"),
    "recorded": (MongoOutboxStore, "record_all"),
    "stored": (MongoIdempotency, "_store"),
    "committed": (NoteWriter, "create"),
}
current_stage = ContextVar("current_stage")
# Each post has a transaction of its own.
writer.MOST_TERMS = 0

async def main(authorization, *stages):
    for stage in stages:
        stop_after(*METHODS[stage], when=lambda stage=stage: current_stage.get(None) == stage)
    app = create_app()
    transport = httpx2.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport) as http:
        async def post(stage):
            current_stage.set(stage)
            headers = {"Authorization": authorization, "Idempotency-Key": stage}
            await http.post("http://notes/api/v1/notes", json={"title": "one"}, headers=headers)

        await asyncio.gather(*map(post, stages))

asyncio.run(main(*sys.argv[1:]))
"""
_STAGES = ("claimed", "added", "recorded", "stored", "committed")


async def until_created(user: Any, key: str) -> Any:
    """Post with a key, and again as long as the response says so."""
    async with asyncio.timeout(60):
        while (response := await user.create(key=key, title="one")).status_code == 409:
            assert int(response.headers["Retry-After"]) >= 1
            await asyncio.sleep(0.1)
    return response


async def until_delivered(database: Any) -> None:
    """Wait until the outbox is empty."""
    async with asyncio.timeout(60):
        while await database["outbox"].count_documents({}):
            await asyncio.sleep(0.02)


async def test_ten_posts_with_one_key_to_two_replicas_create_one_note(replicas: Any, database: Any) -> None:
    user = replicas[0].user()

    responses = await asyncio.gather(*(until_created(user.on(replicas[number % 2]), "k") for number in range(10)))

    assert {response.status_code for response in responses} == {201}
    assert len({response.content for response in responses}) == 1
    assert len({(response.headers["ETag"], response.headers["Location"]) for response in responses}) == 1
    assert Counter("Idempotency-Replayed" in response.headers for response in responses) == {True: 9, False: 1}
    assert await database["notes"].count_documents({}) == 1


async def test_a_key_belongs_to_its_user_and_its_request(user: Any, stranger: Any) -> None:
    first = await user.create(key="k", title="one")

    assert (await stranger.create(key="k", title="two")).json()["title"] == "two"
    assert (await user.create(key="k", title="two")).status_code == 422
    assert (await user.create(key="k", title="one")).json() == first.json()
    assert (await user.create(title="one")).json()["id"] != first.json()["id"]


async def test_a_refused_request_leaves_its_key_free(user: Any) -> None:
    refused = await user.create(key="k", title="one", attachments=[str(uuid7())])
    assert refused.status_code == 422

    assert (await user.create(key="k", title="one")).status_code == 201


@pytest.mark.needs("analytics")
async def test_a_created_note_is_announced_to_analytics_once(user: Any, peers: Any, database: Any) -> None:
    note = (await until_created(user, "k")).json()
    await until_created(user, "k")

    await until_delivered(database)

    (event,) = [event for event in peers.events if event["user_id"] == str(user.id)]
    assert (event["type"], event["user_id"]) == ("note.created", str(user.id))
    # No content leaves the service.
    assert event["properties"] == {"note_id": note["id"]}
    assert UUID(event["event_id"]).version == 7


@pytest.mark.needs("analytics")
async def test_a_service_killed_at_any_stage_of_a_keyed_post_leaves_one_note_in_the_end(
    deployment: Any, user: Any, database: Any, peers: Any
) -> None:
    """One post per stage, each with its own key. The repeated posts meet what the dead process left behind."""
    # That process cannot reach analytics.
    environment = deployment.environment(peer_urls={"user": peers.urls["user"]})
    async with program(_POSTS, user.headers["Authorization"], *_STAGES, environment=environment) as process:
        for _ in _STAGES:
            await process.until(STAGE_REACHED)
        # Only the committed note exists, while the process is stopped and after it was killed.
        assert await user.titles() == ["one"]
    assert await user.titles() == ["one"]
    # If it has leased that note's event, the lease ends now instead of half a minute later.
    await database["outbox"].update_many({}, {"$currentDate": {"due_at": True}})

    responses = dict(zip(_STAGES, await asyncio.gather(*(until_created(user, key) for key in _STAGES)), strict=True))

    assert {response.status_code for response in responses.values()} == {201}
    assert [stage for stage, response in responses.items() if "Idempotency-Replayed" in response.headers] == [
        "committed"
    ]
    created = {response.json()["id"] for response in responses.values()}
    assert len(created) == len(_STAGES) == len(await user.titles())
    await until_delivered(database)
    events = [event for event in peers.events if event["user_id"] == str(user.id)]
    assert len({event["event_id"] for event in events}) == len(_STAGES)
    assert {event["properties"]["note_id"] for event in events} == created
