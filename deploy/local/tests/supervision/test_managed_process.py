"""A supervised child: readiness, restarts, giving up, stopping."""

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

DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.signal = lambda *_: None\n"


async def ready_again(child: ManagedProcess, old_pid: int | None) -> None:
    while child.pid == old_pid or child.state is not State.READY:
        await child.next_change()


async def test_a_killed_child_comes_back_on_its_port(supervisor, make_spec):
    child = supervisor.add(make_spec())
    await child.wait_ready()
    old = child.pid
    supervisor.kill("server")
    await ready_again(child, old)
    assert child.restarts == 1
    port = int(child.spec.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)):
        assert {connection.laddr.port for connection in psutil.Process(child.pid).net_connections()} == {port}


async def test_a_child_that_is_started_twice_runs_once(supervisor, make_spec, layout):
    child = supervisor.add(make_spec())
    await child.wait_ready()
    pid = child.pid
    child.start()
    await child.wait_ready()
    await child.stop()
    assert child.pid is None
    assert not psutil.pid_exists(pid)
    # Its code writes this once in each life.
    assert len(re.findall("worker", layout.log("server").read_text())) == 1


async def test_what_a_killed_child_had_started_is_gone_before_it_starts_again(supervisor, make_spec, layout):
    child = supervisor.add(make_spec())
    await child.wait_ready()
    group = child.pid
    assert len(group_members(group)) == 2
    survivors: list[int] = []
    supervisor.listen(
        lambda changed: survivors.extend(group_members(group)) if changed.state is State.STARTING else None
    )
    supervisor.kill("server")
    await ready_again(child, group)
    assert survivors == []
    assert len(re.findall("worker", layout.log("server").read_text())) == 2


