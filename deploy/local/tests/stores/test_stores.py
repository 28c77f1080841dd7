"""The real stores: separation of services, restarts, data that stays, elections."""

import asyncio
import json
import os
import shutil
import signal
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import psutil
import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError

from local_platform.errors import DataDirectoryUnusable, InvalidOption, ServerMissing
from local_platform.layout import Layout
from local_platform.secret_files import SecretFiles
from local_platform.stores import StoreSet, running_stores
from local_platform.stores.mongo_access import SELECTION_MS
from local_platform.supervision.ports import PortAllocator
from local_platform.supervision.supervisor import Supervisor
from local_platform.supervision.tasks import run_concurrently
from servicekit.auth.revoked_sessions import RevokedSessions
from servicekit.sealing.replay import ValkeyNonces
from servicekit.valkey.client import Valkey
from servicekit.valkey.rate_limit import UNCHECKED, TokenBucket
from user_service.cache import Cache
from user_service.throttling.failure_limits import FailureCounter, FailureLimit, FailureLimits

pytestmark = pytest.mark.servers

SERVICES = {"user": "postgres", "assets": "postgres", "analytics": "mongo", "notes": "mongo"}


@pytest.fixture(scope="module")
async def separated(tmp_path_factory) -> AsyncIterator[StoreSet]:
    directory = tmp_path_factory.mktemp("separated")
    async with running_stores(directory, services=SERVICES, issuers=["user"]) as stores:
        yield stores


def plain(url: str) -> str:
    """Return a SQLAlchemy URL in asyncpg's form."""
    return url.replace("+asyncpg", "")


