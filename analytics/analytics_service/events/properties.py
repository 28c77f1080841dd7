"""Validates the properties of an event: a small JSON object of limited depth that BSON can store.

These are refused: keys that begin with `$` (the driver reads `{"$ref": …}` as a reference), NUL in a key (BSON ends a
key with it), integers beyond 64 bits, infinite numbers and NaN, and lone surrogates.
https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
"""

import math
from collections.abc import Iterator
from itertools import count
from typing import Any, Final

import orjson

MAX_BYTES: Final = 8 * 1024
MAX_DEPTH: Final = 8
_TOO_LONG: Final = f"must not be longer than {MAX_BYTES} bytes as JSON"
_INTEGERS: Final = range(-(2**63), 2**63)


def validate_properties(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the properties. Raises `ValueError`, whose text never quotes them."""
    if not properties:
        return properties
    _check(properties, depth=1, budget=count(MAX_BYTES, -1))
    try:
        size = len(orjson.dumps(properties))
    except TypeError:
        raise ValueError("text must be valid Unicode") from None
    if size > MAX_BYTES:
        raise ValueError(_TOO_LONG)
    return properties


def _check(value: Any, depth: int, budget: Iterator[int]) -> None:
    # Each value has at least one byte as JSON.
    if not next(budget):
        raise ValueError(_TOO_LONG)
    # In the order of frequency: a batch has thousands of values.
    if isinstance(value, str):
        return
    if isinstance(value, int):
        if value not in _INTEGERS:
            raise ValueError("integers must fit into 64 bits")
    elif isinstance(value, dict):
        _check_depth(depth)
        for key, inner in value.items():
            if key.startswith("$") or "\0" in key:
                raise ValueError("keys must not begin with $ nor contain NUL")
            _check(inner, depth + 1, budget)
    elif isinstance(value, list):
        _check_depth(depth)
        for inner in value:
            _check(inner, depth + 1, budget)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("numbers must be finite")


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"must not be nested deeper than {MAX_DEPTH} levels")
