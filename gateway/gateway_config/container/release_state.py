"""Which services are being released, and with what share: `release.json`, `{"notes": {"weight": 25}}`."""

import json
from collections.abc import Mapping
from pathlib import Path

from gateway_config.files import replace_file


class ReleaseStateError(ValueError):
    """The file is none that this module wrote."""


def read_weights(path: Path) -> dict[str, int]:
    """Return the weight of each service in release; none when the file is missing or empty.

    Raises `ReleaseStateError`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        weights = {name: release["weight"] for name, release in json.loads(text or "{}").items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ReleaseStateError(f"{path} is no state of releases; remove it to end them all") from error
    if wrong := [weight for weight in weights.values() if type(weight) is not int or weight not in range(101)]:
        raise ReleaseStateError(f"{path} names the weight {wrong[0]!r}, and weights are whole numbers from 0 to 100")
    return weights


def write_weights(path: Path, weights: Mapping[str, int]) -> None:
    """Replace the file whole."""
    replace_file(path, state_text(weights) + "\n")


def state_text(weights: Mapping[str, int]) -> str:
    """Return the state as the file holds it and `traffic` prints it."""
    return json.dumps({name: {"weight": weight} for name, weight in weights.items()})
