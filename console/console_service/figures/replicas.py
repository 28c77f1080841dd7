"""The replicas that send telemetry, their processes, and what each last reported."""

from collections.abc import Callable, Iterator
from typing import Final

from console_service.figures.rules import DOWN_SECONDS, FORGOTTEN_SECONDS, State, is_restart, state_of
from console_service.memory.records import Origin
from console_service.otlp.records import Source

MAX_REPLICAS: Final = 500
MAX_PROCESSES: Final = 64
# The console hears of all processes of a running platform within this time.
SETTLED_SECONDS: Final = 10.0

Key = tuple[str, ...]


class Process:
    """A worker, and the last values of its metrics."""

    __slots__ = ("counters", "counts_from_zero", "gauges", "seen")

    def __init__(self, seen: float, *, counts_from_zero: bool) -> None:
        self.seen = seen
        # Whether all that a new series has counted happened while the console ran.
        self.counts_from_zero = counts_from_zero
        self.gauges: dict[Key, float] = {}
        self.counters: dict[Key, tuple[float, ...]] = {}


class Replica:
    """One replica of a service."""

    __slots__ = ("first_seen", "origin", "processes", "restarts", "seen", "since", "started_at", "version")

    def __init__(self, origin: Origin, now: float) -> None:
        self.origin = origin
        self.first_seen = self.seen = self.since = now
        self.started_at: float | None = None
        self.restarts = 0
        self.version = ""
        self.processes: dict[str, Process] = {}

    def state(self, now: float) -> State:
        return state_of(now - self.seen)

    def hear(self, now: float) -> None:
        """Note that the replica lives."""
        if self.state(now) == "down":
            self.since = now
        self.seen = now

    def report_start(self, started_at: float) -> None:
        """Take the start that the replica reports, and count a restart if it is a later one."""
        if self.started_at is not None and not is_restart(self.started_at, started_at):
            return
        if self.started_at is not None:
            self.restarts += 1
            # What its former processes reported is true of none of the new ones.
            self.processes = {}
        self.started_at = started_at
        self.since = started_at

    def living(self, now: float) -> list[Process]:
        """Return the processes that were heard of lately."""
        return [each for each in self.processes.values() if now - each.seen < DOWN_SECONDS]


class Replicas:
    """All replicas, by name."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._started = now()
        self._replicas: dict[tuple[str, str], Replica] = {}

    def __iter__(self) -> Iterator[Replica]:
        """Yield the replicas that are not forgotten, by service and name."""
        self._forget(self._now())
        return iter(sorted(self._replicas.values(), key=lambda each: each.origin))

    def hear(self, source: Source) -> Replica | None:
        """Return the sender's replica, and note that it lives. None if there are too many."""
        now = self._now()
        key = (source.service, source.replica)
        replica = self._replicas.get(key)
        if replica is None:
            self._forget(now)
            if len(self._replicas) >= MAX_REPLICAS:
                return None
            replica = self._replicas[key] = Replica(Origin(source.service, source.replica), now)
        replica.hear(now)
        if source.version:
            replica.version = source.version
        return replica

    def process(self, replica: Replica, pid: str, started_at: float | None) -> Process | None:
        """Return a process of a replica, and note that it lives. None if there are too many."""
        now = self._now()
        process = replica.processes.get(pid)
        if process is None:
            replica.processes = {pid: each for pid, each in replica.processes.items() if now - each.seen < 60}
            if len(replica.processes) >= MAX_PROCESSES:
                return None
            is_new = now - replica.first_seen > SETTLED_SECONDS or (started_at or 0) >= self._started
            process = replica.processes[pid] = Process(now, counts_from_zero=is_new)
        process.seen = now
        return process

    def _forget(self, now: float) -> None:
        gone = [key for key, each in self._replicas.items() if now - each.seen >= DOWN_SECONDS + FORGOTTEN_SECONDS]
        for key in gone:
            del self._replicas[key]
