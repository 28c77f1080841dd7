"""`/api/v1/analytics/stats`."""

from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.responses import Response

from analytics_service.components import AppComponents
from analytics_service.statistics.rules import Interval, RangeOfAll, Scope
from analytics_service.statistics.schemas import SeriesOut, Stats
from servicekit.auth.access_tokens import CurrentUser
from servicekit.auth.scopes import requires_scope
from servicekit.web.responses import json_response
from servicekit.web.timestamps import Timestamp

router = APIRouter(prefix="/api/v1/analytics/stats", tags=["statistics"])
READ: Final = requires_scope("analytics:read")
WantedScope = Annotated[Scope, Query(description="The events of all users, or your own.")]


@router.get("", response_model=Stats, dependencies=[READ])
async def read_statistics(
    user: CurrentUser,
    components: AppComponents,
    scope: WantedScope = Scope.ALL,
    since: Annotated[Timestamp | None, Query(description="From this time on. Needs `scope=own`.")] = None,
    until: Annotated[Timestamp | None, Query(description="Before this time. Needs `scope=own`.")] = None,
) -> Response:
    """Return the numbers of events and users of the whole platform, or of your own events."""
    if scope is Scope.OWN:
        return json_response(await components.own_statistics_queries.stats(user.id, since, until))
    if since is not None or until is not None:
        raise RangeOfAll
    return json_response(await components.statistics_queries.stats())


@router.get("/series", response_model=SeriesOut, dependencies=[READ])
async def read_series(
    user: CurrentUser,
    components: AppComponents,
    scope: WantedScope = Scope.ALL,
    interval: Annotated[Interval, Query()] = Interval.HOUR,
    type_: Annotated[str | None, Query(alias="type", max_length=64, description="All types, if absent.")] = None,
    since: Annotated[Timestamp | None, Query(description="60 minutes, 24 hours or 30 days back, if absent.")] = None,
    until: Annotated[Timestamp | None, Query(description="Now, if absent.")] = None,
) -> Response:
    """Return the number of events per minute, hour or day (UTC), at most 1,440 points, including empty ones."""
    if scope is Scope.OWN:
        own = components.own_statistics_queries
        return json_response(await own.series(user.id, interval, since, until, type_ or None))
    return json_response(await components.statistics_queries.series(interval, since, until, type_ or None))
