"""The domain events that services send to analytics, and the event types that analytics reserves for services."""

import analytics_service.events.rules
import assets_service.peers
import notes_service.peers
import user_service.peers


def test_analytics_reserves_exactly_the_domain_events_that_services_send_to_it() -> None:
    tables = [service.peers.SUBSCRIPTIONS for service in (assets_service, notes_service, user_service)]
    sent = {type_ for subscriptions in tables for type_ in subscriptions.of_destination("analytics")}

    assert sent == analytics_service.events.rules.RESERVED_EVENT_TYPES
