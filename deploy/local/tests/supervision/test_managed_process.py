"""A managed process: readiness, restarts, giving up, stopping."""

import os
import re
import signal
import socket
from pathlib import Path

import psutil
import pytest

from local_platform.errors import DiskFull, LibraryMissing, ProcessFailed, ServerMissing
from local_platform.supervision.managed_process import (
    GIVE_UP_AFTER,
    GIVE_UP_AFTER_EXITS,
    LONGEST_PAUSE_SECONDS,
    ManagedProcess,
    State,
    pause_before,
)
from local_platform.supervision.process import Command, group_members
from opskit.rotated_file import LIMIT_BYTES

pytestmark = pytest.mark.servers

IGNORES_TERM = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.signal = lambda *_: None\n"


async def ready_again(process: ManagedProcess, old_pid: int | None) -> None:
    while process.pid == old_pid or process.state is not State.READY:
        await process.next_change()


async def test_a_killed_process_restarts_on_its_port(supervisor, make_spec):
    process = supervisor.add(make_spec())
    await process.wait_ready()
    old = process.pid
    supervisor.kill("server")
    await ready_again(process, old)
    assert process.restarts == 1
    port = int(process.spec.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)):
        assert {connection.laddr.port for connection in psutil.Process(process.pid).net_connections()} == {port}


async def test_a_process_that_is_started_twice_runs_once(supervisor, make_spec, layout):
    process = supervisor.add(make_spec())
    await process.wait_ready()
    pid = process.pid
    process.start()
    await process.wait_ready()
    await process.stop()
    assert process.pid is None
    assert not psutil.pid_exists(pid)
    # The server prints this line once.
    assert len(re.findall("worker", layout.log("server").read_text())) == 1


async def test_the_whole_group_of_a_killed_process_is_gone_before_the_restart(supervisor, make_spec, layout):
    process = supervisor.add(make_spec())
    await process.wait_ready()
    group = process.pid
    assert len(group_members(group)) == 2
    survivors: list[int] = []
    supervisor.listen(
        lambda changed: survivors.extend(group_members(group)) if changed.state is State.STARTING else None
    )
    supervisor.kill("server")
    await ready_again(process, group)
    assert survivors == []
    assert len(re.findall("worker", layout.log("server").read_text())) == 2


