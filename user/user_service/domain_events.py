"""The domain events that this service records, and where they go."""

from typing import Final

from servicekit.outbox import Subscription, Subscriptions, as_analytics_event

USER_REGISTERED: Final = "user.registered"
USER_DELETED: Final = "user.deleted"

_ANALYTICS: Final = Subscription("analytics", "/api/v1/analytics/events", as_analytics_event)

SUBSCRIPTIONS: Final = Subscriptions(
    {
        USER_REGISTERED: [_ANALYTICS],
        # Each of them erases the data of a deleted user.
        USER_DELETED: [_ANALYTICS, Subscription("notes"), Subscription("assets")],
    }
)
