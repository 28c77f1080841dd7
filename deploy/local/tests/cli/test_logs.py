"""`make logs`: lines of all processes for people, without probes."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from local_platform.__main__ import main
from local_platform.cli.log_lines import LogLine

TIME = "2026-03-01T12:00:00.250000+00:00"
ACCESS = {
    **{"time": TIME, "level": "INFO", "logger": "access", "service": "notes", "method": "GET", "path": "/api/v1/notes"},
    **{
        "route": "/api/v1/notes",
        "status": 200,
        "ms": 3.25,
        "client": "127.0.0.1",
        "request_id": "r-1",
        "user_id": "u-1",
    },
}
PROCESSES = [("notes-1", "notes"), ("notes-2", "notes"), ("gateway", "gateway")]


def shown(line: object) -> str:
    return LogLine.parse("notes-1", line if isinstance(line, str) else json.dumps(line)).render().plain


@pytest.fixture
def running(layout):
    """The folders of a platform that runs, without its processes."""
    document = {"processes": [{"name": process, "service": service} for process, service in PROCESSES]}
    layout.run_file.write_text(json.dumps(document))
    for process, _ in PROCESSES:
        layout.log(process).parent.mkdir(parents=True, exist_ok=True)
        layout.log(process).write_text(f"{process} started\n")
    layout.gateway.mkdir(exist_ok=True)
    (layout.gateway / "access.log").touch()
    return layout


def test_a_request_is_one_short_line():
    clock = datetime.fromisoformat(TIME).astimezone()
    assert shown(ACCESS) == (
        f"{clock:%H:%M:%S}.250 notes-1      INFO    GET /api/v1/notes 200 3.2 ms  user_id=u-1  r-1"
    )


def test_the_gateways_seconds_become_milliseconds():
    line = {**ACCESS, "seconds": 0.012}
    del line["ms"]
    assert " 200 12.0 ms" in shown(line)


def test_a_message_is_followed_by_its_fields_and_its_traceback_on_lines_of_its_own():
    error = {"time": TIME, "level": "ERROR", "message": "not stored", "error": "OSError", "attempt": 2, "trace_id": "t"}
    lines = shown({**error, "traceback": "Traceback:\n  File x\nOSError: full\n"}).splitlines()
    assert lines[0].endswith("ERROR   not stored  error=OSError  attempt=2")
    assert lines[1:] == ["Traceback:", "  File x", "OSError: full"]


def test_lines_of_mongodb_are_shown_like_others():
    line = {"t": {"$date": TIME}, "s": "W", "c": "STORAGE", "id": 1, "msg": "slow disk", "attr": {"ms": 12}}
    assert shown(line).endswith("WARNING slow disk  ms=12")


@pytest.mark.parametrize("text", ["plain text", "{broken", '{"half": '], ids=["text", "brace", "half"])
def test_what_is_not_json_is_shown_as_it_is(text):
    assert shown(text) == f"notes-1      {text}"


def test_bytes_that_command_a_terminal_are_escaped():
    for line in ({**ACCESS, "path": "/\x1b[2J\u202e"}, {"message": "\x1b]0;x\x07", "level": "INFO"}, "\x1b[2J"):
        assert not {"\x1b", "\x07", "\u202e"} & set(shown(line))


@pytest.mark.parametrize(
    ("fields", "is_poll"),
    [
        ({"path": "/ready"}, True),
        ({"path": "/.well-known/jwks.json"}, True),
        ({"path": "/ready", "status": 503}, False),
        ({"path": "/api/v1/notes"}, False),
    ],
    ids=["probe", "keys", "failed-probe", "request"],
)
def test_only_successful_probes_are_left_out(fields, is_poll):
    assert LogLine.parse("notes-1", json.dumps({**ACCESS, **fields})).is_poll is is_poll


def test_one_request_is_found_in_all_files_oldest_first(running, capsys):
    def write(path, second: int, **fields: object) -> None:
        time = datetime(2026, 3, 1, 12, 0, second, tzinfo=UTC).isoformat()
        with path.open("a") as file:
            file.write(json.dumps({"time": time, "level": "INFO", "message": f"at {second}", **fields}) + "\n")

    write(running.log("notes-1"), 3, request_id="r-1")
    write(running.log("notes-1"), 5, request_id="r-10")
    write(running.log("notes-2"), 4, correlation_id="r-1")
    write(running.log("notes-2").with_name("notes-2.log.1"), 2, trace_id="r-1")
    write(running.gateway / "access.log", 1, request_id="r-1")
    write(running.gateway / "access.log", 6, request_id="x", note="mentions r-1")

    assert main(["logs", "--data-dir", str(running.root), "--request", "r-1"]) == 0
    assert [line.split("at ")[1][0] for line in capsys.readouterr().out.splitlines()] == ["1", "2", "3", "4"]
    assert main(["logs", "--data-dir", str(running.root), "--request", "r-2"]) == 1
    assert "'r-2'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], {"notes-1", "notes-2", "gateway"}),
        (["notes"], {"notes-1", "notes-2"}),
        (["notes-2"], {"notes-2"}),
        (["notes-1", "gateway"], {"notes-1", "gateway"}),
    ],
    ids=["all", "service", "process", "two"],
)
def test_logs_follows_the_chosen_processes_also_after_a_rotation(running, names, expected):
    command = [sys.executable, "-m", "local_platform", "logs", "--data-dir", str(running.root), *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"}) as process:
        assert process.stdout is not None
        seen = {process.stdout.readline().split()[0] for _ in expected}
        chosen = min(expected)
        log = running.log(chosen)
        log.rename(log.with_name("aside"))
        log.write_text("a new line\n")
        assert process.stdout.readline().split() == [chosen, "a", "new", "line"]
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert seen == expected
