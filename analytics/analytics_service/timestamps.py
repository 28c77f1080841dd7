"""Times as clients write them."""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

from servicekit.web.pagination import Instant

_DATE_AND_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")


def _spelled_out(value: Any) -> Any:
    # Without this, pydantic would also take numbers, as seconds or milliseconds since 1970.
    if not isinstance(value, datetime) and not (isinstance(value, str) and _DATE_AND_TIME.match(value)):
        raise ValueError("must be a date and time with its offset, such as 2026-01-31T12:00:00Z")
    return value


Moment = Annotated[Instant, BeforeValidator(_spelled_out)]
"""An RFC 3339 time, in UTC. One without an offset is refused: it would mean another moment to everybody."""
