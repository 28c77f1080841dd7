"""One tool at a time, also when one was killed and its last command still works."""

import os
import signal
import subprocess
import sys

import pytest

from release_tool.errors import Refused
from release_tool.files import sole_operator

KILLED_TOOL = """
import os, subprocess, sys
from pathlib import Path
from release_tool.files import sole_operator
with sole_operator(Path(sys.argv[1]), "release of notes", 1, print):
    # What it starts inherits the lock, as a docker command does.
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"], close_fds=False, stdout=-3)
    print(child.pid, flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def lock(tmp_path):
    return tmp_path / ".release.lock"


def test_a_second_tool_is_refused_and_told_who_is_at_work(lock):
    with (
        sole_operator(lock, "release of notes", 10, print),
        pytest.raises(Refused, match=rf"release of notes, pid {os.getpid()}"),
        sole_operator(lock, "restart", 10, print),
    ):
        pass


def test_the_lock_ends_with_its_holder(lock):
    with sole_operator(lock, "release of notes", 10, print):
        pass
    with sole_operator(lock, "restart", 10, print):
        pass


def test_a_killed_tools_last_command_is_waited_for(lock):
    tool = subprocess.run(
        [sys.executable, "-c", KILLED_TOOL, str(lock)], stdout=subprocess.PIPE, text=True, check=False
    )
    assert tool.returncode == -signal.SIGKILL
    command = int(tool.stdout)
    try:
        with pytest.raises(Refused, match="does not end"), sole_operator(lock, "restart", 0.1, print):
            pass
    finally:
        os.kill(command, signal.SIGKILL)
    told = []
    with sole_operator(lock, "restart", 60, told.append):
        pass


def test_a_killed_tool_whose_parent_has_not_noticed_yet_is_no_tool_at_work(lock):
    """Such a process is still there by its number."""
    tool = subprocess.Popen([sys.executable, "-c", KILLED_TOOL, str(lock)], stdout=subprocess.PIPE, text=True)
    assert tool.stdout is not None
    command = int(tool.stdout.readline())
    os.waitid(os.P_PID, tool.pid, os.WEXITED | os.WNOWAIT)
    try:
        with pytest.raises(Refused, match="does not end"), sole_operator(lock, "restart", 0.1, print):
            pass
    finally:
        os.kill(command, signal.SIGKILL)
        tool.communicate()
