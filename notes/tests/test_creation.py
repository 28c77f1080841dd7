"""A note is created once per Idempotency-Key, told to analytics once, and either as a whole or not at all."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

# A process of the service that takes a post and stops for good at a stage of it, so that it can be killed there.
_POST = """
import asyncio, sys
import httpx2
from notes_service.app import create_app
from notes_service.notes.writer import Ledger
from notes_service.notes.store import NoteStore
from servicekit.idempotency.mongo import MongoIdempotency
from servicekit.outbox.mongo import MongoOutboxStore
from servicekit.testing.stages import stop_after

STAGES = {
    "claimed": (MongoIdempotency, "_claim"),
    "added": (NoteStore, "add"),
    "recorded": (MongoOutboxStore, "record"),
    "stored": (MongoIdempotency, "_store"),
    "committed": (Ledger, "create"),
}

async def main(stage, authorization, key, title):
    stop_after(*STAGES[stage])
    app = create_app()
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as http:
        headers = {"Authorization": authorization, "Idempotency-Key": key}
        await http.post("http://notes/api/v1/notes", json={"title": title}, headers=headers)

asyncio.run(main(*sys.argv[1:]))
"""
STAGES = ("claimed", "added", "recorded", "stored", "committed")


@asynccontextmanager
async def post_stopped_at(stage: str, deployment: Any, user: Any, key: str) -> AsyncIterator[None]:
    """Run a process until it stands still at a stage of a post, and kill it at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _POST, stage, user.headers["Authorization"], key, "one"),
        env={**os.environ, **deployment.environment()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(120):
            # Its log goes to the same place.
            while (line := await process.stdout.readline()) != b"stage reached\n":
                assert line, "the process ended before it reached the stage"
        yield
    finally:
        process.kill()
        await process.wait()


async def until_created(user: Any, key: str) -> Any:
    """Post with a key as a client does that is told to try again."""
    async with asyncio.timeout(60):
        while (answer := await user.create(key=key, title="one")).status_code == 409:
            assert int(answer.headers["Retry-After"]) >= 1
            await asyncio.sleep(0.1)
    return answer


async def test_ten_posts_with_one_key_over_two_replicas_make_one_note(replicas: Any, database: Any) -> None:
    user = replicas[0].user()

    answers = await asyncio.gather(*(until_created(user.on(replicas[number % 2]), "k") for number in range(10)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len({(answer.headers["ETag"], answer.headers["Location"]) for answer in answers}) == 1
    assert Counter("Idempotency-Replayed" in answer.headers for answer in answers) == {True: 9, False: 1}
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


async def test_a_note_is_told_to_analytics_once(user: Any, others: Any, database: Any) -> None:
    note = (await until_created(user, "k")).json()
    await until_created(user, "k")

    async with asyncio.timeout(60):
        while await database["outbox"].count_documents({}):
            await asyncio.sleep(0.02)

    (event,) = others.events
    assert (event["type"], event["user_id"]) == ("note.created", str(user.id))
    # Nothing of the content leaves the service.
    assert event["properties"] == {"note_id": note["id"]}
    assert UUID(event["event_id"]).version == 7


async def test_a_service_killed_anywhere_in_a_keyed_post_leaves_one_note_in_the_end(
    deployment: Any, notes: Any, database: Any, others: Any
) -> None:
    """Once at every stage, each with a key of its own; repeated posts meet what the dead process left behind."""
    user = notes.user()
    async with AsyncExitStack() as stack:
        posts = (stack.enter_async_context(post_stopped_at(stage, deployment, user, stage)) for stage in STAGES)
        await asyncio.gather(*posts)
        # Only what was committed is there while they stand still, and after they were killed.
        assert await user.titles() == ["one"]
    assert await user.titles() == ["one"]

    answers = dict(zip(STAGES, await asyncio.gather(*(until_created(user, stage) for stage in STAGES)), strict=True))

    assert {answer.status_code for answer in answers.values()} == {201}
    assert [stage for stage, answer in answers.items() if "Idempotency-Replayed" in answer.headers] == ["committed"]
    created = {answer.json()["id"] for answer in answers.values()}
    assert len(created) == len(STAGES) == len(await user.titles())
    # A fact that the dead process had begun to deliver waits for the end of its lease.
    async with asyncio.timeout(60):
        while await database["outbox"].count_documents({}):
            await asyncio.sleep(0.05)
    assert len({event["event_id"] for event in others.events}) == len(STAGES)
    assert {event["properties"]["note_id"] for event in others.events} == created