@asynccontextmanager
async def postgres(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(plain(url))
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_service_owns_its_postgres_database_and_cannot_connect_to_another(separated):
    own = separated.service_url("user")
    async with postgres(own) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS t (n int)")
        role = await connection.fetchrow(
            "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'user'"
        )
        assert tuple(role) == (False, False, False)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(plain(own).rsplit("/", 1)[0] + "/assets")


async def test_a_role_enters_no_database_but_its_own_also_on_existing_data(separated):
    own = plain(separated.service_url("user")).rsplit("/", 1)[0]
    async with separated.postgres.connect() as administrator:
        # As an earlier version left it.
        await administrator.execute("GRANT CONNECT, TEMPORARY ON DATABASE postgres, template1 TO PUBLIC")
        await separated.postgres.ensure_roles({}, owned=True)
        names = await administrator.fetch("SELECT datname FROM pg_database WHERE datallowconn AND datname <> 'user'")
    assert {"postgres", "template1", "assets"} <= {row["datname"] for row in names}
    for row in names:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(f"{own}/{row['datname']}")


async def test_a_service_owns_its_mongo_database_and_cannot_read_another(separated):
    async with AsyncMongoClient(separated.service_url("analytics")) as client:
        await client["analytics"]["events"].insert_one({})
        await client["analytics"]["events"].create_index("type")
        for foreign in ("notes", "admin"):
            with pytest.raises(OperationFailure, match="not authorized"):
                await client[foreign]["x"].find_one()


async def test_a_service_owns_its_valkey_keys_and_cannot_use_others(separated):
    async with Redis.from_url(separated.service_valkey_url("notes")) as valkey:
        await valkey.set("notes:x", 1)
        assert await valkey.eval("return redis.call('INCR', KEYS[1])", 1, "notes:x") == 2
        for forbidden in (valkey.get("user:x"), valkey.set("user:x", 1), valkey.set("x", 1), valkey.flushall()):
            with pytest.raises(NoPermissionError):
                await forbidden


@pytest.mark.parametrize(
    "command",
    [
        *("KEYS *", "SCAN 0", "RANDOMKEY", "DBSIZE", "SWAPDB 0 1", "MOVE notes:x 1", "FLUSHDB", "FLUSHALL"),
        *("SCRIPT FLUSH", "SCRIPT KILL", "FUNCTION FLUSH", "FUNCTION LIST", "FUNCTION KILL", "FCALL x 0"),
        *("CONFIG GET *", "CONFIG SET maxmemory 1", "SAVE", "BGSAVE", "SHUTDOWN", "INFO", "ROLE"),
        *("CLIENT LIST", "CLIENT KILL ID 1", "CLIENT PAUSE 1", "CLIENT TRACKING ON BCAST", "CLIENT NO-EVICT ON"),
        *("ACL LIST", "ACL WHOAMI", "ACL SETUSER x", "MONITOR", "SLOWLOG GET", "LATENCY LATEST", "MEMORY STATS"),
        *("PUBSUB CHANNELS", "PSUBSCRIBE *", "SUBSCRIBE user:x", "PUBLISH user:x 1", "MODULE LIST", "REPLICAOF NO ONE"),
        *("OBJECT FREQ user:x", "DUMP user:x", "RESTORE notes:x 0 x", "SORT notes:x", "COPY user:x notes:x"),
        *("WAIT 0 1", "LASTSAVE", "CLUSTER INFO", "COMMAND LIST"),
    ],
    ids=lambda command: command.replace("*", "all"),
)
async def test_a_service_learns_nothing_of_others_from_valkey_and_stops_nobody(separated, command):
    async with Redis.from_url(separated.service_valkey_url("notes")) as valkey:
        with pytest.raises(NoPermissionError):
            await valkey.execute_command(*command.split())


async def test_a_service_may_use_every_command_that_its_code_sends(separated):
    async with Redis.from_url(separated.service_valkey_url("user")) as client:
        revoked = RevokedSessions(client)
        assert await revoked.may_refill()
        await revoked.refill({uuid4(): time.time() + 60})
        assert await revoked.publish({uuid4(): time.time() + 60})
        assert await revoked.heartbeat()
        await revoked.refresh()
        nonces = ValkeyNonces(client, "user")
        assert await nonces.claim("a")
        await nonces.add(["b"])
        valkey = Valkey(client)
        unused = UNCHECKED.labels("user")._value.get()
        assert (await TokenBucket(valkey, service="user", name="user", rate=5).take("ada")).allowed
        assert UNCHECKED.labels("user")._value.get() == unused
        limits = FailureLimits(valkey, service="user")
        await limits.record_failure(FailureCounter(FailureLimit("a", 5, 60), "ada"))
        cache = Cache(valkey, service="user", name="a", ttl=60)
        assert await cache.get("ada", lambda: asyncio.sleep(0, b"loaded")) == b"loaded"
        await cache.invalidate("ada")
        assert valkey._last_failure == ""


async def test_revoked_sessions_are_written_by_the_issuer_and_read_by_all(separated):
    async with Redis.from_url(separated.service_valkey_url("user")) as issuer:
        await issuer.xadd("sessions:ended", {"sid": "1"})
    async with Redis.from_url(separated.service_valkey_url("notes")) as reader:
        assert len(await reader.xread({"sessions:ended": "0"})) == 1
        with pytest.raises(NoPermissionError):
            await reader.xadd("sessions:ended", {"sid": "2"})


async def test_no_store_allows_access_without_a_password(separated):
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(host="127.0.0.1", port=separated.postgres.port, user="postgres", database="postgres")
    async with AsyncMongoClient(separated.mongo.hosts, serverSelectionTimeoutMS=SELECTION_MS) as client:
        with pytest.raises(OperationFailure, match="requires authentication"):
            await client["analytics"]["events"].find_one()
    async with Redis(port=separated.valkey.port, retry=Retry(NoBackoff(), 0)) as valkey:
        with pytest.raises(AuthenticationError):
            await valkey.get("x")


async def test_every_store_listens_on_loopback_only(separated):
    for managed in separated.supervisor.processes.values():
        for process in [psutil.Process(managed.pid), *psutil.Process(managed.pid).children(recursive=True)]:
            listening = [c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
            assert set(listening) <= {"127.0.0.1"}
            assert not process.net_connections("unix")


async def test_no_password_is_in_a_command_line_or_a_log(separated):
    folder = separated.secrets.directory
    secrets = {path.read_text() for path in folder.rglob("*password*")} | {(folder / "mongo.key").read_text()}
    assert len(secrets) == len(SERVICES) + 4
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    logs = [path.read_text() for path in (folder.parent / "logs").iterdir()]
    assert not [secret for secret in secrets for text in lines + logs if secret in text]
    for path in [folder, *folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


async def test_a_transaction_of_a_killed_process_ends_after_three_seconds(separated):
    async with separated.mongo.client() as client:
        parameters = await client.admin.command("getParameter", 1, transactionLifetimeLimitSeconds=1)
    assert parameters["transactionLifetimeLimitSeconds"] == 3


async def test_killed_stores_restart_on_their_ports_with_their_data(stores, postgres_url, mongo_url):
    async with postgres(postgres_url) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
    async with AsyncMongoClient(mongo_url) as client:
        await client.get_default_database()["kept"].insert_one({"n": 42})
    processes = stores.supervisor.processes
    before = {name: process.pid for name, process in processes.items()}
    for name in before:
        stores.supervisor.kill(name)
    for name, process in processes.items():
        while process.pid in (None, before[name]):
            await process.next_change()
        await process.wait_ready()
    async with postgres(postgres_url) as connection:
        assert await connection.fetchval("SELECT n FROM kept") == 42
    async with AsyncMongoClient(mongo_url) as client:
        assert (await client.get_default_database()["kept"].find_one())["n"] == 42


@pytest.fixture(scope="module")
async def stopped(tmp_path_factory) -> Path:
    """The directory of stores that have stopped, with some data."""
    directory = tmp_path_factory.mktemp("stopped")
    async with running_stores(directory, services=SERVICES) as stores:
        async with postgres(stores.service_url("user")) as connection:
            await connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
        async with AsyncMongoClient(stores.service_url("notes")) as client:
            await client["notes"]["kept"].insert_one({"n": 42})
    return directory


@pytest.fixture
def again(stopped, tmp_path) -> Path:
    """A copy of that directory, for a second start."""
    return shutil.copytree(stopped, tmp_path / "again", symlinks=True)


async def test_a_second_start_finds_the_data_of_the_first(again):
    passwords = {path: path.read_text() for path in (again / "secrets").rglob("*password")}
    async with running_stores(again, services=SERVICES) as stores:
        async with postgres(stores.service_url("user")) as connection:
            assert await connection.fetchval("SELECT n FROM kept") == 42
        async with AsyncMongoClient(stores.service_url("notes")) as client:
            assert (await client["notes"]["kept"].find_one())["n"] == 42
        assert json.loads((again / "ports.json").read_text())["postgres"] == stores.postgres.port
    assert {path: path.read_text() for path in passwords} == passwords


async def test_a_replica_set_works_again_after_all_its_ports_changed(again):
    before = json.loads((again / "ports.json").read_text())["mongo-1"]
    (again / "ports.json").unlink()
    async with running_stores(again, engines=["mongo"]) as stores, stores.mongo.client() as client:
        assert stores.mongo.hosts != f"127.0.0.1:{before}"
        assert (await client["notes"]["kept"].find_one())["n"] == 42


async def test_three_nodes_survive_the_loss_of_their_primary_and_of_their_ports(tmp_path):
    async with running_stores(tmp_path, mongo_nodes=3, engines=["mongo"]) as stores, stores.mongo.client() as client:
        collection = client["db"]["kept"]
        await collection.insert_one({"n": 1})
        primary = stores.mongo_name(await client.primary)
        await stores.stop(primary)
        await collection.insert_one({"n": 2})
        assert stores.mongo_name(await client.primary) != primary
        await stores.start(primary)
        config = (await client.admin.command("replSetGetConfig"))["config"]
        assert config["settings"]["electionTimeoutMillis"] == 1000
        assert config["settings"]["heartbeatIntervalMillis"] == 500
    (tmp_path / "ports.json").unlink()
    async with running_stores(tmp_path, mongo_nodes=3, engines=["mongo"]) as stores, stores.mongo.client() as client:
        assert await client["db"]["kept"].count_documents({}) == 2


async def test_a_set_can_grow_but_not_shrink(again):
    async with running_stores(again, mongo_nodes=3, engines=["mongo"]) as stores, stores.mongo.client() as client:
        assert await client["notes"]["kept"].count_documents({}) == 1
        assert len((await client.admin.command("replSetGetStatus"))["members"]) == 3
    with pytest.raises(InvalidOption, match="MONGO_NODES=3"):
        async with running_stores(again, engines=["mongo"]):
            pass


async def test_an_interrupted_first_start_is_repeated(tmp_path):
    unfinished = tmp_path / "stores" / "postgres" / "unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    async with running_stores(tmp_path, engines=["postgres"]) as stores:
        await stores.create_postgres_database("x")


async def test_a_stale_pid_file_with_the_id_of_another_program_is_removed(again):
    # PostgreSQL itself ignores a file with its parent's process id, but no other.
    stranger = await asyncio.create_subprocess_exec("sleep", "600")
    lock = again / "stores" / "postgres" / "data" / "postmaster.pid"
    lock.write_text(f"{stranger.pid}\n{lock.parent}\n1\n5432\n\n127.0.0.1\n")
    try:
        async with running_stores(again, engines=["postgres"]) as stores:
            await stores.create_postgres_database("x")
    finally:
        stranger.kill()
        await stranger.wait()


LEFT = {"empty": b"", "cut off": b"14", "garbage": b"\xff\x00garbage", "a number only": b"1\n", "a line": b"\n"}


@pytest.mark.parametrize("content", LEFT.values(), ids=LEFT.keys())
async def test_no_file_that_a_power_failure_leaves_stops_a_store_from_starting(again, content):
    (again / "stores" / "postgres" / "data" / "postmaster.pid").write_bytes(content)
    (again / "stores" / "mongo-1" / "mongod.lock").write_bytes(content)
    (again / "work" / "valkey").mkdir(parents=True, exist_ok=True)
    (again / "work" / "valkey" / "dump.rdb").write_bytes(b"REDIS0011" + content)
    (again / "ports.json").write_bytes(content)
    async with running_stores(again, services=SERVICES) as stores:
        async with postgres(stores.service_url("user")) as connection:
            assert await connection.fetchval("SELECT n FROM kept") == 42
        async with AsyncMongoClient(stores.service_url("notes")) as client:
            assert (await client["notes"]["kept"].find_one())["n"] == 42


async def test_a_server_that_runs_keeps_its_pid_file(again):
    async with running_stores(again, engines=["postgres"]) as stores:
        lock = again / "stores" / "postgres" / "data" / "postmaster.pid"
        stores.supervisor.processes["postgres"].spec.before_start()
        assert lock.exists()


@pytest.mark.parametrize("content", [b"", b"4e1f", b"\xff" * 64, b"0" * 63], ids=["empty", "short", "garbage", "cut"])
@pytest.mark.parametrize("name", ["postgres.password", "mongo.password", "mongo.key", "valkey.password"])
def test_a_damaged_secret_is_named(tmp_path, name, content):
    files = SecretFiles(tmp_path)
    files.value(name)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataDirectoryUnusable, match=rf"{name} is empty or damaged; restore it"):
        files.value(name)


@pytest.mark.parametrize("engine", ["postgres", "mongo"])
async def test_secrets_that_do_not_belong_to_the_data_are_reported(again, engine):
    (again / "secrets" / f"{engine}.password").unlink()
    with pytest.raises(DataDirectoryUnusable, match="these secrets do not belong to this data"):
        async with running_stores(again, engines=[engine]):
            pass


async def test_every_process_may_be_killed_once_while_the_stores_start(tmp_path, monkeypatch):
    killed: list[str] = []
    layout = Layout.prepare(tmp_path)
    supervisor = Supervisor()

    def kill_once(process) -> None:
        if process.pid is not None and process.name not in killed:
            killed.append(process.name)
            os.kill(process.pid, signal.SIGKILL)

    supervisor.listen(kill_once)
    with PortAllocator(layout.port_file) as ports:
        stores = StoreSet(layout, ports, supervisor, mongo_nodes=3, services=SERVICES)
        try:
            await run_concurrently(stores.start_postgres(), stores.start_mongo(), stores.start_valkey())
            async with postgres(stores.service_url("assets")) as connection:
                assert await connection.fetchval("SELECT 1") == 1
        finally:
            await stores.stop_all()
    assert sorted(killed) == sorted(stores.names())


async def test_without_wheels_the_users_own_servers_are_used(stores, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("POSTGRES_URL", stores.postgres_url(driver="postgresql"))
    monkeypatch.setenv("MONGO_URL", stores.mongo_url("admin"))
    monkeypatch.setenv("VALKEY_URL", stores.valkey_url())
    # Each directory has its own passwords; the later start sets them on the shared server.
    for directory in ("first", "second"):
        async with running_stores(tmp_path / directory, services={"billing": "postgres", "audit": "mongo"}) as external:
            assert external.supervisor.processes == {}
            async with postgres(external.service_url("billing")) as connection:
                assert await connection.fetchval("SELECT current_user") == "billing"
            async with AsyncMongoClient(external.service_url("audit")) as client:
                await client["audit"]["x"].insert_one({})
            async with Redis.from_url(external.service_valkey_url("audit")) as valkey:
                assert await valkey.ping()
    async with stores.postgres.connect() as connection:
        await connection.execute("DROP DATABASE billing WITH (FORCE)")
        await connection.execute("DROP ROLE billing")
    async with stores.mongo.client() as client:
        await client["audit"].command("dropUser", "audit")
        await client.drop_database("audit")


async def test_without_any_server_the_package_to_install_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "")
    for engine, package in (("POSTGRES", "PostgreSQL"), ("MONGO", "MongoDB"), ("VALKEY", "Valkey")):
        with pytest.raises(ServerMissing, match=f"install {package}, or set {engine}_URL"):
            async with running_stores(tmp_path):
                pass
        monkeypatch.setenv(f"{engine}_URL", "x://user:password@127.0.0.1:1")