def dying_first(times: int, tries: Path) -> str:
    """Return code that kills its process this many times before it lets it go on."""
    return f"""
import os, pathlib, signal
tries = pathlib.Path({str(tries)!r})
with tries.open("a") as file:
    file.write("x")
if tries.stat().st_size <= {times}:
    os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_a_child_that_dies_before_it_was_ready_gets_further_tries(supervisor, make_spec, tmp_path):
    child = supervisor.add(make_spec(before=dying_first(2, tmp_path / "tries")))
    await child.wait_ready()
    assert child.restarts == 2


async def test_a_child_that_never_becomes_ready_is_given_up_with_the_end_of_its_log(supervisor, make_spec, monkeypatch):
    monkeypatch.setattr("local_platform.supervision.managed_process.FIRST_PAUSE_SECONDS", 0.001)
    # On a busy machine so many tries may last for long, which is a reason of its own.
    monkeypatch.setattr("local_platform.supervision.managed_process.GIVE_UP_AFTER_SECONDS", 600.0)
    child = supervisor.add(make_spec(code="import sys; print('the reason'); sys.exit(7)"))
    with pytest.raises(ProcessFailed, match=r"exited with status 7\n  \| the reason\n"):
        await child.wait_ready()
    assert child.restarts == GIVE_UP_AFTER - 1


async def test_a_child_that_ends_by_itself_for_long_is_given_up_earlier(supervisor, make_spec, monkeypatch):
    monkeypatch.setattr("local_platform.supervision.managed_process.GIVE_UP_AFTER_SECONDS", 0.0)
    child = supervisor.add(make_spec(code="import sys; sys.exit(7)"))
    with pytest.raises(ProcessFailed, match="exited with status 7"):
        await child.wait_ready()
    assert child.restarts == GIVE_UP_AFTER_EXITS - 1


async def test_a_mistake_in_a_probe_leaves_nobody_waiting(supervisor, make_spec):
    async def probe() -> str:
        raise ZeroDivisionError

    child = supervisor.add(make_spec(probe=probe))
    with pytest.raises(ProcessFailed, match="ZeroDivisionError"):
        await child.wait_ready()
    await child.stop()
    assert child.pid is None


async def test_a_child_that_lives_but_never_answers_is_given_up(supervisor, make_spec):
    child = supervisor.add(make_spec(code="import time; time.sleep(600)", ready_seconds=0.2))
    with pytest.raises(ProcessFailed, match=r"not ready after 0 s: port .* does not accept connections yet"):
        await child.wait_ready()
    assert child.pid is None


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
async def test_a_known_reason_is_told_at_the_first_failure(supervisor, make_spec, text, error, message):
    child = supervisor.add(make_spec(code=f"import sys; print({text!r}); sys.exit(1)"))
    with pytest.raises(error, match=message):
        await child.wait_ready()
    assert child.restarts == 0


async def test_a_command_that_does_not_exist_is_told_at_once(supervisor, make_spec, layout, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _name: None)
    command = Command(argv=["/nowhere/server"], directory=layout.work("x"), log=layout.log("x"))
    with pytest.raises(ServerMissing, match="/nowhere/server"):
        await supervisor.add(make_spec(command=command)).wait_ready()


async def test_reasons_in_the_log_of_an_earlier_life_do_not_count(supervisor, make_spec, layout, tmp_path):
    layout.log("server").write_text("No space left on device\n")
    child = supervisor.add(make_spec(before=dying_first(1, tmp_path / "tries")))
    await child.wait_ready()
    assert child.restarts == 1


async def test_a_stopped_child_stays_stopped_until_it_is_started(supervisor, make_spec):
    child = supervisor.add(make_spec())
    await child.wait_ready()
    group = child.pid
    await child.stop()
    assert (child.state, child.pid, group_members(group)) == (State.STOPPED, None, [])
    child.start()
    await child.wait_ready()
    assert child.pid not in (None, group)


async def test_a_child_that_ignores_the_stop_signal_is_killed(supervisor, make_spec):
    child = supervisor.add(make_spec(before=DEAF, stop_seconds=0.2))
    await child.wait_ready()
    group = child.pid
    await child.stop()
    assert group_members(group) == []


async def test_hurry_cuts_a_graceful_stop_short(supervisor, make_spec):
    child = supervisor.add(make_spec(before=DEAF, stop_seconds=600))
    await child.wait_ready()
    supervisor.force.set()
    await child.stop()
    assert child.state is State.STOPPED


async def test_a_child_can_be_stopped_between_two_lives(supervisor, make_spec, monkeypatch):
    monkeypatch.setattr("local_platform.supervision.managed_process.FIRST_PAUSE_SECONDS", 600)
    monkeypatch.setattr("local_platform.supervision.managed_process.LONGEST_PAUSE_SECONDS", 600)
    child = supervisor.add(make_spec())
    await child.wait_ready()
    supervisor.kill("server")
    while child.state is not State.RESTARTING:
        await child.next_change()
    await child.stop()
    assert child.state is State.STOPPED


def test_the_pause_between_restarts_grows_up_to_a_bound():
    pauses = [pause_before(failures) for failures in range(1, 20)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.5
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


async def test_a_child_does_not_see_the_terminals_interrupt(supervisor, make_spec):
    child = supervisor.add(make_spec())
    await child.wait_ready()
    assert os.getpgid(child.pid) == child.pid != os.getpgrp()
    assert os.getsid(child.pid) == child.pid


async def test_a_large_log_is_put_aside_at_the_next_start(supervisor, make_spec, layout, monkeypatch):
    monkeypatch.setattr("local_platform.supervision.process.LOG_LIMIT_BYTES", 10)
    layout.log("server").write_text("much " * 10)
    child = supervisor.add(make_spec())
    await child.wait_ready()
    assert layout.log("server").with_name("server.log.1").read_text().startswith("much")
    assert "much" not in layout.log("server").read_text()


async def test_a_signal_that_asks_the_child_to_end_is_no_reason_to_give_up(supervisor, make_spec):
    child = supervisor.add(make_spec())
    await child.wait_ready()
    old = child.pid
    supervisor.kill("server", signal.SIGTERM)
    await ready_again(child, old)
    assert child.failure is None
