"""`python3 -m gateway_config.error_log nginx …`: becomes NGINX, whose errors then pass a filter on their way to stderr.

NGINX ends each error of a request with the request line, the address at the service, and the Referer. Their queries may
hold the signature of a link or a token, and no setting leaves them out. A child process of NGINX removes them. It ends
with NGINX.
"""

import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

# From a question mark to the end of the quoted text that it stands in, or of the line. A client may send quotes, too.
_QUERY = re.compile(rb'\?.*?(?= HTTP/\d|"(?:, [a-z]+: "|\s*$)|\s*$)')
_READ_BYTES = 64 * 1024


def without_queries(line: bytes) -> bytes:
    """Return a line of the error log without the queries in it."""
    return _QUERY.sub(b"", line)


def main(command: Sequence[str]) -> NoReturn:
    """Become NGINX."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        # Outside of NGINX's group, so that it still passes on the last words of one that is killed.
        os.setsid()
        os.close(writing)
        _filter(reading)
        os._exit(0)
    os.close(reading)
    # A worker must not wait for a filter that waits for a slow log.
    os.set_blocking(writing, False)
    os.dup2(writing, 2)
    os.close(writing)
    # A fixed list of arguments, which no shell reads.
    arguments = list(command)
    os.execvp(command[0], arguments)  # nosec B606


def _filter(reading: int) -> None:
    """Copy lines to stderr until NGINX and all its workers have ended."""
    rest = b""
    while data := os.read(reading, _READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        _write(b"".join(without_queries(line) + b"\n" for line in lines))
    _write(without_queries(rest))


def _write(data: bytes) -> None:
    try:
        while data:
            data = data[os.write(2, data) :]
    except OSError:
        # On a full disk, or without a reader, lines are lost.
        return


if __name__ == "__main__":
    main(sys.argv[1:])
