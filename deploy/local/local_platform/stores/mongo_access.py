"""A MongoDB replica set as its administrator sees it: URLs, one user for each service."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from local_platform.errors import ServerMissing
from local_platform.supervision.probes import NotReady

ROOT = "root"
SELECTION_MS = 5000
USER_EXISTS = 51003

Client = AsyncMongoClient[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class MongoAccess:
    """Addresses (`host:port,host:port`) and administrator of a replica set."""

    hosts: str
    user: str
    password: str = field(repr=False)
    options: str = "replicaSet=rs0"
    source: str = "admin"

    @classmethod
    def parse(cls, url: str) -> "MongoAccess":
        """Parse `mongodb://user:password@host:port/?replicaSet=rs0`, a replica set that the user runs."""
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
        user, _, password = credentials.partition(":")
        if not hosts or not user:
            raise ServerMissing("MONGO_URL must look like mongodb://user:password@host:port/?replicaSet=rs0")
        options = dict(parse_qsl(parts.query))
        source = options.pop("authSource", "admin")
        return cls(hosts, unquote(user), unquote(password), urlencode(options) or "replicaSet=rs0", source)

    def url(self, database: str, *, user: str = "", password: str = "") -> str:
        """Return the URL of a database, for the administrator or for a user of this database only."""
        name, secret, source = (user, password, database) if user else (self.user, self.password, self.source)
        return f"mongodb://{quote(name)}:{quote(secret)}@{self.hosts}/{database}?authSource={source}&{self.options}"

    def client(self) -> Client:
        return AsyncMongoClient(self.url("admin"), serverSelectionTimeoutMS=SELECTION_MS)

    async def ensure_users(self, passwords: Mapping[str, str]) -> None:
        """Create or update a user for each service, with rights on the database of its name only.

        May be repeated. Raises NotReady when the set becomes unavailable meanwhile.
        """
        try:
            async with self.client() as client:
                for name, password in passwords.items():
                    # An existing user may have another password, from lost secrets or another DATA_DIR.
                    known = await client[name].command("usersInfo", name)
                    command = "updateUser" if known["users"] else "createUser"
                    roles = [{"role": role, "db": name} for role in ("readWrite", "dbAdmin")]
                    await client[name].command(command, name, pwd=password, roles=roles)
        except PyMongoError as error:
            raise NotReady(f"MongoDB does not respond yet ({type(error).__name__}: {error})") from error

    async def drop_database(self, name: str) -> None:
        """Drop a database with all collections."""
        async with self.client() as client:
            await client.drop_database(name)
