"""A process that is started, probed until it is ready, restarted when it dies, and stopped on request."""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from local_platform.errors import LaunchError, ProcessFailed
from local_platform.supervision.diagnosis import explain, explain_os_error, last_lines
from local_platform.supervision.forked_process import start
from local_platform.supervision.probes import NotReady, Probe, wait_until_ready
from local_platform.supervision.process import Command, RunningProcess, kill_group, signal_process

# A process that dies this often without ever having been ready is given up.
GIVE_UP_AFTER = 6
GIVE_UP_AFTER_EXITS = 3
GIVE_UP_AFTER_SECONDS = 3.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
# A process that was ready for this long restarts after the shortest pause again.
STABLE_SECONDS = 10.0
FORCED_STOP_SECONDS = 1.0


class State(StrEnum):
    WAITING = "waiting"
    PREPARING = "preparing"
    STARTING = "starting"
    READY = "ready"
    DONE = "done"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """Everything about one process; `url` carries no password."""

    name: str
    service: str
    url: str
    command: Command
    probe: Probe
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15.0
    ready_seconds: float = 60.0
    # Runs before each start and cleans up after an earlier one.
    before_start: Callable[[], object] = lambda: None


def pause_before(failures: int) -> float:
    """Return the seconds to wait after this many deaths in a row."""
    return float(min(FIRST_PAUSE_SECONDS * 2 ** (failures - 1), LONGEST_PAUSE_SECONDS))


