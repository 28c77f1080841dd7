"""What processes report about the keys between services."""

import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from console_service.figures.metrics import KEY_STATE
from console_service.figures.replicas import Replica

# The value of `service_key_state` for the key that seals.
IN_USE: Final = 2
_DATE: Final = re.compile(r"(\d{8})-")


def pairs_of(replicas: Iterable[Replica], now: float) -> list[dict[str, Any]]:
    """Return each pair with its newest key in use, the key's age, and which key each replica has loaded."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for replica in replicas:
        for process in replica.living(now):
            for key, value in process.gauges.items():
                if key[0] == KEY_STATE and "--" in key[1] and value > 0:
                    _, pair, key_id = key
                    # Callees hold a key without using it to seal; the newest one is what they were given last.
                    known = found[pair].get(replica.origin.replica)
                    if known is None or value == IN_USE or key_id > known:
                        found[pair][replica.origin.replica] = key_id
    return [
        {
            "pair": pair,
            "key_id": max(loaded.values()),
            "age_seconds": age_of(max(loaded.values()), now),
            "loaded_by": dict(sorted(loaded.items())),
        }
        for pair, loaded in sorted(found.items())
    ]


def keys_of(replicas: Iterable[Replica], now: float) -> list[dict[str, Any]]:
    """Return the pairs with the ages of their keys."""
    return [{"pair": each["pair"], "age_seconds": each["age_seconds"]} for each in pairs_of(replicas, now)]


def age_of(key_id: str, now: float) -> int | None:
    """Return the age of a key by the day that its id begins with, or None if it begins with none."""
    found = _DATE.match(key_id)
    try:
        day = datetime.strptime(found[1], "%Y%m%d").replace(tzinfo=UTC) if found else None
    except ValueError:
        return None
    return max(0, int(now - day.timestamp())) if day else None
