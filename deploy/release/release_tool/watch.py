"""When a release must not go on: decisions over what the gateway's log and the replicas show."""

from collections.abc import Collection, Iterable

from release_tool.canary import Window
from release_tool.compose import Container

# The new version may fail this much more of its requests than the old one does.
MORE_ERRORS = 0.01
# Before a step's end a share of few requests says little; so many failures need no waiting.
MANY_ERRORS = 5
# The new version may be this much slower.
SLOWER_FACTOR = 2.0
SLOWER_SECONDS = 0.1
# On a busy machine times vary from moment to moment. So much more is borne in the middle of a step, which is looked at
# many times, and where the old version's times are those of another moment.
UNCERTAIN = 2.0
# Fewer requests say nothing about the slowest twentieth of them.
ENOUGH_FOR_P95 = 50


def complaint(candidate: Window, stable: Window, *, final: bool, same_time: bool = True) -> str | None:
    """Return why the new version must not get more traffic, or None.

    `final`: the step is over. `same_time`: both windows are of the same moments.
    """
    # A failure among few requests says nothing while the old version fails some, too.
    enough = 1 if final and not stable.errors else MANY_ERRORS
    tolerance = 1.0 if final and same_time else UNCERTAIN
    return _errors(candidate, stable, enough) or _latency(candidate, stable, tolerance)


def _errors(candidate: Window, stable: Window, enough: int) -> str | None:
    if candidate.errors < enough or candidate.error_share <= stable.error_share + MORE_ERRORS:
        return None
    return (
        f"v2 failed {candidate.errors} of {candidate.requests} requests ({candidate.error_share:.1%}), "
        f"v1 {stable.errors} of {stable.requests} ({stable.error_share:.1%})"
    )


def _latency(candidate: Window, stable: Window, tolerance: float) -> str | None:
    if min(len(candidate.seconds), len(stable.seconds)) < ENOUGH_FOR_P95:
        return None
    if candidate.p95 is None or stable.p95 is None:
        return None
    if candidate.p95 <= tolerance * (SLOWER_FACTOR * stable.p95 + SLOWER_SECONDS):
        return None
    return (
        f"v2 is slow: 95 % of its requests within {milliseconds(candidate)} ms, v1's within {milliseconds(stable)} ms"
    )


def unwell(replicas: Iterable[Container], expected: Collection[str]) -> str | None:
    """Return which of the expected replicas, by id, is gone, was restarted or fails its health check, or None."""
    seen = {replica.id: replica for replica in replicas}
    for known in expected:
        replica = seen.get(known)
        if replica is None:
            return f"a replica of v2 is gone ({known[:12]})"
        if replica.broken:
            return f"{replica.name} is {replica.state}" if not replica.healthy else f"{replica.name} was restarted"
    return None


def milliseconds(window: Window) -> str:
    """Return a window's p95 for a table, `-` when there is none."""
    return "-" if window.p95 is None else f"{window.p95 * 1000:.0f}"
