"""The migration job."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from assets_service.migrate import FOLDER, run
from assets_service.settings import MigrationSettings
from assets_service.storage.interface import WrongStore
from servicekit.storage.postgres_migrations import autogenerate


async def test_an_empty_store_is_refused_for_a_database_with_assets(
    deployment: Any, replica: Any, user: UUID, tmp_path: Path
) -> None:
    settings = MigrationSettings(
        database_url=deployment.settings.database_url, assets_dir=deployment.settings.assets_dir
    )
    await replica.stored(user)

    await run(settings)
    with pytest.raises(WrongStore):
        await run(settings.model_copy(update={"assets_dir": tmp_path / "empty"}))


async def test_models_and_migrations_agree(postgres_url: str) -> None:
    assert await autogenerate(FOLDER, SecretStr(postgres_url), "nothing") is None
