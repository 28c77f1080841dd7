"""The domain events that this service records and receives, and where the recorded ones go."""

from typing import Final

from servicekit.outbox import Subscription, Subscriptions, as_analytics_event

ASSET_UPLOADED: Final = "asset.uploaded"
"""Recorded when a file is stored. The subject is its owner."""

USER_DELETED: Final = "user.deleted"
"""Received from the user service. The subject is the account."""

SUBSCRIPTIONS: Final = Subscriptions(
    {ASSET_UPLOADED: [Subscription("analytics", "/api/v1/analytics/events", as_analytics_event)]}
)
"""The destinations of each recorded event."""
