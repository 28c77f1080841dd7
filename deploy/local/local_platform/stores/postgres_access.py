"""A PostgreSQL server as its administrator sees it: readiness, databases, one role for each service."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import asyncpg

from local_platform.errors import DataDirectoryUnusable, ServerMissing
from local_platform.supervision.probes import NotReady

CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PostgresAccess:
    """Address and administrator of a server."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> "PostgresAccess":
        """Parse `postgresql://user:password@host:port`, a server that the user runs."""
        parts = urlsplit(url)
        if not parts.hostname or not parts.username:
            raise ServerMissing("POSTGRES_URL must look like postgresql://user:password@host:port")
        return cls(parts.hostname, parts.port or 5432, unquote(parts.username), unquote(parts.password or ""))

    def url(self, database: str, *, user: str = "", password: str = "", driver: str = "postgresql+asyncpg") -> str:
        """Return the URL of a database, for the administrator unless another user is named."""
        name, secret = (user, password) if user else (self.user, self.password)
        return f"{driver}://{quote(name, safe='')}:{quote(secret, safe='')}@{self.host}:{self.port}/{database}"

    @asynccontextmanager
    async def connect(self, database: str = "postgres") -> AsyncIterator[Any]:
        """Yield an asyncpg connection of the administrator."""
        connection = await asyncpg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            database=database,
            timeout=CONNECT_SECONDS,
            ssl=False,
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=CONNECT_SECONDS)

    async def probe(self) -> str:
        """Run a query; raise NotReady unless the server responds."""
        with _errors_translated():
            async with self.connect() as connection:
                await connection.fetchval("SELECT 1")
        return ""

    async def ensure_roles(self, passwords: Mapping[str, str], *, owned: bool) -> None:
        """Create or update a role for each service, and a database of that name that no other role may enter.

        On a server of our own (`owned`), only the administrator enters the databases that come with the server. May be
        repeated. Raises NotReady when the server becomes unavailable meanwhile.
        """
        with _errors_translated():
            async with self.connect() as connection:
                if owned:
                    await connection.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
                await self._ensure_roles(connection, passwords)

    async def _ensure_roles(self, connection: Any, passwords: Mapping[str, str]) -> None:
        # The server logs statements that fail, and these contain passwords.
        await connection.execute("SET log_min_error_statement = panic")
        roles = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
        databases = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
        for name, password in passwords.items():
            # An existing role may have another password, from lost secrets or another DATA_DIR.
            verb = "ALTER" if name in roles else "CREATE"
            await connection.execute(f"{verb} ROLE {_quoted_name(name)} LOGIN PASSWORD {_quoted_text(password)}")
            if name not in databases:
                await connection.execute(f"CREATE DATABASE {_quoted_name(name)} OWNER {_quoted_name(name)}")
            await connection.execute(f"REVOKE ALL ON DATABASE {_quoted_name(name)} FROM PUBLIC")

    async def create_database(self, name: str) -> str:
        """Create an empty database and return the administrator's URL of it (driver asyncpg, for SQLAlchemy)."""
        async with self.connect() as connection:
            await connection.execute(f"CREATE DATABASE {_quoted_name(name)}")
        return self.url(name)

    async def drop_database(self, name: str) -> None:
        """Drop a database, even while clients are connected to it."""
        async with self.connect() as connection:
            await connection.execute(f"DROP DATABASE IF EXISTS {_quoted_name(name)} WITH (FORCE)")


def _quoted_name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _quoted_text(literal: str) -> str:
    return "'" + literal.replace("'", "''") + "'"


@contextmanager
def _errors_translated() -> Iterator[None]:
    """Raise NotReady for the errors of a server that starts or dies."""
    try:
        yield
    except asyncpg.InvalidPasswordError as error:
        raise DataDirectoryUnusable(
            "PostgreSQL refuses the password in DATA_DIR/secrets: these secrets do not belong to this data; "
            "restore them, or start with another DATA_DIR=…"
        ) from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise NotReady(f"PostgreSQL does not respond yet ({type(error).__name__}: {error})") from error
