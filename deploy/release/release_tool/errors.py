"""What can stop the tool. Each message says what happened and what to do about it.

ToolError
├── Refused          nothing was changed: the command cannot be carried out as things are
├── CommandFailed    a docker command failed; the message ends with its last output
├── NotHealthy       a container ended, or did not become healthy in time
├── StepFailed       a release must not go on: its new version fails requests, is slow, or a replica was restarted
└── ReleaseFailed    a release was stopped and undone
Interrupted          the operator or the system asked the tool to end; no ToolError, so that nothing handles it midway
"""

import signal


class ToolError(Exception):
    """The tool cannot go on. The message is shown to the operator without a traceback."""

    @property
    def summary(self) -> str:
        """The message in one line: its first line and, when output follows, the last line, which says why."""
        first, _, rest = str(self).partition("\n")
        last = rest.strip().rpartition("\n")[2].strip()
        return f"{first} {last}" if last else first.rstrip(":")


class Refused(ToolError):
    pass


class CommandFailed(ToolError):
    pass


class NotHealthy(ToolError):
    """`log` is the end of the container's log."""

    def __init__(self, reason: str, log: str = "") -> None:
        super().__init__(f"{reason}; the end of its log:\n{log}" if log else reason)
        self._reason = reason

    @property
    def summary(self) -> str:
        return self._reason


class StepFailed(ToolError):
    pass


class ReleaseFailed(ToolError):
    pass


class Interrupted(BaseException):
    """A signal asked the tool to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
