"""`make run RELOAD=1` on a copy of the repository: changed code runs, and broken code does not stop what runs."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from local_platform.supervision.probes import http_get
from opskit.catalog import read_catalog
from tests.copies import PATIENCE_SECONDS, copy_repository, running_copy

pytestmark = [pytest.mark.servers, pytest.mark.timeout(PATIENCE_SECONDS)]

POLL_SECONDS = 0.02


async def until(holds: Callable[[], bool]) -> None:
    """Poll a condition of other processes until it holds or the test times out."""
    while not holds():
        await asyncio.sleep(POLL_SECONDS)


def prepend(code: str, file: Path) -> None:
    file.write_text(f"{code}\n{file.read_text()}")


async def test_changed_code_runs_and_broken_code_does_not_stop_what_runs(tmp_path: Path) -> None:
    copy, data_dir = copy_repository(tmp_path / "copy"), tmp_path / "data"
    data_dir.mkdir()
    services = list(read_catalog())

    def processes(key: str) -> Mapping[str, int | str]:
        listed = json.loads((data_dir / "run.json").read_text())["processes"]
        return {process["service"]: process[key] for process in listed if process["service"] in services}

    def progress(text: str) -> Callable[[], bool]:
        return lambda: text in (data_dir / "progress").read_text()

    def log(name: str) -> str:
        return (data_dir / "logs" / f"{name}.log").read_text()

    async with running_copy(copy, data_dir, "--reload"):
        first = processes("pid")

        prepend("this is no Python", copy / "user/user_service/app.py")
        await until(progress("user does not run with user/user_service/app.py"))
        assert progress("SyntaxError: invalid syntax")()
        assert processes("pid") == first
        assert (await http_get(f"{processes('url')['user']}/ready"))[0] == 200

        prepend('print("the changed migration ran")', copy / "user/user_service/migrate.py")
        await until(progress("user does not run with user/user_service/app.py, user/user_service/migrate.py"))
        source = (copy / "user/user_service/app.py").read_text()
        (copy / "user/user_service/app.py").write_text(
            source.replace("this is no Python", 'print("new code", flush=True)')
        )
        await until(progress("user restarted in "))
        assert "new code" in log("user-1")
        assert "the changed migration ran" in log("user-migrate")
        second = processes("pid")
        assert {name for name in services if second[name] != first[name]} == {"user"}

        # The process that all services are forked from has imported this module.
        prepend('print("new shared code", flush=True)', copy / "shared/servicekit/server/shared_imports.py")
        for name in services:
            await until(lambda name=name: f"{name} restarted in " in (data_dir / "progress").read_text())
        await until(lambda: (data_dir / "progress").read_text().count("user restarted in ") == 2)
        assert all("new shared code" in log(f"{name}-1") for name in services)
        assert not set(processes("pid").values()) & set(second.values())
