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
    """Return each pair with the key that seals, the key's age, and which key each replica has loaded."""
    loaded: dict[str, dict[str, str]] = defaultdict(dict)
    sealing: dict[str, str] = {}
    for replica in replicas:
        for process in replica.living(now):
            for key, value in process.gauges.items():
                if key[0] != KEY_STATE or "--" not in key[1] or value <= 0:
                    continue
                _, pair, key_id = key
                if value == IN_USE:
                    loaded[pair][replica.origin.replica] = sealing[pair] = key_id
                elif sealing.get(pair) == key_id or replica.origin.replica not in loaded[pair]:
                    loaded[pair][replica.origin.replica] = key_id
    pairs = []
    for pair, by_replica in sorted(loaded.items()):
        key_id = sealing.get(pair) or max(by_replica.values())
        pairs.append(
            {
                "pair": pair,
                "key_id": key_id,
                "age_seconds": age_of(key_id, now),
                "loaded_by": dict(sorted(by_replica.items())),
            }
        )
    return pairs


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
