"""What a service sends while it runs: spans to a collector; spans, log lines and metrics to the console."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import psutil
from prometheus_client import Counter, Gauge

from servicekit.core.settings import ServiceSettings
from servicekit.observability import logs, metrics
from servicekit.observability.console import ConsoleExporter
from servicekit.observability.sender import Exporter, ItemCounters, Sender, Signal
from servicekit.observability.tracing.service import Tracing
from servicekit.observability.tracing.spans import Sink, Span, send_background_to

COLLECTOR_PAUSE_SECONDS = 5.0
# The console calls a replica late that has been silent for five seconds.
CONSOLE_PAUSE_SECONDS = 1.0
METRICS_SECONDS = 2.0

_STARTED: Final = Gauge(
    "service_process_start_time_seconds",
    "When the replica started, in seconds since the epoch. A worker that was replaced does not change it.",
    multiprocess_mode="livemin",
)
_EXPORTED: Final = Counter("service_tracing_spans_exported_total", "Spans that the collector has taken.")
_DROPPED: Final = Counter("service_tracing_spans_dropped_total", "Spans that were lost, by reason.", ["reason"])
_SENT: Final = Counter("service_telemetry_sent_total", "Spans, log lines and metrics sent to the console.", ["signal"])
_LOST: Final = Counter(
    "service_telemetry_dropped_total",
    "Spans, log lines and metrics that the console did not get: queue_full, unavailable, stopped.",
    ["signal", "reason"],
)


class Telemetry:
    """What one application sends. Without a receiver it does nothing."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._senders: list[tuple[Sender, Callable[[], Exporter]]] = []
        self._settings = settings
        self._log_sink: Callable[[bytes], None] | None = None
        sinks: list[Sink] = []
        if settings.otel_exporter_otlp_endpoint is not None:
            sinks.append(self._add_collector())
        if settings.console_url is not None:
            sinks.append(self._add_console())
        self._sink = _both(*sinks) if len(sinks) > 1 else sinks[0] if sinks else None
        ratio = settings.otel_traces_sampler_arg
        if ratio is None and settings.console_url is None:
            ratio = 1.0
        self.tracing = Tracing(self._sink, ratio=ratio)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send while the context is open. Enter it in the worker: a thread does not survive a fork."""
        _STARTED.set(_start_of_replica())
        if not self._senders:
            yield
            return
        for sender, connect in self._senders:
            # Importing OpenTelemetry takes a while.
            sender.start(await asyncio.to_thread(connect))
        send_background_to(self._sink)
        logs.forward_to(self._log_sink)
        try:
            yield
        finally:
            logs.forward_to(None)
            send_background_to(None)
            await asyncio.gather(*(asyncio.to_thread(sender.stop) for sender, _ in self._senders))

    def _add_collector(self) -> Sink:
        sender = Sender("collector", pause=COLLECTOR_PAUSE_SECONDS)
        self._senders.append((sender, self._connect_collector))
        reasons = (_DROPPED.labels(reason) for reason in ("queue_full", "collector_away", "stopped"))
        return sender.add_queue(Signal.TRACES, ItemCounters(_EXPORTED, *reasons)).put

    def _connect_collector(self) -> Exporter:
        from servicekit.observability.tracing.otlp import OtlpExporter

        return OtlpExporter(
            str(self._settings.otel_exporter_otlp_endpoint),
            service=self._settings.service_name,
            environment=self._settings.environment,
        )

    def _add_console(self) -> Sink:
        sender = Sender("console", pause=CONSOLE_PAUSE_SECONDS)
        self._senders.append((sender, self._connect_console))
        self._log_sink = sender.add_queue(Signal.LOGS, _console_counters(Signal.LOGS)).put
        collect = metrics.collect_own
        sender.add_periodic(Signal.METRICS, _console_counters(Signal.METRICS), collect, seconds=METRICS_SECONDS)
        return sender.add_queue(Signal.TRACES, _console_counters(Signal.TRACES)).put

    def _connect_console(self) -> Exporter:
        replica = self._settings.log_name or socket.gethostname()
        return ConsoleExporter(
            str(self._settings.console_url),
            service=self._settings.service_name,
            instance=f"{replica}/{os.getpid()}",
        )


def _start_of_replica() -> float:
    """Return when gunicorn's master started, or this process if it has no master."""
    process = psutil.Process()
    # gunicorn sets it in its master, and workers inherit it.
    master = process.parent() if "SERVER_SOFTWARE" in os.environ else None
    return (master or process).create_time()


def _console_counters(signal: Signal) -> ItemCounters:
    reasons = (_LOST.labels(signal, reason) for reason in ("queue_full", "unavailable", "stopped"))
    return ItemCounters(_SENT.labels(signal), *reasons)


def _both(one: Sink, other: Sink) -> Sink:
    def put(span: Span) -> None:
        one(span)
        other(span)

    return put
