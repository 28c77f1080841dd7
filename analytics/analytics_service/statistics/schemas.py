"""Statistics in responses."""

from datetime import datetime

from pydantic import BaseModel


class Stats(BaseModel):
    """The totals of all recorded events."""

    total: int
    by_type: dict[str, int]
    unique_users: int
    # At most a second old. Null when the user service does not tell it; the reason says why.
    user_count: int | None
    user_count_reason: str | None


class Point(BaseModel):
    """The number of events from `start` to the start of the next point."""

    start: datetime
    count: int


class SeriesOut(BaseModel):
    """All points in the order of time, including those without events."""

    items: list[Point]
