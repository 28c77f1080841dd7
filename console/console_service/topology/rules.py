"""The state of a service as a whole."""

from collections.abc import Collection

from console_service.figures.rules import State


def combined(states: Collection[State]) -> State:
    """Return `up` if all replicas are, `down` if none is heard of, and `late` in between."""
    if all(state == "up" for state in states):
        return "up"
    return "down" if all(state == "down" for state in states) else "late"
