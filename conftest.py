"""Fixtures that all test suites share: the real stores, started once per run, and an empty database for each test."""

import gc
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from local_platform.environment import keep_known_variables
from local_platform.remove_service.code import module_needs
from local_platform.stores import StoreSet, running_stores
from opskit.catalog import read_catalog
from servicekit.testing.clock import MovableClock
from servicekit.testing.harness import Deployment, PeerServices, Replica
from servicekit.testing.ports import held_port
from servicekit.testing.sealed import make_keyrings

# What a shell holds for other programs, such as a proxy or PGSSLMODE, reaches neither clients nor servers.
keep_known_variables("PYTEST", "COV", "HYPOTHESIS", "CASES", "QUIET_MINUTES", "NGINX_BINARY", "PYTHON")

_names = (f"test_{number}" for number in count(1))
# What starts server processes: the stores below, and the platforms of tests/conftest.py.
_SERVER_FIXTURES = frozenset({"stores", "run", "running"})


class _PlatformsTogether(LoadFileScheduling):
    """The distribution of tests over processes: a file stays in one, and so do all tests of the shared platform.

    An idle platform in each process would leave less of the machine.
    """

    def _split_scope(self, nodeid: str) -> str:
        shares_platform = nodeid.startswith("tests/") and not nodeid.startswith("tests/own_platforms/")
        return "tests" if shares_platform else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _PlatformsTogether:
    return _PlatformsTogether(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while tests are collected, nor any of these objects later: they stay until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out a module that cannot do without a service that is not listed: it may not even be imported."""
    if collection_path.suffix == ".py" and "mark.needs(" in (source := collection_path.read_text(encoding="utf-8")):
        return bool(module_needs(source) - read_catalog().keys()) or None
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of services that are not listed; mark those that start servers through a fixture."""
    services = read_catalog().keys()
    without = [item for item in items if {name for mark in item.iter_markers("needs") for name in mark.args} - services]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in without]
    for item in items:
        if not _SERVER_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.servers)


@pytest.fixture(scope="session", autouse=True)
def no_power_failure() -> Iterator[None]:
    """Let this process wait for no disk: nothing that a test writes has to survive a power failure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        yield


@pytest.fixture(scope="session")
async def stores(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StoreSet]:
    """PostgreSQL, a MongoDB replica set and Valkey, for the whole run. A test that stops one starts it again."""
    async with running_stores(tmp_path_factory.mktemp("stores")) as stores:
        yield stores


@pytest.fixture
async def postgres_url(stores: StoreSet) -> AsyncIterator[str]:
    """The URL of an empty PostgreSQL database for this test."""
    name = next(_names)
    yield await stores.create_postgres_database(name)
    await stores.drop_postgres_database(name)


@pytest.fixture
async def mongo_url(stores: StoreSet) -> AsyncIterator[str]:
    """The URL of an empty MongoDB database for this test."""
    name = next(_names)
    yield stores.mongo_url(name)
    await stores.drop_mongo_database(name)


@pytest.fixture
async def valkey_url(stores: StoreSet, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty Valkey. Time-outs are long, so that a busy machine does not look like an outage."""
    for time_out in ("valkey.client.CALL_SECONDS", "valkey.client.CONNECT_SECONDS", "sealing.replay.STORE_SECONDS"):
        monkeypatch.setattr(f"servicekit.{time_out}", 60.0)
    url = stores.valkey_url()
    async with Redis.from_url(url) as valkey:
        await valkey.flushall()
    return url


@pytest.fixture
def own_valkey_url(valkey_url: str) -> str:
    """The URL of an empty Valkey database that no shared replica uses."""
    return valkey_url.removesuffix("/0") + "/1"


@pytest.fixture
def new_port() -> Iterator[Callable[[], int]]:
    """Return a function that gives ports, which are reserved during the test."""
    with ExitStack() as held:
        yield lambda: held.enter_context(held_port())


@pytest.fixture(scope="session")
def service_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of all services and of those in tests, in a folder for each.

    Any two have keys, also where one refuses the other's calls.
    """
    folder = tmp_path_factory.mktemp("keys")
    names = {*read_catalog(operators=True), "analytics", "notes", "assets"}
    make_keyrings(folder, {name: sorted(names - {name}) for name in names})
    return folder


@pytest.fixture(scope="session")
async def peers(service_keys: Path) -> AsyncIterator[PeerServices]:
    """The user service as far as every service calls it. A service that calls more overrides this fixture."""
    async with PeerServices(service_keys).running() as peers:
        yield peers


@pytest.fixture
def clock(deployment: Deployment[Any, Any]) -> MovableClock:
    """The clock of all replicas. The service's conftest has the fixture `deployment`."""
    return deployment.clock


@pytest.fixture
async def replica(deployment: Deployment[Any, Replica]) -> AsyncIterator[Replica]:
    """One process of the service under test."""
    async with deployment.replica() as replica:
        yield replica


@pytest.fixture
async def replicas(deployment: Deployment[Any, Replica]) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two processes of the service under test on one database."""
    async with deployment.replica() as first, deployment.replica() as second:
        yield first, second
