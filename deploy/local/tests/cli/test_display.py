"""The display, and the meaning of a second Ctrl-C."""

import io
import os

from local_platform.cli.display import Display
from local_platform.cli.run import StopRequest
from local_platform.supervision.managed_process import State
from local_platform.supervision.status_table import StatusTable


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_each_change_is_one_plain_line():
    stream, status_table = io.StringIO(), StatusTable()
    Display(status_table, stream)
    status_table.add("postgres")
    status_table.set("postgres", State.STARTING, where="postgresql://127.0.0.1:1")
    status_table.set("postgres", State.STARTING, where="postgresql://127.0.0.1:1")
    status_table.set("postgres", State.READY)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "postgres" in lines[1]
    assert "ready after " in lines[1]
    assert "postgresql://127.0.0.1:1" in lines[1]
    assert "\x1b" not in stream.getvalue()


def test_a_restart_is_shown_with_its_reason():
    stream, status_table = io.StringIO(), StatusTable()
    Display(status_table, stream)
    status_table.set("notes-1", State.RESTARTING, detail="killed by SIGKILL")
    assert "notes-1" in stream.getvalue()
    assert "restarting" in stream.getvalue()
    assert "killed by SIGKILL" in stream.getvalue()


def test_a_closed_output_does_not_disturb_the_platform():
    reading, writing = os.pipe()
    status_table = StatusTable()
    with os.fdopen(writing, "w") as stream:
        Display(status_table, stream)
        os.close(reading)
        for state in (State.STARTING, State.READY):
            status_table.set("postgres", state)


async def test_a_terminal_shows_one_table_of_all_parts_including_those_that_still_wait(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream, status_table = Terminal(), StatusTable()
    display = Display(status_table, stream)
    status_table.add("postgres", "gateway")
    with display.live():
        status_table.set("postgres", State.READY, where="postgresql://127.0.0.1:1")
    shown = stream.getvalue()
    for text in ("what", "where", "state", "postgres", "postgresql://127.0.0.1:1", "gateway", "waiting"):
        assert text in shown


async def test_one_interrupt_delivered_twice_does_not_force_the_stop_but_a_later_one_does(monkeypatch):
    request = StopRequest()
    request.receive()
    request.receive()
    assert request.stop.is_set()
    assert not request.force.is_set()
    monkeypatch.setattr("local_platform.cli.run.SAME_REQUEST_SECONDS", -1.0)
    request.receive()
    assert request.force.is_set()
