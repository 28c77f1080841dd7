"""What routes get from the application that serves them."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from console_service.intake.telemetry import Telemetry
from console_service.logs.queries import LogQueries
from console_service.overview.queries import OverviewQueries
from console_service.requests.queries import RequestQueries
from console_service.sessions.actions import SessionActions
from console_service.stream.counter import OpenStreams
from console_service.stream.feed import Snapshots


@dataclass(frozen=True, slots=True)
class Components:
    """What the routes of this service call; `create_app` builds it once."""

    telemetry: Telemetry
    session_actions: SessionActions
    overview_queries: OverviewQueries
    request_queries: RequestQueries
    log_queries: LogQueries
    snapshots: Snapshots
    streams: OpenStreams


def components_of(request: Request) -> Components:
    """Return the components of the application that serves a request."""
    components: Components = request.app.state.components
    return components


async def _components(request: Request) -> Components:
    return components_of(request)


AppComponents = Annotated[Components, Depends(_components)]
