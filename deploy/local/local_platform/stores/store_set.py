"""PostgreSQL, MongoDB and Valkey together, alone for tests or below the whole platform.

async with running_stores(tmp_path) as stores:
    url = await stores.create_postgres_database("accounts")   # postgresql+asyncpg://…
    mongo = stores.mongo_url("events")                        # mongodb://…/events?replicaSet=rs0…
    valkey = stores.valkey_url()                              # redis://…/0
    stores.supervisor.kill("valkey")                          # restarted on its port
    await stores.stop("mongo-1"); await stores.start("mongo-1")
"""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from local_platform.binaries import MONGO, POSTGRES, VALKEY
from local_platform.layout import Layout
from local_platform.stores.mongo import LocalMongo
from local_platform.stores.mongo_access import MongoAccess
from local_platform.stores.postgres import NAME as NAME_OF_POSTGRES
from local_platform.stores.postgres import LocalPostgres
from local_platform.stores.postgres_access import PostgresAccess
from local_platform.stores.valkey import NAME as NAME_OF_VALKEY
from local_platform.stores.valkey import LocalValkey
from local_platform.stores.valkey_access import ValkeyAccess
from local_platform.supervision.ports import PortAllocator
from local_platform.supervision.probes import wait_until_ready
from local_platform.supervision.supervisor import Supervisor
from local_platform.supervision.tasks import run_concurrently

Engine = Literal["postgres", "mongo", "valkey"]
ENGINES: tuple[Engine, ...] = ("postgres", "mongo", "valkey")
START_SECONDS = 60.0


