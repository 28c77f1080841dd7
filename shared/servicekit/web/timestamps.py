"""Timestamps in requests."""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

from servicekit.web.pagination import Instant

_DATE_AND_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")


def _require_date_and_time(value: Any) -> Any:
    # Otherwise pydantic would also accept numbers, as seconds or milliseconds since 1970.
    if not isinstance(value, datetime) and not (isinstance(value, str) and _DATE_AND_TIME.match(value)):
        raise ValueError("must be a date and time with its offset, such as 2026-01-31T12:00:00Z")
    return value


Timestamp = Annotated[Instant, BeforeValidator(_require_date_and_time)]
"""An RFC 3339 timestamp, converted to UTC. It must have an offset, without which it would be ambiguous."""
