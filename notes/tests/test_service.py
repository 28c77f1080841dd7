"""The service as a process: probes, absent stores, limits, migration, documentation."""

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr

from notes_service.database import COLLECTIONS, migrate
from servicekit.storage import mongo


async def test_without_a_database_the_service_says_so_and_lives(
    deployment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo, "SELECTION_MILLISECONDS", 200)
    async with deployment.replica(mongo_url=SecretStr("mongodb://127.0.0.1:1/gone")) as notes:
        user = notes.user()
        answers = [await user.get(), await user.create(), await notes.http.get("/api/v1/notes/public/x")]
        assert [(answer.status_code, answer.headers["Retry-After"]) for answer in answers] == [(503, "1")] * 3
        assert (await notes.http.get("/health")).status_code == 200
        assert (await notes.http.get("/ready")).status_code == 503


async def test_without_valkey_everything_works(deployment: Any) -> None:
    async with deployment.replica(valkey_url=SecretStr("redis://127.0.0.1:1/0"), user_rate=1) as notes:
        user = notes.user()
        for _ in range(4):
            note = await user.created()
        assert (await user.edit(note["id"], "*", title="new")).status_code == 200
        assert (await notes.http.get((await user.publish(note["id"]))["url"])).status_code == 200
        assert (await notes.http.get("/ready")).json()["status"] == "degraded"


async def test_a_user_who_asks_too_often_is_told_to_wait(deployment: Any) -> None:
    async with deployment.replica(user_rate=1) as notes:
        user = notes.user()
        answers = [await user.get() for _ in range(4)]
        assert {answer.status_code for answer in answers} == {200, 429}
        assert answers[-1].headers["Retry-After"]
        assert (await notes.user().get()).status_code == 200


async def test_any_number_of_migrations_may_run_at_once(database: Any) -> None:
    await database.client.drop_database(database.name)

    await asyncio.gather(*(migrate(database) for _ in range(5)))

    assert set(COLLECTIONS) <= set(await database.list_collection_names())
    names = set(await database["notes"].index_information())
    assert names == {"_id_", "by_owner", "by_tag", "by_word", "by_slug"}


async def test_requests_are_answered_again_after_the_primary_was_killed(stores: Any, user: Any) -> None:
    note = await user.created()
    stores.supervisor.kill("mongo-1")

    answers = []
    async with asyncio.timeout(60):
        while not answers or answers[-1].status_code != 200:
            answers.append(await user.get(f"/{note['id']}"))
    await stores.supervisor.processes["mongo-1"].wait_ready()

    assert {answer.status_code for answer in answers} <= {200, 503}
    assert answers[-1].json() == note


async def test_the_documentation_names_what_clients_need(notes: Any) -> None:
    schema = (await notes.http.get("/openapi.json")).json()

    paths = {path: set(methods) for path, methods in schema["paths"].items() if path.startswith("/api/")}
    assert paths == {
        "/api/v1/notes": {"get", "post"},
        "/api/v1/notes/{note_id}": {"get", "put", "patch", "delete"},
        "/api/v1/notes/{note_id}/publish": {"post", "delete"},
        "/api/v1/notes/public/{slug}": {"get"},
    }
    for method in ("put", "patch", "delete"):
        operation = schema["paths"]["/api/v1/notes/{note_id}"][method]
        headers = {item["name"]: item["schema"]["type"] for item in operation["parameters"]}
        assert headers["If-Match"] == "string"
        assert {"401", "404", "412", "422", "428"} < operation["responses"].keys()
    assert schema["paths"]["/internal/facts"]["post"]["x-service-policy"] == {"mode": "sealed", "callers": ["user"]}
