"""All processes of one launcher, by name, and the listeners that follow their changes."""

import asyncio
import signal
from collections.abc import Callable, Iterable

from local_platform.supervision.managed_process import ManagedProcess, ProcessSpec
from local_platform.supervision.process import signal_process

Listener = Callable[[ManagedProcess], None]


class Supervisor:
    """Starts and stops processes. Listeners hear of each change; setting `force` cuts every stop short."""

    def __init__(self, force: asyncio.Event | None = None) -> None:
        self.processes: dict[str, ManagedProcess] = {}
        self.force = force or asyncio.Event()
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def add(self, spec: ProcessSpec) -> ManagedProcess:
        """Start a process; its `wait_ready` waits until it serves."""
        process = ManagedProcess(spec, self._notify, self.force)
        self.processes[spec.name] = process
        process.start()
        return process

    def of_service(self, *services: str) -> list[ManagedProcess]:
        return [process for process in self.processes.values() if process.spec.service in services]

    async def stop(self, processes: Iterable[ManagedProcess]) -> None:
        """Stop these processes concurrently, and return when all have ended."""
        await asyncio.gather(*(process.stop() for process in processes))

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one process; a process that it ends is restarted."""
        running = self.processes[name].process
        if running is not None:
            signal_process(running, number)

    def _notify(self, process: ManagedProcess) -> None:
        for listener in self._listeners:
            listener(process)
