"""The queue and the thread between requests and collector. No request ever waits for the collector.

When the queue is full, a new span replaces the oldest. After a failure the thread pauses, so an unavailable collector
costs one attempt every few seconds. All losses are counted.
"""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from loguru import logger
from prometheus_client import Counter

from servicekit.observability.tracing.spans import Span

QUEUE_SPANS: Final = 2048
# The thread shares the interpreter with the event loop. Encoding a batch takes about as long as one thread switch.
BATCH_SPANS: Final = 128
FLUSH_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 5.0
# How long a stopping worker waits for the last spans. The application has three seconds for its whole shutdown.
STOP_SECONDS: Final = 0.5

EXPORTED: Final = Counter("service_tracing_spans_exported_total", "Spans that the collector has taken.")
_DROPPED: Final = Counter("service_tracing_spans_dropped_total", "Spans that were lost, by reason.", ["reason"])
_QUEUE_FULL: Final = _DROPPED.labels("queue_full")
_COLLECTOR_UNAVAILABLE: Final = _DROPPED.labels("collector_away")
_STOPPED: Final = _DROPPED.labels("stopped")


class Exporter(Protocol):
    """Sends spans to a collector."""

    def export(self, spans: Sequence[Span]) -> bool:
        """Send the spans, and return whether they were taken. May block; raises nothing."""

    def close(self) -> None:
        """Abort the export in progress. Called from another thread."""


class SpanQueue:
    """Takes ended spans on the event loop and exports them in a thread of its own."""

    def __init__(self) -> None:
        self._spans: deque[Span] = deque(maxlen=QUEUE_SPANS)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._closed = False
        self._unavailable = False
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
        # A daemon thread: a collector that never responds must not keep the process alive.
        thread = threading.Thread(target=self._run, args=(exporter,), name="span-export", daemon=True)
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
        if left := len(self._spans):
            _STOPPED.inc(left)

    def _run(self, exporter: Exporter) -> None:
        stopping = False
        while not stopping:
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            # Read before the spans are sent, so that all spans from before the stop are sent.
            stopping = self._stopping.is_set()
            if not self._flush(exporter):
                self._stopping.wait(PAUSE_SECONDS)

    def _flush(self, exporter: Exporter) -> bool:
        """Export the whole queue. Return False at the first failure."""
        while self._spans and not self._closed:
            batch = [self._spans.popleft() for _ in range(min(BATCH_SPANS, len(self._spans)))]
            if not exporter.export(batch):
                _COLLECTOR_UNAVAILABLE.inc(len(batch))
                if not self._unavailable:
                    self._unavailable = True
                    logger.warning("the collector does not take spans; those that do not fit into the queue are lost")
                return False
            EXPORTED.inc(len(batch))
            if self._unavailable:
                self._unavailable = False
                logger.info("the collector takes spans again")
        return True
