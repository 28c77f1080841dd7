"""What can stop the tool. Each message says what happened and what to do about it.

ToolError
├── Refused          nothing was begun: the order cannot be carried out as things are
├── CommandFailed    a command of docker failed; carries the end of its output
├── NotHealthy       a container ended, or did not become healthy in time
├── StepFailed       a release must not go on: its new version fails requests, is slow, or a replica restarted
└── ReleaseFailed    a release was stopped and undone
Interrupted          the operator, or the system, wants the tool to end (no ToolError: nobody handles it on the way)
"""

import signal


class ToolError(Exception):
    """The tool cannot go on. Its text is shown to the operator without a traceback."""


class Refused(ToolError):
    pass


class CommandFailed(ToolError):
    pass


class NotHealthy(ToolError):
    pass


class StepFailed(ToolError):
    pass


class ReleaseFailed(ToolError):
    pass


class Interrupted(BaseException):
    """A signal asked the tool to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
