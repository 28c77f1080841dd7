"""Processes that die with the launcher."""

import subprocess

from local_platform.supervision.process import Command, with_death_signal


def test_a_process_whose_launcher_died_before_the_death_signal_was_set_does_not_start(layout):
    argv = with_death_signal(Command(argv=["echo", "it runs"], directory=layout.root, log=layout.log("x")))
    assert subprocess.check_output(argv, text=True) == "it runs\n"
    # Here the parent is another process, as init would be.
    assert subprocess.check_output(["sh", "-c", '"$@"; true', "sh", *argv], text=True) == ""
