"""The local MongoDB nodes: their processes and their readiness."""

from pathlib import Path

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from local_platform.binaries import MONGO
from local_platform.errors import InvalidOption
from local_platform.layout import Layout
from local_platform.secret_files import SecretFiles
from local_platform.stores.mongo_access import ROOT, Client, MongoAccess
from local_platform.stores.mongo_setup import REPLICA_SET, ReplicaSet
from local_platform.supervision.managed_process import ProcessSpec
from local_platform.supervision.ports import HOST, PortAllocator
from local_platform.supervision.probes import NotReady, Probe, check_port_open
from local_platform.supervision.process import Command

SERVICE = "mongo"
CACHE_GB = "0.25"
OPLOG_MB = "128"
# A killed process's claim of an idempotency key ends with its transaction, before a client gives up.
TRANSACTION_SECONDS = 3


class LocalMongo:
    """A replica set of one or more nodes whose files live below DATA_DIR."""

    def __init__(self, layout: Layout, ports: PortAllocator, secrets: SecretFiles, nodes: int) -> None:
        self._layout = layout
        self._binary = MONGO.find()
        self._key_file = secrets.path("mongo.key")
        secrets.value("mongo.key")
        self.names = [f"{SERVICE}-{number}" for number in range(1, nodes + 1)]
        self._check_size(nodes)
        self._ports = {name: ports.allocate(name) for name in self.names}
        self.hosts = [f"{HOST}:{port}" for port in self._ports.values()]
        password = secrets.value("mongo.password")
        self.access = MongoAccess(",".join(self.hosts), ROOT, password, f"replicaSet={REPLICA_SET}")
        self.replica_set = ReplicaSet(self.hosts, password)

    def process_specs(self) -> list[ProcessSpec]:
        return [self._node(name, port) for name, port in self._ports.items()]

    def name_of(self, host: str) -> str:
        return self.names[self.hosts.index(host)]

    def _check_size(self, nodes: int) -> None:
        existing = len(list(self._layout.store(SERVICE).parent.glob(f"{SERVICE}-*")))
        if existing > nodes:
            raise InvalidOption(
                f"this DATA_DIR holds a MongoDB set of {existing} nodes, and a smaller set might lack data; "
                f"start with MONGO_NODES={existing}, or with another DATA_DIR=…"
            )

    def _node(self, name: str, port: int) -> ProcessSpec:
        data = self._layout.store(name)
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        return ProcessSpec(
            name=name,
            service=SERVICE,
            url=f"mongodb://{HOST}:{port}",
            command=Command(
                argv=[str(self._binary), *self._options(data, port)],
                directory=self._layout.work(name),
                log=self._layout.log(name),
            ),
            probe=_probe(port),
        )

    def _options(self, data: Path, port: int) -> list[str]:
        options = {
            "--dbpath": str(data),
            "--port": str(port),
            "--bind_ip": HOST,
            "--replSet": REPLICA_SET,
            "--keyFile": str(self._key_file),
            "--wiredTigerCacheSizeGB": CACHE_GB,
            "--oplogSize": OPLOG_MB,
            "--networkMessageCompressors": "snappy,zstd",
            # Small journal files, not preallocated: an empty folder takes 9 MB instead of 301.
            "--wiredTigerEngineConfigString": "log=(enabled=true,file_max=8MB,prealloc=false,path=journal)",
        }
        parameters = {
            "diagnosticDataCollectionEnabled": "false",
            "shutdownTimeoutMillisForSignaledShutdown": "100",
            "transactionLifetimeLimitSeconds": str(TRANSACTION_SECONDS),
        }
        words = [part for pair in options.items() for part in pair]
        words += [part for name, value in parameters.items() for part in ("--setParameter", f"{name}={value}")]
        return [*words, "--nounixsocket", "--quiet"]


def _probe(port: int) -> Probe:
    async def probe() -> str:
        # PyMongo retries only every half second, so the port is probed first.
        await check_port_open(HOST, port)
        client: Client = AsyncMongoClient(HOST, port, directConnection=True, serverSelectionTimeoutMS=2000)
        try:
            async with client:
                await client.admin.command("ping")
        except PyMongoError as error:
            raise NotReady(f"MongoDB does not respond yet ({type(error).__name__})") from error
        return ""

    return probe
