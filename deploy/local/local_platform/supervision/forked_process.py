"""Starts processes: what runs Python for the services by the fork server, all others by themselves."""

import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess  # nosec B404
import sys

from local_platform.environment import known_variables
from local_platform.errors import ProcessFailed
from local_platform.secret_files import OTHERS
from local_platform.supervision.process import Command, RunningProcess, open_log, spawn, with_death_signal
from opskit.rotated_file import rotate


class ServerEnded(Exception):
    """The fork server was killed."""


class ForkedProcess:
    """A process that the fork server started. The server, its parent, reports its end."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self._ended = asyncio.create_task(_read_status(reader, writer))

    async def wait(self) -> int:
        """Return the exit status when the process has ended."""
        return await asyncio.shield(self._ended)

    def send_signal(self, number: int, /) -> None:
        """Send a signal to the process, unless it is known to have ended."""
        if self._ended.done():
            raise ProcessLookupError
        os.kill(self.pid, number)


async def _read_status(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    try:
        return int((await reader.readline()).removeprefix(b"exit "))
    except (OSError, ValueError):
        # The server was killed, and the kernel stops its children.
        return -signal.SIGTERM
    finally:
        writer.close()


class _ForkServer:
    """The fork server of this launcher, from the first request until the launcher ends."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            argv = [sys.executable, "-m", "local_platform.supervision.fork_server", str(theirs.fileno())]
            self._process = subprocess.Popen(  # nosec B603
                with_death_signal(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=known_variables(),
                pass_fds=[theirs.fileno()],
                # Ctrl-C in a terminal is for the launcher alone.
                start_new_session=True,
            )
        atexit.register(self.close)

    def request(self, channel: socket.socket, log: int) -> None:
        """Ask for a process. Raises ServerEnded."""
        try:
            socket.send_fds(self._control, [b"f"], [channel.fileno(), log])
        except OSError as error:
            raise ServerEnded from error

    def close(self) -> None:
        """End the server, and wait until it has ended."""
        atexit.unregister(self.close)
        self._control.close()
        self._process.wait()


_server: _ForkServer | None = None


def start_fork_server() -> _ForkServer:
    """Start the fork server of this process unless it runs, and return it. While it imports, requests wait."""
    global _server
    _server = _server or _ForkServer()
    return _server


async def start(command: Command) -> RunningProcess:
    """Start a process as the leader of a new group; append its output to its log."""
    if not command.forked:
        return await spawn(command)
    try:
        return await _fork(command, start_fork_server())
    except ServerEnded:
        return await _fork(command, _replace_fork_server())


def _replace_fork_server() -> _ForkServer:
    global _server
    ended, _server = _server, None
    if ended is not None:
        ended.close()
    return start_fork_server()


async def _fork(command: Command, server: _ForkServer) -> ForkedProcess:
    rotate(command.log)
    ours, theirs = socket.socketpair()
    with theirs:
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            with open_log(command.log) as log:
                server.request(theirs, log.fileno())
            theirs.close()
            writer.write(json.dumps(_request(command)).encode() + b"\n")
            kind, _, number = (await _first_line(reader)).partition(b" ")
            if kind != b"pid":
                raise ProcessFailed(f"{command.log.stem} could not be prepared; its log: {command.log}")
            # Without this confirmation the process ends. No `await` follows at which a cancellation could lose it.
            writer.write(b"\n")
        except BaseException:
            writer.close()
            raise
    return ForkedProcess(int(number), reader, writer)


async def _first_line(reader: asyncio.StreamReader) -> bytes:
    try:
        line = await reader.readline()
    except OSError as error:
        raise ServerEnded from error
    if not line:
        raise ServerEnded
    return line


def _request(command: Command) -> dict[str, object]:
    return {
        "name": command.log.stem,
        "module": command.argv[2],
        "arguments": command.argv[3:],
        "directory": str(command.directory),
        "environment": known_variables() if command.environment is None else dict(command.environment),
        "umask": OTHERS,
        "death_signal": command.death_signal,
    }
