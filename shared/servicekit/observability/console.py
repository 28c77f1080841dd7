"""Export to the console: OTLP over HTTP as JSON, by one kept-alive connection."""

import http.client
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from servicekit.observability import otlp_json
from servicekit.observability.sender import Signal

# Bounds each wait for the console.
EXPORT_SECONDS: Final = 2.0
_HEADERS: Final = {"Content-Type": "application/json"}


class ConsoleExporter:
    """An `Exporter` that sends to the console."""

    def __init__(self, url: str, *, service: str, instance: str) -> None:
        """`url` is the console's base URL; `instance` names this process among those of all replicas."""
        parts = urlsplit(url)
        connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = connection(parts.netloc, timeout=EXPORT_SECONDS)
        self._path = parts.path.rstrip("/")
        resource = {"service.name": service, "service.instance.id": instance}
        self._resource = orjson.Fragment(orjson.dumps({"attributes": otlp_json.attributes(resource)}))
        # Figures are counted from here.
        self._started = self._exported = time.time_ns()

    def export(self, signal: Signal, items: Sequence[Any]) -> bool:
        """Send the items. Return whether the console accepted them."""
        return self._post(f"{self._path}/v1/{signal}", self._encode(signal, items))

    def close(self) -> None:
        """Abort the export in progress."""
        sock = self._connection.sock
        if sock is not None:
            # It ends the wait of another thread; to close the socket alone does not.
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _encode(self, signal: Signal, items: Sequence[Any]) -> bytes:
        if signal is Signal.TRACES:
            return otlp_json.encode_spans(self._resource, items)
        if signal is Signal.LOGS:
            return otlp_json.encode_logs(self._resource, items)
        since, self._exported = self._exported, time.time_ns()
        return otlp_json.encode_metrics(
            self._resource, items, started=self._started, now=self._exported, exemplars_since=since
        )

    def _post(self, path: str, body: bytes) -> bool:
        kept = self._connection.sock is not None
        try:
            self._connection.request("POST", path, body, _HEADERS)
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            # The console may have closed a kept connection, for example by a restart.
            return kept and isinstance(error, ConnectionError) and self._post(path, body)
        return response.status == 200