class StoreSet:
    """The stores of one DATA_DIR. `start_…` starts one, gives the services access, and returns when it serves."""

    def __init__(
        self,
        layout: Layout,
        ports: PortAllocator,
        supervisor: Supervisor,
        *,
        mongo_nodes: int = 1,
        services: Mapping[str, Engine | None] | None = None,
        issuers: Collection[str] = (),
    ) -> None:
        self.supervisor = supervisor
        self.secrets = layout.secrets
        self._services = services or {}
        self._issuers = frozenset(issuers)
        self._local_postgres: LocalPostgres | None = None
        self._local_mongo: LocalMongo | None = None
        self._local_valkey: LocalValkey | None = None
        self.postgres = self._find_postgres(layout, ports)
        self.mongo = self._find_mongo(layout, ports, mongo_nodes)
        self.valkey = self._find_valkey(layout, ports)

    def names(self) -> list[str]:
        """Return the names of the stores' processes."""
        names = [NAME_OF_POSTGRES] if self._local_postgres else []
        names += self._local_mongo.names if self._local_mongo else []
        return names + ([NAME_OF_VALKEY] if self._local_valkey else [])

    def postgres_url(self, database: str = "postgres", driver: str = "postgresql+asyncpg") -> str:
        """Return the administrator's URL of a PostgreSQL database."""
        return self.postgres.url(database, driver=driver)

    def mongo_url(self, database: str) -> str:
        """Return the administrator's URL of a MongoDB database, which exists once something is written to it."""
        return self.mongo.url(database)

    def valkey_url(self, database: int = 0) -> str:
        """Return the administrator's URL of a Valkey database (0 to 15)."""
        return self.valkey.url(database=database)

    async def create_postgres_database(self, name: str) -> str:
        """Create an empty database; return its URL for SQLAlchemy with asyncpg."""
        return await self.postgres.create_database(name)

    async def drop_postgres_database(self, name: str) -> None:
        await self.postgres.drop_database(name)

    async def drop_mongo_database(self, name: str) -> None:
        await self.mongo.drop_database(name)

    async def stop(self, name: str) -> None:
        """Stop one store's process (`postgres`, `mongo-1` …, `valkey`) until `start` is called."""
        await self.supervisor.processes[name].stop()

    async def start(self, name: str) -> None:
        """Start a stopped process again, on its port and its data; return when it serves."""
        process = self.supervisor.processes[name]
        process.start()
        await process.wait_ready()

    def mongo_name(self, address: tuple[str, int] | None) -> str:
        """Return the name of the MongoDB node at an address such as a client's `primary`; empty for an unknown node."""
        if self._local_mongo is None or address is None:
            return ""
        return self._local_mongo.name_of("{}:{}".format(*address))

    def service_url(self, service: str) -> str:
        """Return the URL of a service's database, for a role that can use no other database."""
        password = self._password(service)
        if self._services[service] == "postgres":
            return self.postgres.url(service, user=service, password=password)
        return self.mongo.url(service, user=service, password=password)

    def service_valkey_url(self, service: str) -> str:
        return self.valkey.url(user=service, password=self._password(service))

    async def start_postgres(self) -> None:
        if self._local_postgres is not None:
            await self.supervisor.add(await self._local_postgres.prepare()).wait_ready()
        owned = self._local_postgres is not None
        await wait_until_ready(
            lambda: self.postgres.ensure_roles(self._passwords("postgres"), owned=owned), START_SECONDS
        )

    async def start_mongo(self) -> str:
        """Start the nodes; return the name of the primary, empty for a set that the user runs."""
        primary = ""
        if self._local_mongo is not None:
            nodes = [self.supervisor.add(spec) for spec in self._local_mongo.process_specs()]
            await run_concurrently(*(node.wait_ready() for node in nodes))
            primary = self._local_mongo.name_of(await self._local_mongo.replica_set.bring_up())
        await wait_until_ready(lambda: self.mongo.ensure_users(self._passwords("mongo")), START_SECONDS)
        return primary

    async def start_valkey(self) -> None:
        if self._local_valkey is None:
            await wait_until_ready(self.valkey.probe, START_SECONDS)
            return
        passwords = {service: self._password(service) for service in self._services}
        await self.supervisor.add(self._local_valkey.process_spec(passwords, self._issuers)).wait_ready()

    async def stop_all(self) -> None:
        await self.supervisor.stop(self.supervisor.of_service(*ENGINES))

    def _password(self, service: str) -> str:
        return self.secrets.value(f"{service}/store.password")

    def _passwords(self, engine: Engine) -> dict[str, str]:
        return {service: self._password(service) for service, store in self._services.items() if store == engine}

    def _find_postgres(self, layout: Layout, ports: PortAllocator) -> PostgresAccess:
        url = POSTGRES.external_url()
        if url is not None:
            return PostgresAccess.parse(url)
        self._local_postgres = LocalPostgres(
            layout, ports.allocate("postgres"), self.secrets.value("postgres.password")
        )
        return self._local_postgres.access

    def _find_mongo(self, layout: Layout, ports: PortAllocator, nodes: int) -> MongoAccess:
        url = MONGO.external_url()
        if url is not None:
            return MongoAccess.parse(url)
        self._local_mongo = LocalMongo(layout, ports, self.secrets, nodes)
        return self._local_mongo.access

    def _find_valkey(self, layout: Layout, ports: PortAllocator) -> ValkeyAccess:
        url = VALKEY.external_url()
        if url is not None:
            return ValkeyAccess.parse(url)
        self._local_valkey = LocalValkey(layout, ports.allocate("valkey"), self.secrets)
        return self._local_valkey.access


@asynccontextmanager
async def running_stores(
    data_dir: Path,
    *,
    mongo_nodes: int = 1,
    engines: Collection[Engine] = ENGINES,
    services: Mapping[str, Engine | None] | None = None,
    issuers: Collection[str] = (),
) -> AsyncIterator[StoreSet]:
    """Run PostgreSQL, MongoDB (a replica set) and Valkey below `data_dir`, and stop them at the end.

    `engines` says which of them. Each of `services` gets a user of Valkey, and in its engine, if it has one, a role and
    a database of its name; `issuers` may write revoked sessions; the caller creates all other databases. The data
    stays, so a second run on the same directory finds it. Raises LaunchError when a store cannot start.
    """
    layout = Layout.prepare(data_dir)
    with PortAllocator(layout.port_file) as ports:
        stores = StoreSet(layout, ports, Supervisor(), mongo_nodes=mongo_nodes, services=services, issuers=issuers)
        ports.save()
        starts = {"postgres": stores.start_postgres, "mongo": stores.start_mongo, "valkey": stores.start_valkey}
        try:
            await run_concurrently(*(starts[engine]() for engine in engines))
            yield stores
        finally:
            await stores.stop_all()
