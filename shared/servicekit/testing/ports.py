"""Ports for servers that tests start as processes of their own."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_port() -> Iterator[int]:
    """Give a port of 127.0.0.1 that is nobody else's while the context is open, however often its server restarts.

    The socket that holds it never listens. Linux lets a server with SO_REUSEADDR, which NGINX, gunicorn and
    `http.server` set, listen beside it, but gives the port neither to an outgoing connection nor to anybody who asks
    for a free one.
    """
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        # Only now: with it, the kernel might hand out a port that is held elsewhere.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield holder.getsockname()[1]
