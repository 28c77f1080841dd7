"""Small processes that start quickly, for tests of the supervision itself."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from local_platform.layout import Layout
from local_platform.supervision.managed_process import ProcessSpec
from local_platform.supervision.ports import HOST, PortAllocator
from local_platform.supervision.probes import check_port_open
from local_platform.supervision.process import Command
from local_platform.supervision.supervisor import Supervisor

# Listens on the port that its first argument names, with a second process in its group, and stops on SIGTERM.
SERVER = """
import signal, socket, subprocess, sys
worker = subprocess.Popen(["sleep", "600"])
signal.signal(signal.SIGTERM, lambda *_: (worker.kill(), sys.exit(0)))
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("worker", worker.pid, flush=True)
while True:
    listener.accept()[0].close()
"""

MakeSpec = Callable[..., ProcessSpec]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.prepare(tmp_path / "data")


@pytest.fixture
def ports(layout: Layout) -> Iterator[PortAllocator]:
    with PortAllocator(layout.port_file) as ports:
        yield ports


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    supervisor.force.set()
    await supervisor.stop(supervisor.processes.values())


@pytest.fixture
def make_spec(layout: Layout, ports: PortAllocator) -> MakeSpec:
    """Return a function that makes specs of Python code, whose argument is the port; `before` runs before the code."""

    def make(name: str = "server", *, before: str = "", code: str = SERVER, **changes: object) -> ProcessSpec:
        port = ports.allocate(name)
        command = Command(
            argv=[sys.executable, "-S", "-c", before + code, str(port)],
            directory=layout.work(name),
            log=layout.log(name),
        )

        async def probe() -> str:
            await check_port_open(HOST, port)
            return ""

        values = {"name": name, "service": name, "url": f"http://{HOST}:{port}", "command": command, "probe": probe}
        return ProcessSpec(**{**values, **changes})  # type: ignore[arg-type]

    return make
