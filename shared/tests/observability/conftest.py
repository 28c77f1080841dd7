"""A collector for the tests of this folder."""

from collections.abc import AsyncIterator

import pytest

from servicekit.testing.collector import TraceCollector


@pytest.fixture
async def collector() -> AsyncIterator[TraceCollector]:
    async with TraceCollector() as collector:
        yield collector
