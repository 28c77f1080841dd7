"""The steps of a release: the new version beside the old one, traffic shifted bit by bit, then the old one replaced."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from release_tool.canary import Window, windows
from release_tool.compose import Stack
from release_tool.compose_orchestrator import STALE_SECONDS, Traffic, address
from release_tool.console import Console
from release_tool.errors import StepFailed
from release_tool.images import CURRENT, NEXT, PREVIOUS, Images
from release_tool.journal import Journal, JournalFile, Phase
from release_tool.replacement import replace, wait_healthy
from release_tool.watch import complaint, milliseconds, unwell

WATCH_SECONDS = 2.0
# The old version is compared by this long a time before the release when it gets no requests any more.
BASELINE_SECONDS = 120.0
# A request is logged when it ends, and docker takes a moment to show the line.
LOG_SECONDS = 0.3

HEADER = ("share", "v1 requests", "errors", "p95 ms", "v2 requests", "errors", "p95 ms")


@dataclass(frozen=True, slots=True)
class Plan:
    """Which service, in which shares of traffic (per cent, ascending to 100), and how many seconds each is watched.

    Without any step v2 gets all traffic at once.
    """

    service: str
    steps: Sequence[int] = (5, 25, 50, 100)
    step_seconds: float = 10.0

    @property
    def candidate(self) -> str:
        """The compose service of the new version."""
        return f"{self.service}-v2"


class Release:
    """Carries a release out from its recorded phase on; each phase may be repeated."""

    def __init__(
        self, stack: Stack, images: Images, traffic: Traffic, journal_file: JournalFile, console: Console, plan: Plan
    ) -> None:
        self._stack = stack
        self._images = images
        self._traffic = traffic
        self._journal_file = journal_file
        self._console = console
        self._plan = plan
        self._rows: list[tuple[str, ...]] = []

    def run(self, journal: Journal) -> None:
        """Go on from the journal's phase to the end. Raises `ToolError` for whatever stops the release."""
        work: dict[Phase, Callable[[Journal], Journal]] = {
            Phase.STARTING: self._start,
            Phase.SHIFTING: self._shift,
            Phase.REPLACING: self._replace,
        }
        while journal.phase is not Phase.FINISHING:
            journal = work[journal.phase](journal)
            self._journal_file.write(journal)
        self._finish()
        if self._rows:
            self._console.table(HEADER, self._rows)

    def _start(self, journal: Journal) -> Journal:
        service, candidate = self._plan.service, self._plan.candidate
        self._images.tag(journal.image, NEXT)
        # What is in service already has migrated.
        if journal.image != journal.previous:
            self._console.say(f"{candidate}-migrate: running")
            self._stack.compose("run", "--rm", "--no-deps", "-T", f"{candidate}-migrate")
            self._console.say(f"{candidate}-migrate: done")
        self._stack.scale(candidate, journal.replicas)
        replicas = wait_healthy(self._stack, candidate, self._console)
        self._console.say(f"{candidate}: {len(replicas)} healthy")
        self._traffic.shift(service, 0)
        self._traffic.check(service)
        self._console.say("the gateway reaches every replica of v2, which has no traffic yet")
        if self._plan.steps:
            self._console.say(f"  to check it by hand: curl -H 'X-Release: v2' {address(self._stack)}/api/v1/…")
        return journal.at(Phase.SHIFTING)

    def _shift(self, journal: Journal) -> Journal:
        service = self._plan.service
        expected = {replica.id for replica in wait_healthy(self._stack, self._plan.candidate, self._console)}
        reached = self._traffic.weights().get(service, 0)
        baseline = windows(self._traffic.log(journal.began - BASELINE_SECONDS, journal.began), service)["v1"]
        # The share at which an earlier run was interrupted is watched again, from its beginning.
        for weight in [step for step in self._plan.steps if step >= reached or step == 100]:
            self._traffic.shift(service, weight)
            since = time.time()
            self._console.say(f"{weight} % of the traffic goes to v2; watching for {self._plan.step_seconds:g} s")
            self._watch(weight, since, expected, baseline)
        # Who scaled the service meanwhile keeps what he has.
        return dataclasses.replace(journal, phase=Phase.REPLACING, replicas=len(self._stack.containers(service)))

    def _watch(self, weight: int, since: float, expected: set[str], baseline: Window) -> None:
        end = since + self._plan.step_seconds
        while (left := end - time.time()) > 0:
            time.sleep(min(WATCH_SECONDS, left))
            self._judge(weight, since, expected, baseline, final=False)
        time.sleep(LOG_SECONDS)
        # Docker takes half a minute to call a replica unhealthy, and requests may not come to the route that is broken.
        self._traffic.check(self._plan.service)
        row = self._judge(weight, since, expected, baseline, final=True)
        self._rows.append(row)
        self._console.say(
            f"{row[0]}: v1 {row[1]} requests, {row[2]} errors, p95 {row[3]} ms; "
            f"v2 {row[4]} requests, {row[5]} errors, p95 {row[6]} ms"
        )

    def _judge(
        self, weight: int, since: float, expected: set[str], baseline: Window, *, final: bool
    ) -> tuple[str, ...]:
        """Return the figures of a step so far. Raises `StepFailed` when the release must not go on."""
        if sick := unwell(self._stack.containers(self._plan.candidate), expected):
            raise StepFailed(sick)
        found = windows(self._traffic.log(since), self._plan.service)
        stable, candidate = found["v1"], found["v2"]
        # At full share the old version answers what it has begun, which says nothing.
        shared = weight < 100
        if reason := complaint(candidate, stable if shared else baseline, final=final, same_time=shared):
            raise StepFailed(f"at {weight} %: {reason}")
        return (f"{weight} %", *_figures(stable), *_figures(candidate))

    def _replace(self, journal: Journal) -> Journal:
        service = self._plan.service
        self._traffic.shift(service, 100)
        if journal.image != journal.previous:
            self._images.tag(journal.previous, PREVIOUS)
            self._images.tag(journal.image, CURRENT)
            self._console.say(f"{self._images.name}:{CURRENT} is the new version")
        self._console.say(f"replacing the replicas of {service} while v2 has the traffic")
        replace(self._stack, service, journal.replicas, journal.precedes, self._console)
        # Meanwhile the gateway may have missed the last change of v1's addresses.
        time.sleep(STALE_SECONDS)
        return journal.at(Phase.FINISHING)

    def _finish(self) -> None:
        self._traffic.end(self._plan.service)
        self._console.say(f"all traffic goes to {self._plan.service} again; ending v2")
        self._stack.remove(self._stack.containers(self._plan.candidate))
        self._journal_file.remove()


def _figures(window: Window) -> tuple[str, str, str]:
    return str(window.requests), str(window.errors), milliseconds(window)
