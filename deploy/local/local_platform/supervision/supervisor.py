"""All children of one launcher, by name, and who wants to hear about them."""

import asyncio
import signal
from collections.abc import Callable, Iterable

from local_platform.supervision.managed_process import Child, ChildSpec
from local_platform.supervision.process import signal_process

Listener = Callable[[Child], None]


class Supervisor:
    """Starts and stops children. Listeners are told of each change of any; setting `hurry` shortens every stop."""

    def __init__(self, hurry: asyncio.Event | None = None) -> None:
        self.children: dict[str, Child] = {}
        self.hurry = hurry or asyncio.Event()
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def add(self, spec: ChildSpec) -> Child:
        """Start a child; wait for it with its `wait_ready`."""
        child = Child(spec, self._tell, self.hurry)
        self.children[spec.name] = child
        child.start()
        return child

    def of_service(self, *services: str) -> list[Child]:
        return [child for child in self.children.values() if child.spec.service in services]

    async def stop(self, children: Iterable[Child]) -> None:
        """Stop these children at once, and return when all are gone."""
        await asyncio.gather(*(child.stop() for child in children))

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one child's process, as a fault would; it is restarted."""
        process = self.children[name].process
        if process is not None:
            signal_process(process, number)

    def _tell(self, child: Child) -> None:
        for listener in self._listeners:
            listener(child)
