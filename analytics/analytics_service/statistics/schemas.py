"""Statistics as they are answered."""

from datetime import datetime

from pydantic import BaseModel


class Stats(BaseModel):
    """Everything that was recorded so far."""

    total: int
    by_type: dict[str, int]
    unique_users: int
    # Null when the user service gives no answer; then the reason says why.
    user_count: int | None
    user_count_reason: str | None


class Point(BaseModel):
    """The events from `start` to the start of the next point."""

    start: datetime
    count: int


class SeriesOut(BaseModel):
    """All points in the order of time, also those without events."""

    items: list[Point]
