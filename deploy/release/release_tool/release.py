"""Releases of a service: which step comes next, when a release must stop, and how it is undone.

The new version, v2, starts beside v1 and gets traffic in steps. When it stands the test, v1's replicas are replaced.
An `Orchestrator` carries the steps out.
"""

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from release_tool.canary import RequestStats, failed_replica, read_stats, regression
from release_tool.console import Console
from release_tool.errors import Interrupted, NotHealthy, Refused, ReleaseFailed, StepFailed, ToolError
from release_tool.journal import Journal, JournalStore, Phase, created_before
from release_tool.orchestrator import CURRENT, PREVIOUS, Commands, Container, Orchestrator, canary_of

WATCH_SECONDS = 2.0
# At full share v1 gets no requests, so v2 is compared with this long a time before the release.
BASELINE_SECONDS = 120.0
# A request is logged when it ends, and the line takes a moment to appear.
LOG_SECONDS = 0.3

HEADER = ("share", "v1 requests", "errors", "p95 ms", "v2 requests", "errors", "p95 ms")


@dataclass(frozen=True, slots=True)
class Plan:
    """The service to release, the shares of traffic in ascending per cent, and how long each of them is watched.

    Without steps v2 gets all traffic at once.
    """

    service: str
    steps: Sequence[int] = (5, 25, 50, 100)
    step_seconds: float = 10.0


class Start(Enum):
    """How to start when a release is requested."""

    NEW = auto()
    RESUME = auto()
    UNDO_FIRST = auto()


def how_to_start(image: str, journal: Journal | None, *, canary_exists: bool) -> Start:
    """Decide by what an earlier run left."""
    if journal is None:
        return Start.UNDO_FIRST if canary_exists else Start.NEW
    return Start.RESUME if journal.image == image else Start.UNDO_FIRST


