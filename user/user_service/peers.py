"""Who hears of what happens here."""

from typing import Final

from servicekit.outbox import Route, Routes, as_event
from user_service.accounts.actions import USER_DELETED, USER_REGISTERED

_ANALYTICS: Final = Route("analytics", "/api/v1/analytics/events", as_event)

FACTS: Final = Routes(
    {
        USER_REGISTERED: [_ANALYTICS],
        # Whoever keeps something of a user erases it.
        USER_DELETED: [_ANALYTICS, Route("notes"), Route("assets")],
    }
)
