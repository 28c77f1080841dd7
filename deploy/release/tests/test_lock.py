"""One tool runs at a time, also while the last command of a killed one still runs."""

import os
import signal
import subprocess
import sys

import pytest

from release_tool.deployment import operator_lock
from release_tool.errors import Refused

KILLED_TOOL = """
import os, subprocess, sys
from pathlib import Path
from release_tool.deployment import operator_lock
with operator_lock(Path(sys.argv[1]), "release of notes", 1, print):
    # The child inherits the lock, as a docker command does.
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"], close_fds=False, stdout=-3)
    print(child.pid, flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def lock(tmp_path):
    return tmp_path / ".release.lock"


def test_a_second_tool_is_refused_and_told_which_one_runs(lock):
    with (
        operator_lock(lock, "release of notes", 10, print),
        pytest.raises(Refused, match=rf"release of notes, pid {os.getpid()}"),
        operator_lock(lock, "restart", 10, print),
    ):
        pass


def test_the_lock_ends_with_its_holder(lock):
    with operator_lock(lock, "release of notes", 10, print):
        pass
    with operator_lock(lock, "restart", 10, print):
        pass


def test_the_last_command_of_a_killed_tool_is_waited_for(lock):
    tool = subprocess.run(
        [sys.executable, "-c", KILLED_TOOL, str(lock)], stdout=subprocess.PIPE, text=True, check=False
    )
    assert tool.returncode == -signal.SIGKILL
    command = int(tool.stdout)
    try:
        with pytest.raises(Refused, match="does not end"), operator_lock(lock, "restart", 0.1, print):
            pass
    finally:
        os.kill(command, signal.SIGKILL)
    told = []
    with operator_lock(lock, "restart", 60, told.append):
        pass


def test_a_killed_tool_that_is_a_zombie_does_not_count_as_running(lock):
    """Its parent has not waited for it, so its number still exists."""
    tool = subprocess.Popen([sys.executable, "-c", KILLED_TOOL, str(lock)], stdout=subprocess.PIPE, text=True)
    assert tool.stdout is not None
    command = int(tool.stdout.readline())
    os.waitid(os.P_PID, tool.pid, os.WEXITED | os.WNOWAIT)
    try:
        with pytest.raises(Refused, match="does not end"), operator_lock(lock, "restart", 0.1, print):
            pass
    finally:
        os.kill(command, signal.SIGKILL)
        tool.communicate()