class ManagedProcess:
    """Keeps one process running. `on_change` is called after each change of state or process."""

    def __init__(self, spec: ProcessSpec, on_change: Callable[["ManagedProcess"], None], force: asyncio.Event) -> None:
        self.spec = spec
        self.state = State.WAITING
        self.detail = ""
        self.restarts = 0
        self.failure: LaunchError | None = None
        self.process: RunningProcess | None = None
        self._on_change = on_change
        self._force = force
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._was_ready = False
        self._ready_since: float | None = None
        self._log_start = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def pid(self) -> int | None:
        """The id of the running process; None while none runs."""
        return self.process.pid if self.process is not None else None

    def start(self) -> None:
        """Keep the process running from now on. Does nothing when it runs already."""
        if self._task is not None and not self._task.done():
            return
        self._stop.clear()
        self.failure = None
        self._was_ready = False
        self._set(State.STARTING)
        self._task = asyncio.create_task(self._supervise(), name=f"process {self.name}")
        self._task.add_done_callback(self._note_end)

    async def wait_ready(self) -> None:
        """Return once the process is ready, after restarts if need be. Raises LaunchError when it is given up."""
        while self.state is not State.READY:
            if self.failure is not None:
                raise self.failure
            if self.state is State.STOPPED:
                raise ProcessFailed(f"{self.name} was stopped")
            await self.next_change()

    async def next_change(self) -> None:
        """Return after the next change of state."""
        await self._changed.wait()

    async def stop(self) -> None:
        """Stop the process, gracefully first and then by force, and do not restart it."""
        self._stop.set()
        if self._task is not None:
            await asyncio.wait({self._task})
            self._task = None
        self._set(State.STOPPED)

    def _note_end(self, task: "asyncio.Task[None]") -> None:
        """Turn an unexpected exception into a failure; otherwise `wait_ready` would never return."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failure = ProcessFailed(f"{self.name}: {error!r}")
            self._set(State.FAILED, repr(error))

    async def _supervise(self) -> None:
        failures, began = 0, asyncio.get_running_loop().time()
        while not self._stop.is_set():
            try:
                end = await self._run_once()
            except LaunchError as error:
                end = _End(str(error), fatal=error)
            except OSError as error:
                end = _End(str(error), fatal=explain_os_error(error, self.spec.command.log.parent.parent))
            if self._stop.is_set():
                return
            failures = 1 if self._was_stable() else failures + 1
            self._ready_since = None
            if not self._was_ready:
                self.failure = self._give_up(end, failures, asyncio.get_running_loop().time() - began)
                if self.failure is not None:
                    self._set(State.FAILED, end.reason)
                    return
            self.restarts += 1
            self._set(State.RESTARTING, end.reason)
            await self._pause(pause_before(failures))

    async def _run_once(self) -> "_End":
        """Run the process from its start to its end."""
        self.spec.before_start()
        log = self.spec.command.log
        self._log_start = log.stat().st_size if log.exists() else 0
        process = await start(self.spec.command)
        self.process = process
        self._set(State.STARTING)
        exited = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(self._stop.wait())
        probing = asyncio.create_task(wait_until_ready(self.spec.probe, self.spec.ready_seconds))
        never_ready = None
        try:
            await asyncio.wait({exited, stopping, probing}, return_when=asyncio.FIRST_COMPLETED)
            if probing.done() and not exited.done():
                never_ready = self._note_readiness(probing)
                if never_ready is None:
                    await asyncio.wait({exited, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done():
                await self._terminate(process, exited)
        finally:
            probing.cancel()
            stopping.cancel()
            await asyncio.gather(probing, stopping, return_exceptions=True)
            await kill_group(process.pid)
            self.process = None
        return never_ready or _end_of(await exited)

    def _note_readiness(self, probing: "asyncio.Task[str]") -> "_End | None":
        """Take over the probe's result; return the reason if the process did not become ready."""
        try:
            remark = probing.result()
        except NotReady as error:
            return _End(str(error), fatal=self._failed(str(error)))
        except LaunchError as error:
            return _End(str(error), fatal=error)
        self._was_ready = True
        self._ready_since = asyncio.get_running_loop().time()
        self._set(State.READY, remark)
        return None

    async def _terminate(self, process: RunningProcess, exited: "asyncio.Task[int]") -> None:
        """Ask the process to stop; kill it after `stop_seconds`, or soon after the stop is forced."""
        self._set(State.STOPPING if self._stop.is_set() else State.RESTARTING)
        signal_process(process, self.spec.stop_signal)
        forcing = asyncio.create_task(self._force.wait())
        await asyncio.wait({exited, forcing}, timeout=self.spec.stop_seconds, return_when=asyncio.FIRST_COMPLETED)
        if forcing.done():
            await asyncio.wait({exited}, timeout=FORCED_STOP_SECONDS)
        forcing.cancel()
        if not exited.done():
            await kill_group(process.pid)
            await exited

    async def _pause(self, seconds: float) -> None:
        """Wait before the next start, or until the process is told to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            pass

    def _was_stable(self) -> bool:
        return self._ready_since is not None and asyncio.get_running_loop().time() - self._ready_since >= STABLE_SECONDS

    def _give_up(self, end: "_End", failures: int, seconds: float) -> LaunchError | None:
        """Return the error to give up with, None to try again."""
        known = end.fatal or explain(self.name, self.spec.command.log, self._log_start)
        if known is not None:
            return known
        # Killed processes get more tries than those that exit by themselves, whose reason is most likely their own.
        keeps_exiting = end.by_itself and failures >= GIVE_UP_AFTER_EXITS and seconds >= GIVE_UP_AFTER_SECONDS
        return self._failed(end.reason) if keeps_exiting or failures >= GIVE_UP_AFTER else None

    def _failed(self, reason: str) -> ProcessFailed:
        log = self.spec.command.log
        return ProcessFailed(
            f"{self.name} does not start: {reason}\n{last_lines(log, self._log_start)}\nIts log: {log}"
        )

    def _set(self, state: State, detail: str = "") -> None:
        self.state = state
        self.detail = detail
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._on_change(self)


@dataclass(frozen=True, slots=True)
class _End:
    """Why a process ended. `fatal` is an error that another try cannot cure."""

    reason: str
    by_itself: bool = False
    fatal: LaunchError | None = None


def _end_of(code: int) -> _End:
    if code < 0:
        return _End(f"killed by {signal.Signals(-code).name}")
    return _End(f"exited with status {code}", by_itself=True)
