"""The directory that PostgreSQL's programs are started from."""

import shutil
from pathlib import Path

import pytest

from local_platform.binaries import POSTGRES, Server
from local_platform.stores import running_stores


@pytest.mark.servers
@pytest.mark.parametrize("name", ["$HOME", "back`quote`", 'double"quote', "back\\slash", "single'quote #é"])
async def test_a_database_is_made_in_a_path_that_a_shell_would_change(tmp_path: Path, monkeypatch, name: str) -> None:
    installed = POSTGRES.find().parents[1]
    directory = tmp_path / name / "package" / "pginstall"
    shutil.copytree(installed, directory, symlinks=True, copy_function=_link)
    for libraries in installed.parents[1].glob("*.libs"):
        (tmp_path / name / libraries.name).symlink_to(libraries)
    monkeypatch.setattr(Server, "find", lambda _server: directory / "bin" / "postgres")
    async with running_stores(tmp_path / name / "data", engines=["postgres"]) as stores:
        assert await stores.create_postgres_database("empty")


def _link(source: str, target: str) -> None:
    """Copy programs, which look for their folders; link all other files."""
    if Path(source).parent.name == "bin":
        shutil.copy2(source, target)
    else:
        Path(target).symlink_to(source)
