"""`make run RELOAD=1`: a service whose code changes starts anew, after the new code was loaded once for a check."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib.util import cache_from_source
from pathlib import Path
from typing import Final

from watchfiles import Change, DefaultFilter, awatch

from local_platform.errors import LaunchError
from opskit.catalog import ServiceEntry

# What every service is built from.
_SHARED: Final = ("shared/opskit", "shared/servicekit")
_SHOWN_FILES: Final = 3
# Pause without further changes, in milliseconds, before changes count: an editor may write a file in several steps.
_QUIET_MILLISECONDS: Final = 60

Restart = Callable[[ServiceEntry], Awaitable[None]]


def watched_folders(entry: ServiceEntry) -> tuple[str, ...]:
    """Return the folders of a service's code below the repository. Its tests are not among them."""
    return f"{entry.name}/{entry.package}", f"{entry.name}/migrations"


def changed_services(files: Iterable[str], catalog: Mapping[str, ServiceEntry]) -> dict[str, set[str]]:
    """Return the changed files that concern each service, by its name; a change of shared code concerns all."""
    changed: dict[str, set[str]] = defaultdict(set)
    for file in files:
        for name, entry in catalog.items():
            if file.startswith(tuple(f"{folder}/" for folder in (*_SHARED, *watched_folders(entry)))):
                changed[name].add(file)
    return dict(changed)


class Reloader:
    """Restarts services as their code changes. `restart` raises LaunchError for code that does not run."""

    def __init__(
        self,
        repository: Path,
        catalog: Mapping[str, ServiceEntry],
        restart: Restart,
        report: Callable[[str], None],
    ) -> None:
        self._repository = repository
        self._catalog = catalog
        self._restart = restart
        self._report = report
        self._restarts: dict[str, asyncio.Task[None]] = {}
        # The changes that no running process has, by service.
        self._pending: dict[str, set[str]] = defaultdict(set)

    async def run(self) -> None:
        """Follow changes until cancelled."""
        folders = [*_SHARED, *(folder for entry in self._catalog.values() for folder in watched_folders(entry))]
        paths = [path for folder in folders if (path := self._repository / folder).is_dir()]
        try:
            async for changes in awatch(*paths, watch_filter=DefaultFilter(), step=_QUIET_MILLISECONDS):
                await self._take(changes)
        finally:
            await self._cancel(*self._restarts)

    async def _take(self, changes: Iterable[tuple[Change, str]]) -> None:
        files = {str(Path(path).relative_to(self._repository)) for _, path in changes}
        _remove_compiled(self._repository / file for file in files if file.endswith(".py"))
        for name, concerned in changed_services(files, self._catalog).items():
            await self._cancel(name)
            self._pending[name] |= concerned
            self._restarts[name] = asyncio.create_task(self._restart_changed(name), name=f"reload {name}")

    async def _restart_changed(self, name: str) -> None:
        began = time.monotonic()
        try:
            await self._restart(self._catalog[name])
        except (LaunchError, OSError) as error:
            self._report(f"{name} does not run with {self._files(name)}; waiting for the next change\n{error}")
        else:
            self._report(f"{name} restarted in {time.monotonic() - began:.1f} s: {self._files(name)}")
            del self._pending[name]

    def _files(self, name: str) -> str:
        files = sorted(self._pending[name])
        more = f" and {len(files) - _SHOWN_FILES} more" if len(files) > _SHOWN_FILES else ""
        return ", ".join(files[:_SHOWN_FILES]) + more

    async def _cancel(self, *names: str) -> None:
        """Break off restarts; each of their steps may be repeated."""
        tasks = [task for name in names if (task := self._restarts.pop(name, None)) is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _remove_compiled(files: Iterable[Path]) -> None:
    """Remove what Python compiled: its time stamps count seconds, so a second change within one would go unnoticed."""
    for file in files:
        Path(cache_from_source(str(file))).unlink(missing_ok=True)
