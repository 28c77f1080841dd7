"""Spreads connections over the workers of a replica.

All workers accept from one socket. An event loop accepts as long as somebody waits, so the first worker that wakes up
takes every connection of a burst and keeps them: of 16 kept-alive connections, the other worker got none. Here a worker
accepts one at a time, and leaves the next one for a moment to a worker that has fewer (docs/adr/0017).

The counts of all workers stand in memory that they inherit from their master. A count may be outdated, and a worker may
be busy. So nobody waits longer than `PATIENCE_SECONDS`, and no connection is refused.
"""

import asyncio
import mmap
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

from loguru import logger

# A worker lets others go first if it has so many connections more than the least busy one.
SLACK: Final = 2
RETRY_SECONDS: Final = 0.001
PATIENCE_SECONDS: Final = 0.02
# When no file descriptor is left, the next attempt is made after this time.
EXHAUSTED_SECONDS: Final = 1.0

# Workers beyond these take what they get.
_PLACES: Final = 128
_FREE: Final = -1
# More connections than any worker has: nobody leaves a connection to a worker that stops.
_STOPPING: Final = 2**30


class ConnectionCounts:
    """The number of connections of each worker, shared by all processes that are forked from the one that made it."""

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, _PLACES * 4)).cast("i")
        for place in range(_PLACES):
            self._counts[place] = _FREE
        self._own: int | None = None
        self._stopping = False

    def reserve(self) -> int | None:
        """Return a place for a new worker, or None if all are taken. The master calls this before it forks."""
        for place in range(_PLACES):
            if self._counts[place] == _FREE:
                self._counts[place] = _STOPPING
                return place
        return None

    def release(self, place: int | None) -> None:
        """Free the place of a worker that has ended. The master calls this."""
        if place is not None:
            self._counts[place] = _FREE

    def take(self, place: int | None) -> None:
        """Make this the place of this process."""
        self._own = place

    def stop(self) -> None:
        """Let the other workers no longer leave connections to this one."""
        self._stopping = True
        self.report(_STOPPING)

    def report(self, connections: int) -> None:
        """Tell the other workers how many connections this one has."""
        if self._own is not None:
            self._counts[self._own] = _STOPPING if self._stopping else connections

    def is_ahead(self, connections: int) -> bool:
        """Whether another worker has so few connections that it should get the next one."""
        if self._own is None:
            return False
        own = _STOPPING if self._stopping else connections
        return any(other != _FREE and other + SLACK < own for other in self._counts)


counts: Final = ConnectionCounts()
"""The counts of this replica: made when the master imports this module, before it forks."""


class BalancedListener:
    """Accepts connections from a socket that several workers share. It has what uvicorn calls of an asyncio server."""

    def __init__(
        self,
        listener: socket.socket,
        connect: Callable[[socket.socket], Coroutine[Any, Any, Any]],
        connections: Callable[[], int],
    ) -> None:
        """`connect` begins to serve an accepted connection; `connections` returns how many this worker has."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._connect = connect
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None
        # The time at which this worker takes a connection that it has left to others.
        self._patient_until: float | None = None
        self._connecting: set[asyncio.Task[Any]] = set()
        listener.setblocking(False)
        counts.report(self._pending())
        self._listen()

    def close(self) -> None:
        """Close the socket. The connections stay."""
        if self._timer is not None:
            self._timer.cancel()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()

    async def wait_closed(self) -> None:
        """Return when no connection is only half begun."""
        if self._connecting:
            await asyncio.wait(self._connecting)

    def _listen(self) -> None:
        self._timer = None
        self._loop.add_reader(self._listener, self._on_waiting)

    def _pause(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._listener)
        self._timer = self._loop.call_later(seconds, then)

    def _on_waiting(self) -> None:
        self._timer = None
        if counts.is_ahead(self._pending()):
            now = self._loop.time()
            if self._patient_until is None:
                self._patient_until = now + PATIENCE_SECONDS
            if now < self._patient_until:
                self._pause(RETRY_SECONDS, self._listen)
                return
        self._patient_until = None
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            # Another worker took it, or the client has left.
            return
        except OSError as error:
            logger.error("no connection can be accepted: {}", error.strerror)
            self._pause(EXHAUSTED_SECONDS, self._listen)
            return
        client.setblocking(False)
        task = self._loop.create_task(self._connect(client))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        counts.report(self._pending())

    def _pending(self) -> int:
        return self._connections() + len(self._connecting)
