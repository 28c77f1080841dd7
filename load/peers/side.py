"""One of the compared systems: how to reach it, and which processes are part of it."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchlib import ProcessGroup
from local_platform.environment import known_variables
from local_platform.supervision.managed_process import ProcessSpec
from local_platform.supervision.probes import NotReady, Probe, http_get
from local_platform.supervision.process import Command
from local_platform.supervision.supervisor import Supervisor


class PeerFailed(Exception):
    """A peer did not respond as it should."""


@dataclass(frozen=True, slots=True)
class Work:
    """Requests of one kind to one server, to be sent in turn, and the status of their success."""

    url: str
    requests: Sequence[bytes]
    status: int


@dataclass(frozen=True, slots=True)
class Side:
    """A running system. `work` prepares one kind of work and returns its requests; `parts` are all its processes."""

    name: str
    work: Callable[[str], Awaitable[Work]]
    parts: Mapping[str, ProcessGroup]

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds of each part so far."""
        return {name: processes.cpu() for name, processes in self.parts.items()}

    def memory(self) -> float:
        """Return the memory of all parts in MiB."""
        return sum(processes.memory() for processes in self.parts.values())


def parts_of(*supervisors: Supervisor) -> dict[str, ProcessGroup]:
    """Return all processes that run under these supervisors, by service."""
    pids: defaultdict[str, list[int]] = defaultdict(list)
    for supervisor in supervisors:
        for process in supervisor.processes.values():
            if process.pid is not None:
                pids[process.spec.service].append(process.pid)
    return {service: ProcessGroup(own) for service, own in pids.items()}


async def start(
    supervisor: Supervisor,
    name: str,
    argv: list[str],
    url: str,
    folder: Path,
    *,
    environment: dict[str, str] | None = None,
    probe: Probe | None = None,
) -> None:
    """Start a server and return when it is ready; its log is `name.log`. By default `/health` tells."""
    spec = ProcessSpec(
        name=name,
        service=name,
        url=url,
        command=Command(
            argv=argv,
            directory=folder,
            log=folder / f"{name}.log",
            environment={**known_variables(), **(environment or {})},
        ),
        probe=probe or healthy(f"{url}/health"),
    )
    await supervisor.add(spec).wait_ready()


def healthy(url: str) -> Probe:
    """Return a probe that waits for a response of 2xx."""

    async def probe() -> str:
        status, _ = await http_get(url)
        if not 200 <= status < 300:
            raise NotReady(f"{url} returned {status}")
        return ""

    return probe
