"""Processes that the fork server starts."""

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from local_platform.errors import ProcessFailed
from local_platform.supervision.forked_process import start
from local_platform.supervision.probes import NotReady, wait_until_ready
from local_platform.supervision.process import Command, RunningProcess

pytestmark = pytest.mark.servers

MakeCommand = Callable[..., Command]
WAITS = "import signal; signal.pause()"


@pytest.fixture
def make_command(layout) -> MakeCommand:
    """Return a function that makes a command from a module's code."""

    def make(code: str, *arguments: str, **changes: Any) -> Command:
        directory = layout.work("forked")
        name = f"job_{len(list(directory.glob('job_*.py')))}"
        (directory / f"{name}.py").write_text(code)
        values = {"directory": directory, "log": layout.log("forked"), "environment": {}, "forked": True}
        return Command(**{"argv": [sys.executable, "-m", name, *arguments], **values, **changes})

    return make


async def kill(process: RunningProcess) -> None:
    process.send_signal(signal.SIGKILL)
    await process.wait()


def parent_of(process: RunningProcess) -> psutil.Process:
    parent = psutil.Process(process.pid).parent()
    assert parent is not None
    return parent


async def test_a_module_runs_as_by_python_m(make_command, layout):
    code = """
import atexit, os, sys
atexit.register(print, "exit")
print(__name__, sys.argv, os.environ["TOKEN"], "PATH" in os.environ)
raise SystemExit(3)
"""
    process = await start(make_command(code, "--port", "1", environment={"TOKEN": "a"}))
    assert await process.wait() == 3
    path = layout.work("forked") / "job_0.py"
    lines = [f"__main__ {[str(path), '--port', '1']} a False", "exit"]
    assert layout.log("forked").read_text().splitlines() == lines


async def test_an_uncaught_error_goes_to_the_log(make_command, layout):
    process = await start(make_command("1 / 0"))
    assert await process.wait() == 1
    assert "ZeroDivisionError" in layout.log("forked").read_text()


async def test_the_signal_that_killed_a_process_is_known(make_command):
    process = await start(make_command(WAITS))
    await kill(process)
    assert await process.wait() == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        process.send_signal(signal.SIGTERM)


async def test_a_process_leads_its_own_group_and_creates_private_files(make_command, layout):
    code = "import os; print(os.getpid() == os.getpgid(0) == os.getsid(0)); open('file', 'w')"
    await (await start(make_command(code))).wait()
    assert layout.log("forked").read_text() == "True\n"
    assert (layout.work("forked") / "file").stat().st_mode & 0o077 == 0


async def test_a_process_holds_no_descriptor_of_another_one(make_command, layout):
    other = await start(make_command(WAITS))
    code = """
import contextlib, os
for descriptor in range(3, 64):
    with contextlib.suppress(OSError):
        print(os.fstat(descriptor))
"""
    await (await start(make_command(code))).wait()
    assert layout.log("forked").read_text() == ""
    await kill(other)


async def test_the_server_imports_the_packages_of_services_and_starts_no_thread(make_command, layout):
    code = (
        "import sys; print({'fastapi', 'sqlalchemy', 'pymongo'} <= sys.modules.keys(), 'user_service' in sys.modules)"
    )
    await (await start(make_command(code))).wait()
    assert layout.log("forked").read_text() == "True False\n"
    process = await start(make_command(WAITS))
    assert parent_of(process).num_threads() == 1
    await kill(process)


async def test_what_cannot_be_prepared_is_an_error(make_command, layout):
    with pytest.raises(ProcessFailed, match="could not be prepared"):
        await start(make_command(WAITS, directory=layout.root / "missing"))
    assert "FileNotFoundError" in layout.log("forked").read_text()


async def test_after_the_death_of_the_server_its_processes_stop_and_another_server_starts_the_next(make_command):
    process = await start(make_command(WAITS))
    server = parent_of(process)
    server.kill()
    assert await process.wait() == -signal.SIGTERM

    async def gone() -> None:
        if psutil.pid_exists(process.pid):
            raise NotReady("it runs")

    await wait_until_ready(gone, 10)
    replacement = await start(make_command(WAITS))
    assert parent_of(replacement) != server
    await kill(replacement)


@pytest.mark.parametrize("passes", [1, 3, 5])
async def test_a_start_that_is_cancelled_leaves_no_process(make_command, layout, passes: int):
    code = "import pathlib; pathlib.Path('ran').touch()"
    starting = asyncio.create_task(start(make_command(code)))
    for _ in range(passes):
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    # The server takes requests in order.
    await (await start(make_command("pass"))).wait()
    assert not (layout.work("forked") / "ran").exists()


async def test_server_and_processes_end_with_the_launcher(make_command, layout):
    launcher = f"""
import asyncio
from pathlib import Path
from local_platform.supervision.forked_process import start
from local_platform.supervision.process import Command

async def main():
    command = Command({make_command(WAITS).argv!r}, Path({str(layout.work("forked"))!r}), Path("log"), forked=True)
    process = await start(command)
    print(process.pid, flush=True)
    await process.wait()

asyncio.run(main())
"""
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", launcher, stdout=asyncio.subprocess.PIPE, cwd=layout.root
    )
    assert running.stdout is not None
    process = psutil.Process(int(await running.stdout.readline()))
    family = [process, *process.parents()[:1]]
    running.kill()
    await running.wait()
    psutil.wait_procs(family, timeout=10)
    assert not any(member.is_running() for member in family)
