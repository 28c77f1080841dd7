"""The domain events that services send to analytics, and the event types that analytics reserves for services."""

import pytest

from analytics_service.events.rules import RESERVED_EVENT_TYPES
from assets_service.domain_events import SUBSCRIPTIONS as ASSETS
from notes_service.domain_events import SUBSCRIPTIONS as NOTES
from user_service.domain_events import SUBSCRIPTIONS as USER

pytestmark = pytest.mark.needs("analytics", "notes", "assets")


def test_analytics_reserves_exactly_the_domain_events_that_services_send_to_it() -> None:
    sent = {type_ for subscriptions in (ASSETS, NOTES, USER) for type_ in subscriptions.of_destination("analytics")}

    assert sent == RESERVED_EVENT_TYPES
