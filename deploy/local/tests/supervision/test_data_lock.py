"""One launcher per DATA_DIR, and the orphans of a killed launcher."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from local_platform.errors import DataDirectoryInUse
from local_platform.supervision.data_lock import data_lock, stop_orphans
from opskit.atomic_file import write_atomically

ORPHAN = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    os.close(1)
    time.sleep(600)
"""


@pytest.fixture
def orphan():
    """Start orphans: each leads a group and works in the given directory."""
    made = []

    def make(directory):
        output = subprocess.check_output([sys.executable, "-S", "-c", ORPHAN], cwd=directory, text=True)
        made.append(int(output))
        return made[-1]

    yield make
    for pid in made:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def test_a_second_launcher_learns_who_holds_the_directory(layout):
    with data_lock(layout) as lock:
        lock.announce("http://127.0.0.1:8080")
        with (
            pytest.raises(
                DataDirectoryInUse,
                match=rf"in use by a running instance \(pid {os.getpid()}, gateway http://127.0.0.1:8080\)",
            ),
            data_lock(layout),
        ):
            pass
    with data_lock(layout):
        pass


def test_a_launcher_holds_the_directory_before_it_has_announced_itself(layout):
    with data_lock(layout), pytest.raises(DataDirectoryInUse, match="just starting"), data_lock(layout):
        pass


async def test_the_orphans_of_a_killed_launcher_are_stopped(layout, orphan):
    pid = orphan(layout.work("user-1"))
    write_atomically(layout.run_file, f'{{"gateway": "", "processes": [{{"name": "user-1", "pid": {pid}}}]}}')
    assert await stop_orphans(layout) == ["user-1"]
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert not layout.run_file.exists()


async def test_another_program_that_has_an_old_process_id_is_left_alone(layout, orphan, tmp_path):
    pid = orphan(tmp_path)
    write_atomically(layout.run_file, f'{{"gateway": "", "processes": [{{"name": "user-1", "pid": {pid}}}]}}')
    assert await stop_orphans(layout) == []
    assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("text", ["", "{", "[]", '{"processes": [{"pid": "x"}]}'])
async def test_orphans_are_found_without_the_run_file_if_that_is_damaged(layout, orphan, text):
    pid, elsewhere = orphan(layout.work("user-1")), orphan(layout.logs)
    layout.run_file.write_text(text)
    assert await stop_orphans(layout) == ["user-1"]
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert psutil.Process(elsewhere).status() != psutil.STATUS_ZOMBIE
    assert not layout.run_file.exists()
