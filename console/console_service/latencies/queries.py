"""Rates, latencies and errors of routes, now and over time."""

from typing import Any, Final

from console_service.figures.metrics import RouteKey
from console_service.figures.rules import milliseconds, quantile
from console_service.figures.windows import Sum
from console_service.intake.telemetry import Telemetry

MAX_ROUTES: Final = 100
MAX_EXEMPLARS: Final = 5
_SHARES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class LatencyQueries:
    """Reads the windows of routes."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def routes(self, minutes: int) -> dict[str, Any]:
        """Return the busiest routes of the last minutes, with their course in steps of ten seconds."""
        windows = self._telemetry.metrics.by_route
        now = self._telemetry.now()
        # The current step is not over.
        last = windows.step_at(now)
        first = last - int(minutes * 60 / windows.step_seconds)
        found = [(window, total) for window in windows if (total := window.sum(first, last)).calls]
        found = sorted(found, key=lambda each: each[1].calls, reverse=True)[:MAX_ROUTES]
        seconds = minutes * 60
        at = [int(step * windows.step_seconds * 1000) for step in range(first, last)]
        series: dict[str, dict[str, list[float | None]]] = {}
        for window, _ in found:
            course = _empty(last - first)
            for step, each in window.each(first):
                if step < last:
                    _fill(course, step - first, each, windows.step_seconds)
            series[_label(window.key)] = course
        return {
            "routes": [self._route(window.key, total, seconds, now) for window, total in found],
            "series": {"at": at, "routes": series},
        }

    def _route(self, key: RouteKey, total: Sum, seconds: float, now: float) -> dict[str, Any]:
        since = (now - seconds) * 1000
        traced = [each for each in self._telemetry.exemplars.get(key, ()) if each.at >= since]
        slowest = sorted(traced, key=lambda each: each.ms, reverse=True)[:MAX_EXEMPLARS]
        return {
            "service": key.service,
            "method": key.method,
            "route": key.route,
            "requests_per_second": round(total.calls / seconds, 3),
            "error_ratio": round(total.failures / total.calls, 5),
            **{f"{name}_ms": _percentile(total, share) for name, share in _SHARES.items()},
            "exemplars": [each._asdict() for each in slowest],
        }


def _label(key: RouteKey) -> str:
    return " ".join(part for part in key if part)


def _percentile(total: Sum, share: float) -> float | None:
    return milliseconds(quantile(total.bounds, total.buckets, share))


def _empty(steps: int) -> dict[str, list[float | None]]:
    # Without requests there is no latency, which is not a latency of zero.
    course: dict[str, list[float | None]] = {name: [None] * steps for name in _SHARES}
    return {"rate": [0.0] * steps, "errors": [0.0] * steps, **course}


def _fill(course: dict[str, list[float | None]], number: int, step: Sum, seconds: float) -> None:
    course["rate"][number] = round(step.calls / seconds, 3)
    course["errors"][number] = round(step.failures / seconds, 3)
    for name, share in _SHARES.items():
        course[name][number] = _percentile(step, share)