class Releases:
    """Releases, rollbacks and restarts on one platform. Hold the deployment's lock meanwhile."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        journals: JournalStore,
        services: Collection[str],
        console: Console,
        *,
        for_operators: Collection[str] = (),
    ) -> None:
        """Take the services that can be released, and those for operators, which can only be restarted."""
        self._orchestrator = orchestrator
        self._commands = orchestrator.commands
        self._journals = journals
        self._services = services
        self._for_operators = for_operators
        self._console = console

    def release(self, plan: Plan, tag: str | None) -> None:
        """Bring a new version into service. A failure is undone and raises `ReleaseFailed`."""
        self._refuse_for_operators(plan.service)
        run = self._run(plan)
        journal = self._unfinished(plan.service)
        if journal is None or journal.phase in (Phase.STARTING, Phase.SHIFTING):
            run.wait_for_v1()
        tag, image = self._orchestrator.prepare_image(plan.service, tag)
        start = how_to_start(image, journal, canary_exists=run.canary_exists())
        if start is Start.UNDO_FIRST:
            self._console.say("a release of another image is unfinished; undoing it first")
            run.undo(journal)
        if journal is not None and start is Start.RESUME:
            self._console.say(f"resuming the release of {plan.service}:{journal.tag}; it was {journal.phase}")
        else:
            journal = run.begin(tag, image)
        run.finish(journal)
        self._console.say(
            f"released {plan.service}:{journal.tag}; to go back to the version before: "
            f"{self._commands.release} SERVICE={plan.service} TAG={PREVIOUS}"
        )

    def rollback(self, service: str) -> None:
        """Undo an unfinished release."""
        self._refuse_for_operators(service)
        run = self._run(Plan(service))
        journal = self._unfinished(service)
        if journal is None and not run.canary_exists():
            raise Refused(
                f"no release of {service} is unfinished; to go back to the version before the last release: "
                f"{self._commands.release} SERVICE={service} TAG={PREVIOUS}"
            )
        run.undo(journal)

    def restart(self, services: Sequence[str]) -> None:
        """Replace every replica of these services, or of all.

        Where replicas do not drain, an address that left the DNS is still used for a moment, and a request that must
        not be repeated would fail then. There a restart is a release of the image in service: v2 has the traffic while
        v1's replicas are replaced.
        """
        # Nothing is watched, because the code is known.
        running = [name for name in self._for_operators if self._orchestrator.replicas(name)]
        runs = {service: self._run(Plan(service, steps=())) for service in services or (*self._services, *running)}
        unfinished = self._journals.read()
        # An unfinished restart goes on first, because there is only one journal.
        for service in sorted(runs, key=lambda name: unfinished is None or unfinished.service != name):
            self._restart(service, runs[service])
        self._console.say("every replica was replaced")

    def _restart(self, service: str, run: "ServiceRelease") -> None:
        journal = self._unfinished(service)
        if journal is not None and journal.tag != CURRENT:
            raise Refused(
                f"the release of {service} is unfinished ({journal.phase}); {journal.ways_on(self._commands)}, "
                "then restart"
            )
        if journal is None:
            if run.canary_exists():
                run.undo(None)
            replicas = self._orchestrator.replicas(service)
            if service in self._for_operators and not replicas:
                raise Refused(f"{service} does not run; {service.upper()}=on starts it with {self._commands.up}")
            if not all(replica.healthy for replica in replicas):
                self._console.say(f"{service}: replacing what is not healthy")
                self._orchestrator.replace(service, len(replicas), lambda _replica: False)
            if self._orchestrator.drains or service in self._for_operators:
                self._console.say(f"{service}: replacing {len(replicas)} replicas")
                self._orchestrator.replace(service, len(replicas), created_before(time.time()))
                return
            journal = run.begin(CURRENT, self._orchestrator.image_in_service(service))
        self._console.say(f"{service}: replacing {journal.replicas} replicas")
        run.finish(journal)

    def _run(self, plan: Plan) -> "ServiceRelease":
        if plan.service not in (*self._services, *self._for_operators):
            raise Refused(f"there is no service {plan.service!r}; the services are {', '.join(self._services)}")
        return ServiceRelease(self._orchestrator, self._journals, self._console, plan)

    def _refuse_for_operators(self, service: str) -> None:
        if service in self._for_operators:
            raise Refused(
                f"{service} is one process without a canary, so it has no releases; "
                f"{self._commands.up} brings its new version, {self._commands.restart} SERVICE={service} replaces it"
            )

    def _unfinished(self, service: str) -> Journal | None:
        """Return the service's unfinished release. Raises `Refused` for one of another service: one at a time."""
        journal = self._journals.read()
        refuse_others(service, journal, self._orchestrator.weights(), self._commands)
        return journal


def refuse_others(service: str, journal: Journal | None, weights: Mapping[str, int], commands: Commands) -> None:
    """Raise `Refused` when a release of another service is unfinished."""
    others = {*weights, *([journal.service] if journal else [])} - {service}
    if not others:
        return
    other = min(others)
    if journal is not None and journal.service == other:
        raise Refused(f"the release of {other} is unfinished ({journal.phase}); {journal.ways_on(commands)}")
    raise Refused(f"a release of {other} is unfinished; first undo it ({commands.rollback} SERVICE={other})")


