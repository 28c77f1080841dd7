"""Forms a replica set of empty nodes, or finds the existing one; each step may be repeated after a crash."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from local_platform.errors import DataDirectoryUnusable
from local_platform.stores.mongo_access import ROOT, USER_EXISTS, Client
from local_platform.supervision.probes import NotReady, wait_until_ready

REPLICA_SET = "rs0"
SETUP_SECONDS = 60.0
# With the defaults of 10 s and 2 s, a set of three needs 12 s for its first primary and 10 s to replace a dead one.
ELECTION_TIMEOUT_MS = 1000
HEARTBEAT_INTERVAL_MS = 500

UNAUTHORIZED = 13
AUTHENTICATION_FAILED = 18
ALREADY_INITIALIZED = 23


class ReplicaSet:
    """A replica set of these nodes."""

    def __init__(self, hosts: Sequence[str], password: str) -> None:
        self._hosts = hosts
        self._password = password

    async def bring_up(self) -> str:
        """Return the primary's `host:port` once the set has one and knows its administrator."""
        return await wait_until_ready(self._try, SETUP_SECONDS)

    async def _try(self) -> str:
        try:
            if not await self._knows_administrator():
                await self._initiate()
                await self._create_administrator()
            await self._update_addresses()
            return await self._primary()
        except PyMongoError as error:
            raise NotReady(f"the replica set is not complete ({type(error).__name__}: {error})") from error

    async def _knows_administrator(self) -> bool:
        try:
            async with self._node(self._hosts[0], administrator=True) as client:
                await client.admin.command("ping")
        except OperationFailure as error:
            if error.code == AUTHENTICATION_FAILED:
                return False
            raise
        return True

    async def _initiate(self) -> None:
        """Form the set. A server without users allows this, and the creation of the first user, to local clients."""
        config = {
            "_id": REPLICA_SET,
            "members": [{"_id": number, "host": host} for number, host in enumerate(self._hosts)],
            "settings": {
                "electionTimeoutMillis": ELECTION_TIMEOUT_MS,
                "heartbeatIntervalMillis": HEARTBEAT_INTERVAL_MS,
            },
        }
        try:
            async with self._node(self._hosts[0]) as client:
                await client.admin.command("replSetInitiate", config)
        except OperationFailure as error:
            if error.code == UNAUTHORIZED and not await self._knows_administrator():
                raise DataDirectoryUnusable(
                    "MongoDB refuses the password in DATA_DIR/secrets: these secrets do not belong to this data; "
                    "restore them, or start with another DATA_DIR=…"
                ) from error
            if error.code not in (ALREADY_INITIALIZED, UNAUTHORIZED):
                raise

    async def _create_administrator(self) -> None:
        async with self._node(await self._primary()) as client:
            try:
                await client.admin.command("createUser", ROOT, pwd=self._password, roles=["root"])
            except OperationFailure as error:
                # Another node has created the user already, and replication brings it here.
                if error.code not in (USER_EXISTS, UNAUTHORIZED):
                    raise

    async def _update_addresses(self) -> None:
        """Reconfigure the set if its nodes' addresses changed; a node that is not in the list takes no part."""
        async with self._node(self._hosts[0], administrator=True) as client:
            config: dict[str, Any] = (await client.admin.command("replSetGetConfig"))["config"]
            if [member["host"] for member in config["members"]] == list(self._hosts):
                return
            template = config["members"][0]
            config["members"] = [{**template, "_id": number, "host": host} for number, host in enumerate(self._hosts)]
            config["version"] += 1
            # Without `force` the command needs a primary, and a set with wrong addresses has none.
            await client.admin.command("replSetReconfig", config, force=True)

    async def _primary(self) -> str:
        async with self._node(self._hosts[0]) as client:
            hello = await client.admin.command("hello")
        primary = hello.get("primary")
        if primary not in self._hosts:
            raise NotReady("no primary is elected yet")
        return str(primary)

    @asynccontextmanager
    async def _node(self, host: str, *, administrator: bool = False) -> AsyncIterator[Client]:
        """Yield a client of this one node, whatever its role."""
        credentials = f"{ROOT}:{self._password}@" if administrator else ""
        client: Client = AsyncMongoClient(
            f"mongodb://{credentials}{host}/", directConnection=True, serverSelectionTimeoutMS=2000
        )
        async with client:
            yield client
