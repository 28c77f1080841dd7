"""A clock that the tests move, and a request in progress."""

from collections.abc import Iterator

import pytest

from servicekit.core import context
from servicekit.testing.scripted_transport import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def incoming() -> Iterator[context.RequestContext]:
    """The request that this service handles while it makes calls."""
    request = context.RequestContext(
        request_id="req-1",
        correlation_id="cor-1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="vendor=1",
    )
    token = context.enter(request)
    yield request
    context.leave(token)
