"""One of the compared systems: how to reach it, and which processes are part of it."""

from collections.abc import Awaitable, Callable, Sequence
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
    """A running system. `work` prepares one kind of work and returns its requests."""

    name: str
    work: Callable[[str], Awaitable[Work]]
    processes: ProcessGroup


def processes_of(*supervisors: Supervisor) -> ProcessGroup:
    """Return all processes that run under these supervisors."""
    processes = [process for supervisor in supervisors for process in supervisor.processes.values()]
    return ProcessGroup(process.pid for process in processes if process.pid is not None)


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
        service="peer",
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