def dying_first(times: int, tries: Path) -> str:
    """Return code that kills its process, except after this many times."""
    return f"""
import os, pathlib, signal
tries = pathlib.Path({str(tries)!r})
with tries.open("a") as file:
    file.write("x")
if tries.stat().st_size <= {times}:
    os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_a_process_that_dies_before_it_is_ready_is_restarted(supervisor, make_spec, tmp_path):
    process = supervisor.add(make_spec(before=dying_first(2, tmp_path / "tries")))
    await process.wait_ready()
    assert process.restarts == 2


async def test_a_process_that_never_becomes_ready_is_given_up_with_the_end_of_its_log(
    supervisor, make_spec, monkeypatch
):
    monkeypatch.setattr("local_platform.supervision.managed_process.FIRST_PAUSE_SECONDS", 0.001)
    # On a busy machine these tries may last long enough to be given up for that reason.
    monkeypatch.setattr("local_platform.supervision.managed_process.GIVE_UP_AFTER_SECONDS", 600.0)
    process = supervisor.add(make_spec(code="import sys; print('the reason'); sys.exit(7)"))
    with pytest.raises(ProcessFailed, match=r"exited with status 7\n  \| the reason\n"):
        await process.wait_ready()
    assert process.restarts == GIVE_UP_AFTER - 1


async def test_a_process_that_keeps_exiting_by_itself_is_given_up_earlier(supervisor, make_spec, monkeypatch):
    monkeypatch.setattr("local_platform.supervision.managed_process.GIVE_UP_AFTER_SECONDS", 0.0)
    process = supervisor.add(make_spec(code="import sys; sys.exit(7)"))
    with pytest.raises(ProcessFailed, match="exited with status 7"):
        await process.wait_ready()
    assert process.restarts == GIVE_UP_AFTER_EXITS - 1


async def test_an_unexpected_error_in_a_probe_ends_the_wait(supervisor, make_spec):
    async def probe() -> str:
        raise ZeroDivisionError

    process = supervisor.add(make_spec(probe=probe))
    with pytest.raises(ProcessFailed, match="ZeroDivisionError"):
        await process.wait_ready()
    await process.stop()
    assert process.pid is None


async def test_a_process_that_lives_but_never_accepts_connections_is_given_up(supervisor, make_spec):
    process = supervisor.add(make_spec(code="import time; time.sleep(600)", ready_seconds=0.2))
    with pytest.raises(ProcessFailed, match=r"not ready after 0 s: port .* does not accept connections yet"):
        await process.wait_ready()
    assert process.pid is None


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("could not write: No space left on device", DiskFull, "free some space"),
        (
            "mongod: error while loading shared libraries: libcurl.so.4: cannot open",
            LibraryMissing,
            "apt install libcurl4",
        ),
    ],
)
async def test_a_known_cause_is_reported_at_the_first_failure(supervisor, make_spec, text, error, message):
    process = supervisor.add(make_spec(code=f"import sys; print({text!r}); sys.exit(1)"))
    with pytest.raises(error, match=message):
        await process.wait_ready()
    assert process.restarts == 0


async def test_a_missing_command_is_reported_at_once(supervisor, make_spec, layout, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _name: None)
    command = Command(argv=["/nowhere/server"], directory=layout.work("x"), log=layout.log("x"))
    with pytest.raises(ServerMissing, match="/nowhere/server"):
        await supervisor.add(make_spec(command=command)).wait_ready()


async def test_causes_in_the_log_of_an_earlier_run_do_not_count(supervisor, make_spec, layout, tmp_path):
    layout.log("server").write_text("No space left on device\n")
    process = supervisor.add(make_spec(before=dying_first(1, tmp_path / "tries")))
    await process.wait_ready()
    assert process.restarts == 1


async def test_a_stopped_process_stays_stopped_until_it_is_started(supervisor, make_spec):
    process = supervisor.add(make_spec())
    await process.wait_ready()
    group = process.pid
    await process.stop()
    assert (process.state, process.pid, group_members(group)) == (State.STOPPED, None, [])
    process.start()
    await process.wait_ready()
    assert process.pid not in (None, group)


async def test_a_process_that_ignores_the_stop_signal_is_killed(supervisor, make_spec):
    process = supervisor.add(make_spec(before=IGNORES_TERM, stop_seconds=0.2))
    await process.wait_ready()
    group = process.pid
    await process.stop()
    assert group_members(group) == []


async def test_a_forced_stop_does_not_wait_for_a_graceful_one(supervisor, make_spec):
    process = supervisor.add(make_spec(before=IGNORES_TERM, stop_seconds=600))
    await process.wait_ready()
    supervisor.force.set()
    await process.stop()
    assert process.state is State.STOPPED


async def test_a_process_can_be_stopped_while_it_waits_for_its_restart(supervisor, make_spec, monkeypatch):
    monkeypatch.setattr("local_platform.supervision.managed_process.FIRST_PAUSE_SECONDS", 600)
    monkeypatch.setattr("local_platform.supervision.managed_process.LONGEST_PAUSE_SECONDS", 600)
    process = supervisor.add(make_spec())
    await process.wait_ready()
    supervisor.kill("server")
    while process.state is not State.RESTARTING:
        await process.next_change()
    await process.stop()
    assert process.state is State.STOPPED


def test_the_pause_between_restarts_grows_up_to_a_limit():
    pauses = [pause_before(failures) for failures in range(1, 20)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.5
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


async def test_a_process_does_not_receive_the_terminals_interrupt(supervisor, make_spec):
    process = supervisor.add(make_spec())
    await process.wait_ready()
    assert os.getpgid(process.pid) == process.pid != os.getpgrp()
    assert os.getsid(process.pid) == process.pid


async def test_a_large_log_is_put_aside_at_the_next_start(supervisor, make_spec, layout):
    layout.log("server").write_text("much")
    os.truncate(layout.log("server"), LIMIT_BYTES)
    process = supervisor.add(make_spec())
    await process.wait_ready()
    assert layout.log("server").with_name("server.log.1").read_text().startswith("much")
    assert "much" not in layout.log("server").read_text()


async def test_a_process_that_was_asked_to_end_is_restarted_and_not_given_up(supervisor, make_spec):
    process = supervisor.add(make_spec())
    await process.wait_ready()
    old = process.pid
    supervisor.kill("server", signal.SIGTERM)
    await ready_again(process, old)
    assert process.failure is None
