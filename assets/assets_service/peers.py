"""Which services are told about this service's domain events."""

from typing import Final

from assets_service.domain_events import ASSET_UPLOADED
from servicekit.outbox import Subscription, Subscriptions, as_analytics_event

SUBSCRIPTIONS: Final = Subscriptions(
    {ASSET_UPLOADED: [Subscription("analytics", "/api/v1/analytics/events", as_analytics_event)]}
)
