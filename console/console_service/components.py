"""What routes get from the application that serves them."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from console_service.accounts.actions import AccountActions
from console_service.audit.actions import AuditTrail
from console_service.data.queries import DataQueries
from console_service.events.queries import EventQueries
from console_service.intake.telemetry import Telemetry
from console_service.keys.actions import KeyActions
from console_service.keys.queries import KeyQueries
from console_service.latencies.queries import LatencyQueries
from console_service.logs.queries import LogQueries
from console_service.mail.queries import MailQueries
from console_service.overview.queries import OverviewQueries
from console_service.requests.queries import RequestQueries
from console_service.sessions.actions import SessionActions
from console_service.stream.counter import OpenStreams
from console_service.stream.feed import Snapshots
from console_service.topology.queries import TopologyQueries


@dataclass(frozen=True, slots=True)
class Components:
    """What the routes of this service call; `create_app` builds it once."""

    telemetry: Telemetry
    session_actions: SessionActions
    overview_queries: OverviewQueries
    request_queries: RequestQueries
    log_queries: LogQueries
    topology_queries: TopologyQueries
    latency_queries: LatencyQueries
    account_actions: AccountActions
    audit_trail: AuditTrail
    data_queries: DataQueries
    event_queries: EventQueries
    mail_queries: MailQueries
    key_queries: KeyQueries
    key_actions: KeyActions
    snapshots: Snapshots
    streams: OpenStreams


def components_of(request: Request) -> Components:
    """Return the components of the application that serves a request."""
    components: Components = request.app.state.components
    return components


async def _components(request: Request) -> Components:
    return components_of(request)


AppComponents = Annotated[Components, Depends(_components)]