class ServiceRelease:
    """The release of one service. Each phase can be repeated after an interruption."""

    def __init__(self, orchestrator: Orchestrator, journals: JournalStore, console: Console, plan: Plan) -> None:
        self._orchestrator = orchestrator
        self._commands = orchestrator.commands
        self._journals = journals
        self._console = console
        self._plan = plan
        self._service = plan.service
        self._canary = canary_of(plan.service)
        self._rows: list[tuple[str, ...]] = []

    def canary_exists(self) -> bool:
        """Whether the gateway knows a canary, or a replica of it exists."""
        return self._service in self._orchestrator.weights() or bool(self._orchestrator.replicas(self._canary))

    def wait_for_v1(self) -> list[Container]:
        """Return v1's replicas once all are healthy. Raises `Refused` when one is not."""
        if not self._orchestrator.replicas(self._service):
            raise Refused(f"{self._service} does not run; start the platform with: {self._commands.up}")
        try:
            return self._orchestrator.wait_healthy(self._service)
        except NotHealthy as error:
            raise Refused(
                f"{self._service} has to be healthy before a release ({self._commands.up} repairs it), but {error}"
            ) from error

    def begin(self, tag: str, image: str) -> Journal:
        """Write and return the journal of a new release. Raises `Refused` when v1 is not healthy."""
        replicas = self.wait_for_v1()
        journal = Journal(
            self._service, tag, image, previous=replicas[0].image, replicas=len(replicas), began=time.time()
        )
        self._journals.write(journal)
        return journal

    def finish(self, journal: Journal) -> None:
        """Go on from the journal's phase to the end. A failure is undone and raises `ReleaseFailed`."""
        try:
            self._run_phases(journal)
        except ToolError as error:
            self._handle_failure(error, self._journals.read() or journal)
        except Interrupted:
            reached = self._journals.read() or journal
            self._console.line(
                f"interrupted while {reached.phase}; traffic stays as it is. "
                f"To go on: {reached.command(self._commands)}; "
                f"to undo: {self._commands.rollback} SERVICE={self._service}"
            )
            raise

    def undo(self, journal: Journal | None) -> None:
        """Bring the version from before back, and end v2. Without a journal, only end v2. Can be repeated."""
        if journal is not None and journal.phase in (Phase.REPLACING, Phase.FINISHING):
            self._put_back(journal)
        self._orchestrator.end_shift(self._service)
        self._console.say(f"all traffic goes to {self._service} as it was before")
        self._orchestrator.remove_canary(self._service)
        self._journals.remove()
        self._console.say(f"{self._canary} is gone")

    def _run_phases(self, journal: Journal) -> None:
        phases: Mapping[Phase, Callable[[Journal], Journal]] = {
            Phase.STARTING: self._start,
            Phase.SHIFTING: self._shift,
            Phase.REPLACING: self._replace,
        }
        while journal.phase is not Phase.FINISHING:
            journal = phases[journal.phase](journal)
            self._journals.write(journal)
        self._orchestrator.end_shift(self._service)
        self._console.say(f"all traffic goes to {self._service} again; ending v2")
        self._orchestrator.remove_canary(self._service)
        self._journals.remove()
        if self._rows:
            self._console.table(HEADER, self._rows)

    def _start(self, journal: Journal) -> Journal:
        # The image in service has migrated the database.
        if journal.changes_image:
            self._console.say(f"{self._canary}: migrating the database")
            self._orchestrator.migrate(self._service, journal.image)
        self._orchestrator.start_canary(self._service, journal.image, journal.replicas)
        replicas = self._orchestrator.wait_healthy(self._canary)
        self._console.say(f"{self._canary}: {len(replicas)} healthy")
        self._orchestrator.shift(self._service, 0)
        self._orchestrator.check_canary(self._service)
        self._console.say("the gateway reaches every replica of v2, which has no traffic yet")
        if self._plan.steps:
            address = self._orchestrator.address()
            self._console.say(f"  to check it by hand: curl -H 'X-Release: v2' {address}/api/v1/…")
        return journal.at(Phase.SHIFTING)

    def _shift(self, journal: Journal) -> Journal:
        expected = {replica.id for replica in self._orchestrator.wait_healthy(self._canary)}
        reached = self._orchestrator.weights().get(self._service, 0)
        log = self._orchestrator.access_log(journal.began - BASELINE_SECONDS, journal.began)
        baseline = read_stats(log, self._service)["v1"]
        # The share at which an earlier run was interrupted is watched again, from its beginning.
        for weight in [step for step in self._plan.steps if step >= reached or step == 100]:
            self._orchestrator.shift(self._service, weight)
            since = time.time()
            self._console.say(f"{weight} % of the traffic goes to v2; watching for {self._plan.step_seconds:g} s")
            self._watch(weight, since, expected, baseline)
        # The operator may have scaled the service meanwhile.
        return dataclasses.replace(
            journal, phase=Phase.REPLACING, replicas=len(self._orchestrator.replicas(self._service))
        )

    def _watch(self, weight: int, since: float, expected: Collection[str], baseline: RequestStats) -> None:
        end = since + self._plan.step_seconds
        while (left := end - time.time()) > 0:
            time.sleep(min(WATCH_SECONDS, left))
            self._examine(weight, since, expected, baseline, final=False)
        time.sleep(LOG_SECONDS)
        # A health check takes half a minute to fail, and requests may not reach the route that is broken.
        self._orchestrator.check_canary(self._service)
        stable, canary = self._examine(weight, since, expected, baseline, final=True)
        row = (f"{weight} %", *_figures(stable), *_figures(canary))
        self._rows.append(row)
        self._console.say(
            f"{row[0]}: v1 {row[1]} requests, {row[2]} errors, p95 {row[3]} ms; "
            f"v2 {row[4]} requests, {row[5]} errors, p95 {row[6]} ms"
        )

    def _examine(
        self, weight: int, since: float, expected: Collection[str], baseline: RequestStats, *, final: bool
    ) -> tuple[RequestStats, RequestStats]:
        """Return the statistics of v1 and v2 in this step. Raises `StepFailed` when the release must not go on."""
        if failure := failed_replica(self._orchestrator.replicas(self._canary), expected):
            raise StepFailed(failure)
        stats = read_stats(self._orchestrator.access_log(since), self._service)
        stable, canary = stats["v1"], stats["v2"]
        # At full share v1 only finishes earlier requests, which says nothing.
        shared = weight < 100
        if reason := regression(canary, stable if shared else baseline, final=final, same_time=shared):
            raise StepFailed(f"at {weight} %: {reason}")
        return stable, canary

    def _replace(self, journal: Journal) -> Journal:
        self._orchestrator.shift(self._service, 100)
        if journal.changes_image:
            self._orchestrator.put_in_service(self._service, journal.image, former=journal.previous)
            self._console.say(f"{self._service}:{journal.tag} is the version in service now")
        self._console.say(f"replacing the replicas of {self._service} while v2 has the traffic")
        self._orchestrator.replace(self._service, journal.replicas, journal.is_outdated)
        return journal.at(Phase.FINISHING)

    def _put_back(self, journal: Journal) -> None:
        canaries = self._orchestrator.replicas(self._canary)
        if not canaries or not all(replica.healthy for replica in canaries):
            # The replicas of v1, old or new, serve better than a v2 that is not healthy.
            self._orchestrator.end_shift(self._service)
        self._orchestrator.put_in_service(self._service, journal.previous)
        self._console.say(f"the former version of {self._service} is in service again; putting its replicas back")
        self._orchestrator.replace(self._service, journal.replicas, journal.is_new)

    def _handle_failure(self, error: ToolError, journal: Journal) -> None:
        if journal.phase is Phase.FINISHING:
            raise ReleaseFailed(
                f"the new replicas are in service, but v2 did not end; run the same command again: {error}"
            ) from error
        self._console.say(f"stopping: {error}")
        try:
            self.undo(journal)
        except ToolError as second:
            raise ReleaseFailed(
                f"stopped ({error.summary}), and could not be undone: {second}\n"
                f"run: {self._commands.rollback} SERVICE={self._service}"
            ) from second
        raise ReleaseFailed(f"{self._service} is as it was before; stopped, because {error.summary}") from error


def _figures(stats: RequestStats) -> tuple[str, str, str]:
    return str(stats.requests), str(stats.errors), stats.p95_ms


def end_abandoned(orchestrator: Orchestrator, console: Console) -> None:
    """End releases whose canary ended with the platform: what runs now was started just before.

    Raises `Refused` for a release whose canary still runs.
    """
    for service in orchestrator.weights():
        if orchestrator.replicas(canary_of(service)):
            undo = f"{orchestrator.commands.rollback} SERVICE={service}"
            raise Refused(f"a release of {service} is unfinished; undo it: {undo}")
        orchestrator.end_shift(service)
        console.say(f"the unfinished release of {service} ended when the platform stopped")
