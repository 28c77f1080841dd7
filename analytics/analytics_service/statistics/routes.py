"""`/api/v1/analytics/stats`."""

from typing import Annotated

from fastapi import APIRouter, Query

from analytics_service.statistics.queries import StatisticsQueries
from analytics_service.statistics.rules import Interval, series_of
from analytics_service.statistics.schemas import SeriesOut, Stats
from analytics_service.timestamps import Moment
from servicekit.auth.access_tokens import CurrentUser
from servicekit.core.clock import Clock
from servicekit.web.dependencies import provided

router = APIRouter(prefix="/api/v1/analytics/stats", tags=["statistics"])


Queries = Annotated[StatisticsQueries, provided("statistics_queries")]


@router.get("")
async def stats(_user: CurrentUser, queries: Queries) -> Stats:
    """Return how many events and users there are on the whole platform."""
    return await queries.stats()


@router.get("/series")
async def series(
    _user: CurrentUser,
    queries: Queries,
    clock: Annotated[Clock, provided("clock")],
    interval: Annotated[Interval, Query()] = Interval.HOUR,
    type_: Annotated[str | None, Query(alias="type", max_length=64, description="All types, if absent.")] = None,
    since: Annotated[Moment | None, Query(description="60 minutes, 24 hours or 30 days back, if absent.")] = None,
    until: Annotated[Moment | None, Query(description="Now, if absent.")] = None,
) -> SeriesOut:
    """Return the number of events per minute, hour or day (UTC), at most 1,440 points. Empty ones are there, too."""
    return await queries.series(series_of(interval, since, until, now=clock()), type_ or None)
