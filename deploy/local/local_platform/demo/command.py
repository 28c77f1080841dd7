"""`make demo`: take the tour through the platform that `make run` has started."""

from pathlib import Path

from local_platform.demo.accounts import delete_account, register_and_log_in
from local_platform.demo.contents import publish_a_note, share_a_file
from local_platform.demo.edge import forge_a_token
from local_platform.demo.events import record_events
from local_platform.demo.messages import CALLEE, CALLER, seal_a_message
from local_platform.demo.platform import RunningPlatform
from local_platform.demo.report import Report
from local_platform.demo.tour import Step, take

STEPS = (
    Step("A new account", register_and_log_in, needs=("user",)),
    Step("A sealed message between two services, and its replay", seal_a_message, needs=(CALLER, CALLEE)),
    Step("Events, and what becomes of them", record_events, needs=("analytics",)),
    Step("A note, private and public", publish_a_note, needs=("notes",)),
    Step("A file, and a link to it", share_a_file, needs=("assets",)),
    Step("A forged token", forge_a_token, needs=("user",)),
    Step("The end of the account", delete_account, needs=("user",)),
)


def take_tour(data_dir: Path) -> int:
    """Take the tour; return 0 if every claim holds, else 1. Raises NotRunning."""
    return 0 if take(RunningPlatform(data_dir), Report(), STEPS) else 1
