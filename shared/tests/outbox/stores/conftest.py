"""The outbox over the real stores."""

import pytest

from servicekit.testing.store_harness import StoreHarness


@pytest.fixture
def store(real_store: StoreHarness) -> StoreHarness:
    """Takes the place of the store in memory."""
    return real_store
