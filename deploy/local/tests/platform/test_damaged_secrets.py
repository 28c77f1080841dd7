"""A damaged file of secrets is named before anything starts."""

import asyncio

import pytest

from local_platform.errors import DataDirectoryUnusable
from local_platform.platform.launcher import prepared
from local_platform.platform.options import Options
from local_platform.supervision.status_table import StatusTable

DAMAGES = pytest.mark.parametrize("content", ["", " \n", "{}", "\0" * 40], ids=["empty", "blank", "other", "zeros"])


async def prepare(data_dir) -> None:
    async with prepared(Options(data_dir, gateway_port=0), StatusTable(), asyncio.Event()):
        pass


@pytest.mark.needs("analytics")
@DAMAGES
async def test_a_damaged_key_between_services_is_named(tmp_path, content):
    await prepare(tmp_path)
    key = next((tmp_path / "secrets" / "keys" / "user").iterdir())
    key.write_text(content)
    with pytest.raises(DataDirectoryUnusable, match=f"{key}: .*; put the key back"):
        await prepare(tmp_path)


@pytest.mark.parametrize("content", ["", " \n"], ids=["empty", "blank"])
@pytest.mark.parametrize("name", ["postgres.password", "mongo.key", "mongo.password", "valkey.password"])
async def test_an_empty_secret_is_named(tmp_path, name, content):
    await prepare(tmp_path)
    (tmp_path / "secrets" / name).write_text(content)
    with pytest.raises(DataDirectoryUnusable, match=f"{name} is empty or damaged; restore it"):
        await prepare(tmp_path)
