"""Arithmetic of cumulative metrics, and the state of a replica."""

from collections.abc import Sequence
from typing import Final, Literal

State = Literal["up", "late", "down"]

# Every process sends its metrics every two seconds.
LATE_SECONDS: Final = 5.0
DOWN_SECONDS: Final = 8.0
FORGOTTEN_SECONDS: Final = 15 * 60.0
# Two starts this close are one, reported with rounding.
SAME_START_SECONDS: Final = 1.0


def state_of(silent_seconds: float) -> State:
    """Return the state of a replica that was heard of this long ago."""
    if silent_seconds < LATE_SECONDS:
        return "up"
    return "late" if silent_seconds < DOWN_SECONDS else "down"


def is_restart(known_start: float, reported_start: float) -> bool:
    """Return whether a replica's reported start means that it was started again."""
    return reported_start > known_start + SAME_START_SECONDS


def increase(before: Sequence[float] | None, after: Sequence[float]) -> Sequence[float]:
    """Return by how much cumulative values grew. After a reset they began at zero; so did unknown ones."""
    if before is None or len(before) != len(after) or any(map(float.__lt__, map(float, after), map(float, before))):
        return after
    return [new - old for new, old in zip(after, before, strict=True)]


def quantile(bounds: Sequence[float], counts: Sequence[float], share: float) -> float | None:
    """Return the value below which this share of observations lies, or None without observations.

    It is interpolated within its bucket, like Prometheus's `histogram_quantile`. In the last bucket, which has no upper
    bound, it is the highest bound.
    """
    total = sum(counts)
    if total <= 0 or not bounds:
        return None
    rank, below, lower = share * total, 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count > 0 and below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below += count
        lower = bound
    return bounds[-1]


def bucket_of(bounds: Sequence[float], value: float) -> int:
    """Return the number of the bucket that a value falls into."""
    return next((number for number, bound in enumerate(bounds) if value <= bound), len(bounds))


def milliseconds(seconds: float | None) -> float | None:
    """Return a latency as the API has it."""
    return None if seconds is None else round(seconds * 1000, 2)
