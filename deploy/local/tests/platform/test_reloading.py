"""Which changes restart which service, and what happens to a change that comes during a restart."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from local_platform.errors import JobFailed
from local_platform.platform.reloading import Reloader, changed_services
from opskit.catalog import ServiceEntry

CATALOG = {name: ServiceEntry(name, name, 1, "postgres") for name in ("notes", "user")}
ACTIONS = "notes/notes_service/actions.py"


@pytest.mark.parametrize(
    ("file", "restarted"),
    [
        (ACTIONS, {"notes"}),
        ("notes/notes_service/templates/mail.txt", {"notes"}),
        ("user/migrations/versions/0002.py", {"user"}),
        ("shared/servicekit/kit.py", {"notes", "user"}),
        ("shared/opskit/catalog.py", {"notes", "user"}),
        ("notes/tests/test_notes.py", set()),
        ("shared/tests/test_kit.py", set()),
        ("notes/README.md", set()),
    ],
    ids=["action", "template", "migration", "kit", "catalog", "test", "test of the kit", "README"],
)
def test_a_change_concerns_the_services_that_run_its_code(file: str, restarted: set[str]) -> None:
    assert changed_services([file], CATALOG) == {name: {file} for name in restarted}


class Restarts:
    """Restarts that the test ends; `begun` receives the name of each service."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.outcomes: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.reports: asyncio.Queue[str] = asyncio.Queue()
        self.broken_off = 0

    async def restart(self, entry: ServiceEntry) -> None:
        self.begun.put_nowait(entry.name)
        try:
            outcome = await self.outcomes.get()
        except asyncio.CancelledError:
            self.broken_off += 1
            raise
        if outcome is not None:
            raise outcome


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for folder in ("notes/notes_service", "user/user_service", "shared/opskit", "shared/servicekit"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def compiled(repository: Path) -> Path:
    """What Python compiled of a file before its change."""
    file = Path(cache_from_source(str(repository / ACTIONS)))
    file.parent.mkdir()
    file.touch()
    return file


@pytest.fixture
async def restarts(repository: Path) -> AsyncIterator[Restarts]:
    restarts = Restarts()
    async with _following(repository, restarts):
        yield restarts


@asynccontextmanager
async def _following(repository: Path, restarts: Restarts) -> AsyncIterator[None]:
    running = asyncio.create_task(Reloader(repository, CATALOG, restarts.restart, restarts.reports.put_nowait).run())
    # Its first step begins the watch.
    await asyncio.sleep(0)
    yield
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_restart_is_reported_with_the_changed_file(repository: Path, restarts: Restarts) -> None:
    (repository / ACTIONS).write_text("a = 1")
    assert await restarts.begun.get() == "notes"
    restarts.outcomes.put_nowait(None)
    report = await restarts.reports.get()
    assert report.startswith("notes restarted in ")
    assert report.endswith(f" s: {ACTIONS}")


async def test_a_failed_restart_waits_for_the_next_change_and_counts_as_changed_until_then(
    repository: Path, restarts: Restarts
) -> None:
    (repository / ACTIONS).write_text("a =")
    await restarts.begun.get()
    restarts.outcomes.put_nowait(JobFailed("SyntaxError"))
    assert await restarts.reports.get() == (
        f"notes does not run with {ACTIONS}; waiting for the next change\nSyntaxError"
    )
    (repository / "notes/notes_service/rules.py").write_text("a = 1")
    await restarts.begun.get()
    restarts.outcomes.put_nowait(None)
    assert (await restarts.reports.get()).endswith(f" s: {ACTIONS}, notes/notes_service/rules.py")


async def test_a_change_during_a_restart_begins_it_again(repository: Path, restarts: Restarts) -> None:
    (repository / ACTIONS).write_text("a = 1")
    await restarts.begun.get()
    (repository / ACTIONS).write_text("a = 2")
    await restarts.begun.get()
    assert restarts.broken_off == 1
    restarts.outcomes.put_nowait(None)
    await restarts.reports.get()
    assert restarts.reports.empty()


async def test_what_python_compiled_before_the_change_is_removed(
    repository: Path, compiled: Path, restarts: Restarts
) -> None:
    (repository / ACTIONS).write_text("a = 1")
    await restarts.begun.get()
    assert list(compiled.parent.iterdir()) == []
