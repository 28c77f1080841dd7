"""The migration job of a service on MongoDB."""

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr
from pymongo import IndexModel
from pymongo.errors import OperationFailure

from servicekit.storage.mongo_migrations import DatabaseSettings, connected, create_collections

COLLECTIONS = {"things": [IndexModel("owner_id", name="by_owner")], "bare": []}


async def test_concurrent_jobs_create_every_collection_and_index(mongo_url: str) -> None:
    async with connected(SecretStr(mongo_url), application="test") as database:
        for _ in range(2):
            await asyncio.gather(*(create_collections(database, COLLECTIONS) for _ in range(6)))

        assert set(await database.list_collection_names()) == {"things", "bare"}
        assert set(await database["things"].index_information()) == {"_id_", "by_owner"}


async def test_an_index_that_cannot_be_created_is_an_error(mongo_url: str) -> None:
    async with connected(SecretStr(mongo_url), application="test") as database:
        await create_collections(database, COLLECTIONS)

        with pytest.raises(OperationFailure):
            await create_collections(database, {"things": [IndexModel("other", name="by_owner")]})


def test_the_url_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("mongodb://db/notes\n")
    monkeypatch.setenv("MONGO_URL_FILE", str(tmp_path / "url"))

    assert DatabaseSettings().mongo_url.get_secret_value() == "mongodb://db/notes"
