"""Who hears of what happens here."""

from typing import Final

from servicekit.outbox import Subscription, Subscriptions, as_analytics_event
from user_service.accounts.actions import USER_DELETED, USER_REGISTERED

_ANALYTICS: Final = Subscription("analytics", "/api/v1/analytics/events", as_analytics_event)

SUBSCRIPTIONS: Final = Subscriptions(
    {
        USER_REGISTERED: [_ANALYTICS],
        # Whoever keeps something of a user erases it.
        USER_DELETED: [_ANALYTICS, Subscription("notes"), Subscription("assets")],
    }
)
