"""Which services receive the domain events of this service."""

from typing import Final

from servicekit.outbox import Subscription, Subscriptions, as_analytics_event
from user_service.domain_events import USER_DELETED, USER_REGISTERED

_ANALYTICS: Final = Subscription("analytics", "/api/v1/analytics/events", as_analytics_event)

SUBSCRIPTIONS: Final = Subscriptions(
    {
        USER_REGISTERED: [_ANALYTICS],
        # Notes and assets erase the data of a deleted user.
        USER_DELETED: [_ANALYTICS, Subscription("notes"), Subscription("assets")],
    }
)
