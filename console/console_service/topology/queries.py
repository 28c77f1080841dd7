"""Services and stores as a drawing: who calls whom, how often, and how well."""

from collections import defaultdict
from typing import Any, Final

from console_service.figures.metrics import GATEWAY, Edge
from console_service.figures.rules import State, milliseconds, quantile
from console_service.intake.telemetry import STORES, Telemetry
from console_service.overview.queries import store_states
from console_service.topology.rules import combined

# Of full steps, so that the current one, which is not over, does not look like fewer calls.
SECONDS: Final = 60.0
# An edge whose calls were sealed this long ago counts as sealed.
SEALED_SECONDS: Final = 15 * 60.0


class TopologyQueries:
    """Reads edges and replicas."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def map(self) -> dict[str, Any]:
        now = self._telemetry.now()
        states: dict[str, list[State]] = defaultdict(list)
        for replica in self._telemetry.replicas:
            states[replica.origin.service].append(replica.state(now))
        stores = {each["name"]: each["state"] for each in store_states(self._telemetry.replicas, now)}
        edges = [edge for edge in self._edges(now) if edge["from"] in states]
        for edge in edges:
            target = edge["to"]
            if target in STORES.values():
                stores.setdefault(target, "up")
            elif target not in states:
                # It is called, but sends nothing.
                states[target] = ["down"]
        nodes = [
            {"id": service, "kind": "gateway" if service == GATEWAY else "service", "state": combined(found)}
            for service, found in sorted(states.items())
        ]
        nodes += [{"id": store, "kind": "store", "state": state} for store, state in sorted(stores.items())]
        return {"nodes": nodes, "edges": edges}

    def _edges(self, now: float) -> list[dict[str, Any]]:
        windows = self._telemetry.metrics.by_edge
        last = windows.step_at(now)
        steps = int(SECONDS / windows.step_seconds)
        edges = []
        for window in windows:
            total = window.sum(last - steps, last)
            current = window.sum(last)
            if not total.calls and not current.calls:
                continue
            edge: Edge = window.key
            edges.append(
                {
                    "from": edge.origin,
                    "to": edge.target,
                    "calls_per_second": round(total.calls / SECONDS, 3),
                    "failures_per_second": round(total.failures / SECONDS, 3),
                    "p95_ms": milliseconds(quantile(total.bounds, total.buckets, 0.95)),
                    "sealed": now - self._telemetry.metrics.sealed.get(edge, float("-inf")) < SEALED_SECONDS,
                }
            )
        return sorted(edges, key=lambda each: (each["from"], each["to"]))
