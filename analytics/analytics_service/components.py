"""What routes get from the application that serves them."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from analytics_service.events.actions import EventActions
from analytics_service.events.queries import EventQueries
from analytics_service.statistics.queries import OwnStatisticsQueries, StatisticsQueries


@dataclass(frozen=True, slots=True)
class Components:
    """What the routes of this service call; `create_app` builds it once."""

    event_actions: EventActions
    event_queries: EventQueries
    statistics_queries: StatisticsQueries
    own_statistics_queries: OwnStatisticsQueries


async def _components(request: Request) -> Components:
    components: Components = request.app.state.components
    return components


AppComponents = Annotated[Components, Depends(_components)]
