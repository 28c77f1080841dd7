"""Undoes an unfinished release."""

import time

from release_tool.compose import Stack
from release_tool.compose_orchestrator import STALE_SECONDS, Traffic
from release_tool.console import Console
from release_tool.images import CURRENT, Images
from release_tool.journal import Journal, JournalFile, Phase
from release_tool.replacement import replace


class Rollback:
    """Brings the version back that was in service before, and ends the new one. May be repeated."""

    def __init__(
        self, stack: Stack, images: Images, traffic: Traffic, journal_file: JournalFile, console: Console, service: str
    ) -> None:
        self._stack = stack
        self._images = images
        self._traffic = traffic
        self._journal_file = journal_file
        self._console = console
        self._service = service

    def run(self, journal: Journal | None) -> None:
        """Undo what the journal says; without one, end a v2 that somebody left."""
        if journal is not None and journal.phase in (Phase.REPLACING, Phase.FINISHING):
            self._put_back(journal)
        self._traffic.end(self._service)
        self._console.say(f"all traffic goes to {self._service} as it was before")
        self._stack.remove(self._stack.containers(f"{self._service}-v2"))
        self._journal_file.remove()
        self._console.say(f"{self._service}-v2 is gone")

    def _put_back(self, journal: Journal) -> None:
        candidates = self._stack.containers(f"{self._service}-v2")
        if not candidates or not all(candidate.healthy for candidate in candidates):
            # What is left of the old version, and what replaced it already, serves better than a v2 that is unwell.
            self._traffic.end(self._service)
        self._images.tag(journal.previous, CURRENT)
        self._console.say(f"{self._images.name}:{CURRENT} is the version from before again; putting its replicas back")
        replace(self._stack, self._service, journal.replicas, journal.brought, self._console)
        time.sleep(STALE_SECONDS)
