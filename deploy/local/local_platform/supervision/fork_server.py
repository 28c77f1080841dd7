"""`python -m local_platform.supervision.fork_server DESCRIPTOR`: starts Python processes by forking itself.

It imports what the processes of all services share, once: they start faster and share the memory. It takes requests
from the launcher on a socket (`forked_process`). The child of a request reads it, prepares itself, and leaves `serve`;
then the interpreter runs the requested module as `python -m` would.
"""

import ctypes
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from typing import Any, Final

from servicekit.server import shared_imports

_PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>
_PR_SET_NAME: Final = 15
# A request is one byte with two descriptors: the process's channel to the launcher, and its log.
_DESCRIPTORS: Final = 2
_SHARED_PACKAGES: Final = ("opskit", "servicekit")


def serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork a child for each request, and tell the launcher how it ended.

    Return the request in the child, None in the server when the launcher has ended.
    """
    server = os.getpid()
    channels: dict[int, socket.socket] = {}
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        for source in (control, woken):
            selector.register(source, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if woken in ready:
                woken.recv(4096)
                _report_ended(channels)
            if control not in ready:
                continue
            message, descriptors, _, _ = socket.recv_fds(control, 1, _DESCRIPTORS)
            if not message:
                return None
            channel, log = socket.socket(fileno=descriptors[0]), descriptors[1]
            child = os.fork()
            if child == 0:
                break
            channels[child] = channel
            os.close(log)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for inherited in (control, woken, wake, *channels.values()):
        inherited.close()
    return _prepare(server, channel, log)


def _report_ended(channels: dict[int, socket.socket]) -> None:
    while channels:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        with channels.pop(child) as channel:
            # The launcher may have lost interest.
            try:
                channel.sendall(b"exit %d\n" % os.waitstatus_to_exitcode(status))
            except OSError:
                continue


def _prepare(server: int, channel: socket.socket, log: int) -> dict[str, Any]:
    """Read the request and make this process what it asks for.

    A launcher that gave up meanwhile does not confirm the id of the prepared process, which then ends.
    """
    os.setsid()
    with os.fdopen(os.open(os.devnull, os.O_RDONLY), "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    with channel, channel.makefile("rb") as lines:
        request: dict[str, Any] = json.loads(lines.readline())
        os.chdir(request["directory"])
        os.umask(request["umask"])
        os.environ.clear()
        os.environ.update(request["environment"])
        if sys.platform == "linux":
            libc = ctypes.CDLL(None)
            libc.prctl(_PR_SET_NAME, request["name"].encode()[:15])
            libc.prctl(_PR_SET_PDEATHSIG, request["death_signal"])
        channel.sendall(b"pid %d\n" % os.getpid())
        # A server that died before the call of `prctl` sends no signal.
        if not lines.readline() or os.getppid() != server:
            os._exit(1)
    return request


def _forget_shared_code() -> None:
    """Let this process import the kit as it stands in the files now: it may have changed since the server's start."""
    for name in [name for name in sys.modules if name.partition(".")[0] in _SHARED_PACKAGES]:
        del sys.modules[name]
    importlib.invalidate_caches()


def main() -> None:
    """Serve the launcher; in a child, run the requested module."""
    shared_imports.import_packages(shared_imports.DRIVERS)
    shared_imports.keep_shared()
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    if request is not None:
        _forget_shared_code()
        sys.path[0] = request["directory"]
        sys.argv = [request["module"], *request["arguments"]]
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
