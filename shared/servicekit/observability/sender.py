"""The queues and the thread between requests and what receives telemetry. No request ever waits for a receiver.

When a queue is full, a new item replaces the oldest. After a failure the thread pauses, so an unavailable receiver
costs one attempt every few seconds. All losses are counted.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from loguru import logger
from prometheus_client import Counter

QUEUE_ITEMS: Final = 2048
# The thread shares the interpreter with the event loop. Encoding a batch takes about as long as one thread switch.
BATCH_ITEMS: Final = 128
FLUSH_SECONDS: Final = 0.5
# How long a stopping worker waits for the last items. The application has three seconds for its whole shutdown.
STOP_SECONDS: Final = 0.5

T = TypeVar("T")


class Signal(StrEnum):
    """A kind of telemetry, as OpenTelemetry names it."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"


class ItemCounters(NamedTuple):
    """The counters of items that were sent and lost."""

    sent: Counter
    queue_full: Counter
    unavailable: Counter
    stopped: Counter


class Exporter(Protocol):
    """Sends telemetry to one receiver."""

    def export(self, signal: Signal, items: Sequence[Any]) -> bool:
        """Send the items, and return whether they were taken. May block."""

    def close(self) -> None:
        """Abort the export in progress. Called from another thread."""


class Source(Protocol):
    """What the thread sends."""

    signal: Signal
    counters: ItemCounters

    def take(self) -> Sequence[Any]:
        """Return the next batch, which is empty if there is nothing to send now."""

    def __len__(self) -> int:
        """Return how many items wait."""


class Queue(Generic[T]):
    """Items that wait to be sent."""

    def __init__(self, signal: Signal, counters: ItemCounters, wake: threading.Event) -> None:
        self.signal = signal
        self.counters = counters
        self._items: deque[T] = deque(maxlen=QUEUE_ITEMS)
        self._wake = wake

    def put(self, item: T) -> None:
        """Add an item. Never blocks."""
        if len(self._items) == QUEUE_ITEMS:
            self.counters.queue_full.inc()
        self._items.append(item)
        if len(self._items) >= BATCH_ITEMS and not self._wake.is_set():
            self._wake.set()

    def take(self) -> list[T]:
        return [self._items.popleft() for _ in range(min(BATCH_ITEMS, len(self._items)))]

    def __len__(self) -> int:
        return len(self._items)


class Periodic(Generic[T]):
    """Items that are collected at an interval and sent at once."""

    def __init__(
        self, signal: Signal, counters: ItemCounters, collect: Callable[[], Sequence[T]], *, seconds: float
    ) -> None:
        self.signal = signal
        self.counters = counters
        self._collect = collect
        self._seconds = seconds
        self._due = 0.0

    def take(self) -> Sequence[T]:
        now = time.monotonic()
        if now < self._due:
            return ()
        self._due = now + self._seconds
        return self._collect()

    def __len__(self) -> int:
        return 0


class Sender:
    """Sends telemetry to one receiver, in a thread of its own."""

    def __init__(self, receiver: str, *, pause: float) -> None:
        """`receiver` is what the log calls it; `pause` is how long to leave it alone after a failure."""
        self._receiver = receiver
        self._pause = pause
        self._sources: list[Source] = []
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._closed = False
        self._unavailable = False
        self._running: tuple[threading.Thread, Exporter] | None = None

    def add_queue(self, signal: Signal, counters: ItemCounters) -> Queue[Any]:
        """Return a new queue, from which items are sent as soon as a batch is complete or some time has passed."""
        queue: Queue[Any] = Queue(signal, counters, self._wake)
        self._sources.append(queue)
        return queue

    def add_periodic(
        self, signal: Signal, counters: ItemCounters, collect: Callable[[], Sequence[Any]], *, seconds: float
    ) -> None:
        """Send what `collect` returns at this interval. It is called in the thread."""
        self._sources.append(Periodic(signal, counters, collect, seconds=seconds))

    def start(self, exporter: Exporter) -> None:
        """Begin to export."""
        # A daemon thread: a receiver that never responds must not keep the process alive.
        thread = threading.Thread(target=self._run, args=(exporter,), name=f"{self._receiver}-export", daemon=True)
        self._running = thread, exporter
        thread.start()

    def stop(self) -> None:
        """Export what is left, for at most `STOP_SECONDS`. Blocks."""
        if self._running is None:
            return
        thread, exporter = self._running
        self._stopping.set()
        self._wake.set()
        thread.join(STOP_SECONDS)
        self._closed = True
        exporter.close()
        for source in self._sources:
            if left := len(source):
                source.counters.stopped.inc(left)

    def _run(self, exporter: Exporter) -> None:
        stopping = False
        while not stopping:
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            # Read before the items are sent, so that all items from before the stop are sent.
            stopping = self._stopping.is_set()
            if not all(self._flush(source, exporter) for source in self._sources):
                self._stopping.wait(self._pause)

    def _flush(self, source: Source, exporter: Exporter) -> bool:
        """Export all that a source has. Return False at the first failure."""
        while not self._closed and (batch := source.take()):
            taken = self._export(source, batch, exporter)
            if taken is self._unavailable and not self._closed:
                self._unavailable = not taken
                if taken:
                    logger.info("the {} takes {} again", self._receiver, source.signal)
                else:
                    logger.warning(
                        "the {} does not take {}; what does not fit into the queue is lost",
                        self._receiver,
                        source.signal,
                    )
            if not taken:
                source.counters.unavailable.inc(len(batch))
                return False
            source.counters.sent.inc(len(batch))
        return True

    def _export(self, source: Source, batch: Sequence[Any], exporter: Exporter) -> bool:
        try:
            return exporter.export(source.signal, batch)
        except Exception:
            if not self._unavailable and not self._closed:
                logger.exception("{} cannot be sent to the {}", source.signal, self._receiver)
            return False
