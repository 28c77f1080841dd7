"""Processes that die with the launcher."""

import subprocess

from local_platform.supervision.process import with_death_signal


def test_a_process_whose_launcher_died_before_the_death_signal_was_set_does_not_start():
    argv = with_death_signal(["echo", "it runs"])
    assert subprocess.check_output(argv, text=True) == "it runs\n"
    # Here the parent is another process, as init would be.
    assert subprocess.check_output(["sh", "-c", '"$@"; true', "sh", *argv], text=True) == ""
