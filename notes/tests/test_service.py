"""The service as a whole: probes, unavailable stores, limits, migration, documentation."""

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr

from notes_service.database import COLLECTIONS, migrate
from servicekit.storage import mongo
from servicekit.storage.mongo_migrations import connected


async def test_without_a_database_requests_get_503_and_the_service_stays_healthy(
    deployment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo, "SELECTION_MILLISECONDS", 200)
    async with deployment.replica(mongo_url=SecretStr("mongodb://127.0.0.1:1/gone")) as replica:
        user = replica.user()
        responses = await asyncio.gather(user.get(), user.create(), replica.http.get("/api/v1/notes/public/x"))
        assert [(response.status_code, response.headers["Retry-After"]) for response in responses] == [(503, "1")] * 3
        assert (await replica.http.get("/health")).status_code == 200
        assert (await replica.http.get("/ready")).status_code == 503


async def test_without_valkey_all_requests_succeed(deployment: Any) -> None:
    async with deployment.replica(valkey_url=SecretStr("redis://127.0.0.1:1/0"), user_rate=1) as replica:
        user = replica.user()
        for _ in range(4):
            note = await user.created()
        assert (await user.edit(note["id"], "*", title="new")).status_code == 200
        assert (await replica.http.get((await user.publish(note["id"]))["url"])).status_code == 200
        assert (await replica.http.get("/ready")).json()["status"] == "degraded"


async def test_a_user_beyond_the_rate_limit_gets_429(deployment: Any) -> None:
    async with deployment.replica(user_rate=1) as replica:
        user = replica.user()
        responses = [await user.get() for _ in range(4)]
        assert {response.status_code for response in responses} == {200, 429}
        assert responses[-1].headers["Retry-After"]
        assert (await replica.user().get()).status_code == 200


async def test_concurrent_migrations_create_each_collection_and_index_once(mongo_url: str) -> None:
    async with connected(SecretStr(mongo_url), application="test") as database:
        await asyncio.gather(*(migrate(database) for _ in range(5)))

        assert set(COLLECTIONS) <= set(await database.list_collection_names())
        names = set(await database["notes"].index_information())
    assert names == {"_id_", "by_owner", "by_tag", "by_word", "by_form", "by_slug"}


async def test_requests_succeed_again_after_the_primary_was_killed(stores: Any, user: Any) -> None:
    note = await user.created()
    stores.supervisor.kill("mongo-1")

    responses: list[Any] = []
    async with asyncio.timeout(60):
        while not responses or responses[-1].status_code != 200:
            responses.append(await user.get(f"/{note['id']}"))
    await stores.supervisor.processes["mongo-1"].wait_ready()

    assert {response.status_code for response in responses} <= {200, 503}
    assert responses[-1].json() == note


async def test_the_documentation_lists_routes_headers_and_errors(replica: Any) -> None:
    schema = (await replica.http.get("/openapi.json")).json()

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
