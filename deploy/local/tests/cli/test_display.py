"""What the user sees, and what a second Ctrl-C means."""

import io
import os

import pytest

from local_platform.__main__ import StopRequest
from local_platform.cli.display import Display
from local_platform.platform.options import parse
from local_platform.supervision.managed_process import State
from local_platform.supervision.status_table import StatusTable


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_each_change_is_one_plain_line():
    stream, status_table = io.StringIO(), StatusTable()
    Display(status_table, stream)
    status_table.plan("postgres")
    status_table.set("postgres", State.STARTING, where="postgresql://127.0.0.1:1")
    status_table.set("postgres", State.STARTING, where="postgresql://127.0.0.1:1")
    status_table.set("postgres", State.READY)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "postgres" in lines[1]
    assert "ready after 0.0" in lines[1]
    assert "postgresql://127.0.0.1:1" in lines[1]
    assert "\x1b" not in stream.getvalue()


def test_a_restart_is_told_with_its_reason():
    stream, status_table = io.StringIO(), StatusTable()
    Display(status_table, stream)
    status_table.set("notes-1", State.RESTARTING, detail="killed by SIGKILL")
    assert "notes-1" in stream.getvalue()
    assert "restarting" in stream.getvalue()
    assert "killed by SIGKILL" in stream.getvalue()


def test_a_reader_who_goes_away_does_not_disturb_the_platform():
    reading, writing = os.pipe()
    status_table = StatusTable()
    with os.fdopen(writing, "w") as stream:
        Display(status_table, stream)
        os.close(reading)
        for state in (State.STARTING, State.READY):
            status_table.set("postgres", state)


async def test_a_terminal_gets_one_table_of_all_parts_also_of_those_that_still_wait(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream, status_table = Terminal(), StatusTable()
    display = Display(status_table, stream)
    status_table.plan("postgres", "gateway")
    with display.working():
        status_table.set("postgres", State.READY, where="postgresql://127.0.0.1:1")
    shown = stream.getvalue()
    for text in ("what", "where", "state", "postgres", "postgresql://127.0.0.1:1", "gateway", "waiting"):
        assert text in shown


async def test_the_same_interrupt_told_twice_does_not_hurry_but_a_later_one_does(monkeypatch):
    request = StopRequest()
    request.ask()
    request.ask()
    assert request.wanted.is_set()
    assert not request.force.is_set()
    monkeypatch.setattr("local_platform.__main__.SAME_REQUEST_SECONDS", -1.0)
    request.ask()
    assert request.force.is_set()


def test_options_come_from_the_command_line_then_from_the_environment(monkeypatch):
    monkeypatch.setenv("REPLICAS", "3")
    monkeypatch.setenv("MONGO_NODES", "")
    monkeypatch.delenv("GATEWAY_PORT", raising=False)
    options = parse(["--data-dir", "here"])
    assert (str(options.data_dir), options.replicas, options.mongo_nodes, options.gateway_port) == ("here", 3, 1, 8080)
    assert parse(["--replicas", "2"]).replicas == 2


def test_help_names_every_setting(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse(["--help"])
    shown = capsys.readouterr().out
    for name in (
        "GATEWAY_PORT",
        "DATA_DIR",
        "REPLICAS",
        "MONGO_NODES",
        "MAX_UPLOAD_BYTES",
        "USER_RATE",
        "SERVICE_CIPHER",
    ):
        assert name in shown
