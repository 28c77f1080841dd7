"""Ports for servers that tests start in processes of their own."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_port() -> Iterator[int]:
    """Reserve a port of 127.0.0.1 while the context is open, however often its server restarts.

    A socket that never listens holds the port. Beside it, Linux lets a server listen that sets SO_REUSEADDR, as NGINX,
    gunicorn and `http.server` do. It gives the port neither to an outgoing connection nor to a search for a free one.
    """
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        # Not before the bind, or the kernel might choose a port that another process holds.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield holder.getsockname()[1]
