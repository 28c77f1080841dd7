"""Migrations are written from the models."""

import shutil

import pytest

from local_platform.cli.migration import write_migration
from local_platform.layout import REPOSITORY
from opskit.catalog import read_catalog

pytestmark = pytest.mark.servers


async def test_a_migration_is_written_from_the_models_without_a_running_platform(tmp_path):
    service = next(entry.name for entry in read_catalog().values() if entry.store == "postgres")
    folder = tmp_path / service
    shutil.copytree(REPOSITORY / service / "migrations", folder / "migrations", ignore=shutil.ignore_patterns("0*"))
    shutil.copy(REPOSITORY / service / "alembic.ini", folder)
    written = await write_migration(folder, "everything")
    assert written is not None
    assert "op.create_table" in written.read_text()
    assert await write_migration(folder, "nothing more") is None
