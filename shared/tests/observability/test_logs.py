"""Log lines: one JSON object each, with the request's identity and without secrets."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from servicekit.core import context
from servicekit.observability import logs

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    yield lambda: [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    logs.configure("tests", level="WARNING")


def test_a_line_carries_the_identity_of_its_request(lines: Lines) -> None:
    logs.configure("parcels")
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    token = context.enter(
        context.RequestContext("r-1", "c-1", traceparent=f"00-{trace_id}-00f067aa0ba902b7-01", user_id="u-1")
    )
    logger.info("weighed {}", "{braces}")
    context.leave(token)

    (line,) = lines()
    assert line["service"] == "parcels"
    assert line["message"] == "weighed {braces}"
    assert (line["request_id"], line["correlation_id"]) == ("r-1", "c-1")
    assert (line["trace_id"], line["user_id"]) == (trace_id, "u-1")


def test_lines_of_libraries_take_the_same_way(lines: Lines) -> None:
    logs.configure("parcels")
    logging.getLogger("gunicorn.error").warning("worker %s left", 7)

    (line,) = lines()
    assert line["message"] == "worker 7 left"
    assert line["level"] == "WARNING"


def test_uvicorn_writes_no_line_about_a_request(lines: Lines) -> None:
    logs.configure("parcels")

    # uvicorn asks this for each connection.
    assert not logging.getLogger("uvicorn.access").hasHandlers()


def test_a_level_may_be_written_in_any_case(lines: Lines) -> None:
    logs.configure("parcels", level="warning")
    logger.info("weighed")
    logger.warning("too heavy")

    assert [line["message"] for line in lines()] == ["too heavy"]


def test_a_librarys_level_can_be_set_alone(lines: Lines) -> None:
    logs.configure("parcels", levels="aiohttp=ERROR")
    logging.getLogger("aiohttp").warning("quiet")
    logging.getLogger("uvicorn.error").info("heard")

    assert [line["message"] for line in lines()] == ["heard"]


def test_a_traceback_shows_no_values_of_variables(lines: Lines) -> None:
    logs.configure("parcels")
    password = "hunter" + str(2)
    try:
        int(password and "not a number")
    except ValueError:
        logger.exception("failed")

    (line,) = lines()
    assert line["error"] == "ValueError"
    assert "hunter2" not in line["traceback"]


def messages(file: Path) -> list[str]:
    return [json.loads(line)["message"] for line in file.read_text().splitlines()]


@pytest.mark.parametrize("format_", ["json", "console"])
def test_files_in_a_directory_hold_all_lines_and_errors_apart(
    capfd: pytest.CaptureFixture[str], lines: Lines, tmp_path: Path, format_: str
) -> None:
    logs.configure("parcels", format_=format_, directory=tmp_path)
    logger.info("one {}", "{two}")
    logger.error("three")
    logs.access({"message": "GET /"})

    assert messages(tmp_path / "parcels.log") == ["one {two}", "three", "GET /"]
    assert messages(tmp_path / "parcels.error.log") == ["three"]
    standard_output = capfd.readouterr().out
    assert ('{"message":"GET /"}' in standard_output) == (format_ == "json")


def test_in_console_format_the_access_line_is_readable_too(capfd: pytest.CaptureFixture[str], lines: Lines) -> None:
    logs.configure("parcels", format_="console")
    logger.info("weighed")
    logs.access({"service": "parcels", "method": "GET", "path": "/x", "status": 200, "ms": 1.5, "request_id": "r-1"})
    output = capfd.readouterr()
    assert output.out == ""
    weighed, access = filter(None, output.err.splitlines())
    assert "weighed" in weighed
    assert access.split()[1:] == ["ACCESS", "parcels", "GET", "/x", "200", "1.5", "r-1"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("too heavy"), "ValueError: too heavy"),
        (KeyError(), "KeyError"),
        (ValueError("duplicate key\nDETAIL: Key (email)=(ada@mail.dev)"), "ValueError: duplicate key"),
        (ValueError("x" * 5000), "ValueError: " + "x" * 200),
    ],
    ids=["message", "none", "lines", "long"],
)
def test_an_exception_in_brief_is_its_type_and_first_line(error: Exception, text: str) -> None:
    assert logs.brief(error) == text


def test_a_line_about_an_exception_names_it_before_all_details(capfd: pytest.CaptureFixture[str], lines: Lines) -> None:
    logs.configure("parcels")
    try:
        raise ValueError("too heavy")
    except ValueError as error:
        logger.exception("unexpected {}", logs.brief(error))
    line = capfd.readouterr().out
    assert "unexpected ValueError: too heavy" in line[:200]
    assert list(json.loads(line))[4] == "error"


def test_files_have_the_given_name(lines: Lines, tmp_path: Path) -> None:
    logs.configure("parcels", directory=tmp_path, name="parcels-2")
    assert {path.name for path in tmp_path.iterdir()} == {"parcels-2.log", "parcels-2.error.log"}


SERVICE = """
import os, sys
from pathlib import Path
from loguru import logger
from servicekit.observability import logs
for _ in range(2):
    # A worker configures its logs again, after its master.
    logs.configure("parcels", directory=Path(sys.argv[1]))
print("printed", flush=True)
logger.error("logged")
logs.access({"message": "GET /"})
"""


def test_standard_output_that_is_the_log_file_gets_each_line_once(tmp_path: Path) -> None:
    file = tmp_path / "parcels.log"
    with file.open("ab") as output:
        subprocess.run([sys.executable, "-c", SERVICE, tmp_path], stdout=output, check=True)
    printed, logged, access = file.read_text().splitlines()
    assert printed == "printed"
    assert (json.loads(logged)["message"], json.loads(access)["message"]) == ("logged", "GET /")
    assert messages(tmp_path / "parcels.error.log") == ["logged"]


def test_the_access_line_is_json_of_its_own(lines: Lines) -> None:
    logs.access({"path": "/x", "status": 200})
    sys.stdout.flush()

    assert lines() == [{"path": "/x", "status": 200}]


WRITE_AND_GO_ON = """
from pathlib import Path
import sys
from loguru import logger
from servicekit.observability import logs
logs.configure("parcels", directory=Path(sys.argv[1]))
logger.error("a line")
logs.access({"path": "/"})
Path(sys.argv[1], "went-on").touch()
"""


def test_a_full_disk_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    for name in ("parcels.log", "parcels.error.log"):
        (tmp_path / name).symlink_to("/dev/full")
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-c", WRITE_AND_GO_ON, str(tmp_path)]
        subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (tmp_path / "went-on").exists()


def test_log_files_that_cannot_be_opened_leave_standard_output(tmp_path: Path) -> None:
    (tmp_path / "parcels.log").mkdir()
    command = [sys.executable, "-c", WRITE_AND_GO_ON, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "a line" in done.stdout
    assert (tmp_path / "went-on").exists()
