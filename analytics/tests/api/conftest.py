"""The tests of the API share one replica and one database, because they do not scan collections.

The server keeps deleted documents for five minutes, for snapshots, and a scan reads over them.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from analytics_service.database import COLLECTIONS, migrate
from analytics_service.reconciliation import fence
from analytics_service.rollups import event_types
from local_platform.stores import StoreSet
from servicekit.storage.mongo_migrations import connected
from servicekit.testing.mongo import empty

DATABASE = "analytics_api"


@pytest.fixture(scope="session")
async def migrated_database(stores: StoreSet) -> AsyncIterator[Any]:
    async with connected(SecretStr(stores.mongo_url(DATABASE)), application="test") as database:
        await migrate(database)
        yield database


@pytest.fixture
async def database(migrated_database: Any) -> Any:
    """The database of the service, migrated and empty."""
    await empty(migrated_database, COLLECTIONS)
    await event_types.ensure_document(migrated_database)
    await fence.ensure_document(migrated_database)
    return migrated_database


@pytest.fixture(scope="session")
def service(stores: StoreSet, migrated_database: Any, deploy: Callable[[str], Any]) -> Any:
    """The deployment that these tests share; `deployment` empties its stores."""
    return deploy(stores.mongo_url(DATABASE))


@pytest.fixture
def deployment(service: Any, database: Any, valkey_url: str, peers: Any) -> Iterator[Any]:
    """An empty database, an empty Valkey, and peers in their first state."""
    peers.reset()
    yield service
    service.clock.reset()


@pytest.fixture(scope="session")
async def shared_replica(service: Any) -> AsyncIterator[Any]:
    async with service.patient_replica() as replica:
        yield replica


@pytest.fixture
def replica(deployment: Any, shared_replica: Any) -> Any:
    """The replica that these tests share. It still knows the types and users of earlier tests, which does no harm."""
    return shared_replica


@pytest.fixture
async def replicas(deployment: Any, replica: Any) -> AsyncIterator[tuple[Any, Any]]:
    """Two replicas on one database."""
    async with deployment.replica() as second:
        yield replica, second
