"""What single values of metrics mean."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

_BREAKER_STATES: Final = ("closed", "half-open", "open")


def store_state(values: Sequence[float]) -> str:
    """Return the state of a store. Each process reports 1 or 0."""
    if all(values):
        return "up"
    return "late" if any(values) else "down"


def breaker_state(value: float) -> str:
    """Return the name of a circuit breaker's state."""
    return _BREAKER_STATES[min(2, max(0, int(value)))]


def release_of(weights: Mapping[tuple[str, str], float]) -> dict[str, Any] | None:
    """Return the service whose second version gets requests, and their share in per cent."""
    for (service, version), weight in sorted(weights.items()):
        if version in ("v2", "2") and weight > 0:
            return {"service": service, "weight": round(weight, 2)}
    return None
