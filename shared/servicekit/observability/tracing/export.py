"""The queue and the thread between requests and collector: whatever the collector does, no request waits for it.

Spans that find the queue full push the oldest out. After a failure the thread pauses, so a collector that is away costs
this process one attempt every few seconds. All losses are counted.
"""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from loguru import logger
from prometheus_client import Counter

from servicekit.observability.tracing.spans import Span

QUEUE_SPANS: Final = 2048
# The thread shares the interpreter with the event loop, and encoding this many takes it about as long as one turn.
BATCH_SPANS: Final = 128
FLUSH_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 5.0
# What a worker's stop waits for the last spans. The application has three seconds for its whole shutdown.
STOP_SECONDS: Final = 0.5

EXPORTED: Final = Counter("service_tracing_spans_exported_total", "Spans that the collector has taken.")
_DROPPED: Final = Counter(
    "service_tracing_spans_dropped_total", "Spans that were lost, by what they were lost to.", ["reason"]
)
_QUEUE_FULL: Final = _DROPPED.labels("queue_full")
_COLLECTOR_AWAY: Final = _DROPPED.labels("collector_away")
_STOPPED: Final = _DROPPED.labels("stopped")


class Exporter(Protocol):
    """Sends spans to a collector."""

    def export(self, spans: Sequence[Span]) -> bool:
        """Send the spans, and return whether they were taken. May block; raises nothing."""

    def close(self) -> None:
        """Give up what is being sent, from another thread."""


class SpanQueue:
    """Takes ended spans on the event loop and exports them in a thread of its own."""

    def __init__(self) -> None:
        self._spans: deque[Span] = deque(maxlen=QUEUE_SPANS)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._closed = False
        self._away = False
        self._running: tuple[threading.Thread, Exporter] | None = None

    def put(self, span: Span) -> None:
        """Add an ended span. Never blocks."""
        if len(self._spans) == QUEUE_SPANS:
            _QUEUE_FULL.inc()
        self._spans.append(span)
        if len(self._spans) >= BATCH_SPANS and not self._wake.is_set():
            self._wake.set()

    def start(self, exporter: Exporter) -> None:
        """Begin to export."""
        # A daemon: a collector that never answers must not keep the process.
        thread = threading.Thread(target=self._run, args=(exporter,), name="span-export", daemon=True)
        self._running = thread, exporter
        thread.start()

    def stop(self) -> None:
        """Export what is left, for `STOP_SECONDS` at most. Blocks."""
        if self._running is None:
            return
        thread, exporter = self._running
        self._stopping.set()
        self._wake.set()
        thread.join(STOP_SECONDS)
        self._closed = True
        exporter.close()
        if left := len(self._spans):
            _STOPPED.inc(left)

    def _run(self, exporter: Exporter) -> None:
        stopping = False
        while not stopping:
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            # Asked before the spans are sent: those that came before the stop are all sent.
            stopping = self._stopping.is_set()
            if not self._flush(exporter):
                self._stopping.wait(PAUSE_SECONDS)

    def _flush(self, exporter: Exporter) -> bool:
        """Export all that waits, and return false at the first failure."""
        while self._spans and not self._closed:
            batch = [self._spans.popleft() for _ in range(min(BATCH_SPANS, len(self._spans)))]
            if not exporter.export(batch):
                _COLLECTOR_AWAY.inc(len(batch))
                if not self._away:
                    self._away = True
                    logger.warning("the collector does not take spans; those that do not fit into the queue are lost")
                return False
            EXPORTED.inc(len(batch))
            if self._away:
                self._away = False
                logger.info("the collector takes spans again")
        return True
