"""A release: old and new code run side by side on a schema that the new version's migration has expanded."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from pydantic import SecretStr

from local_platform.layout import REPOSITORY
from servicekit.storage.mongo_migrations import connected
from servicekit.testing.harness import gunicorn

API = "/api/v1/users"
PASSWORD = "correct horse battery staple"

WRITE_MIGRATION = """
import asyncio, os
from pathlib import Path
from pydantic import SecretStr
from servicekit.storage.postgres_migrations import autogenerate
print(asyncio.run(autogenerate(Path.cwd(), SecretStr(os.environ["DATABASE_URL"]), "add pronouns")))
"""


@dataclass(frozen=True)
class Version:
    """The code of one version of a service, and what its processes share."""

    folder: Path
    environment: Mapping[str, str]

    async def run(self, *arguments: str) -> str:
        """Run Python with the code of this version; return its output."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=self.folder,
            env={**os.environ, **self._variables()},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        return output.decode()

    @asynccontextmanager
    async def replica(self, log: Path) -> AsyncIterator[httpx2.AsyncClient]:
        """Run a replica of the user service as in production; yield a client of it."""
        async with gunicorn("user_service.app:create_app()", self._variables(), log, folder=self.folder) as (http, _):
            yield http

    def _variables(self) -> dict[str, str]:
        # The packages of this version take precedence over the installed ones.
        return {**self.environment, "PYTHONPATH": str(self.folder)}


def _copy(service: str, to: Path) -> Path:
    """Copy the code of a service, to be changed for the next version."""
    source = REPOSITORY / service
    shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__", "tests", "README.md"))
    return to


def _edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name}: {before!r}"
    path.write_text(text.replace(before, after))


def _add_pronouns(folder: Path) -> None:
    """Make the smallest change of its kind: a field of the account that may be missing."""
    package = folder / "user_service"
    _edit(
        package / "models.py",
        "    password_hash: Mapped[str]\n",
        "    password_hash: Mapped[str]\n    pronouns: Mapped[str | None]\n",
    )
    _edit(
        package / "models.py",
        '    Column("role", Text, nullable=False),\n',
        '    Column("role", Text, nullable=False),\n    Column("pronouns", Text),\n',
    )
    _edit(
        package / "accounts" / "schemas.py",
        "    role: Role\n    created_at: datetime\n",
        "    role: Role\n    pronouns: str | None = None\n    created_at: datetime\n",
    )
    _edit(
        package / "accounts" / "schemas.py",
        "    # The defaults are never used",
        "    pronouns: str | None = None\n    # The defaults are never used",
    )


@pytest.fixture
def versions(postgres_url: str, valkey_url: str, tmp_path: Path) -> tuple[Version, Version]:
    """The current user service and its next version, on one database."""
    (tmp_path / "keys").mkdir()
    environment = {
        "SERVICE_NAME": "user",
        "ENVIRONMENT": "development",
        "DATABASE_URL": postgres_url,
        "VALKEY_URL": valkey_url,
        "SERVICE_KEYS_DIR": str(tmp_path / "keys"),
        "JWT_KEYS_DIR": str(tmp_path / "jwt"),
        "FINGERPRINT_SECRET": "f" * 32,
        "USER_RATE": "0",
        "WEB_CONCURRENCY": "1",
    }
    new = _copy("user", tmp_path / "next")
    _add_pronouns(new)
    return Version(REPOSITORY / "user", environment), Version(new, environment)


class User:
    """A user whose requests reach different versions of the service."""

    def __init__(self, name: str, account: dict[str, Any], tokens: dict[str, Any]) -> None:
        self.name = name
        self.account = account
        self.headers = {"Authorization": f"Bearer {tokens['access_token']}"}

    @classmethod
    async def register(cls, by: httpx2.AsyncClient, logged_in_by: httpx2.AsyncClient) -> "User":
        name = f"u{uuid4().hex[:20]}"
        body = {"username": name, "email": f"{name}@mail.dev", "password": PASSWORD}
        key = {"Idempotency-Key": uuid4().hex}
        first = await by.post(f"{API}/register", json=body, headers=key)
        assert first.status_code == 201, first.text
        # The gateway repeats a request without a response at the other version.
        again = await logged_in_by.post(f"{API}/register", json=body, headers=key)
        assert (again.status_code, again.json()) == (201, first.json())
        assert again.headers["idempotency-replayed"] == "true"
        login = await logged_in_by.post(f"{API}/login", json={"username_or_email": name, "password": PASSWORD})
        assert login.status_code == 200, login.text
        return cls(name, first.json(), login.json())

    async def profile(self, at: httpx2.AsyncClient) -> dict[str, Any]:
        response = await at.get(f"{API}/profile", headers=self.headers)
        assert response.status_code == 200, response.text
        profile: dict[str, Any] = response.json()
        return profile

    async def patch(self, at: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
        response = await at.patch(f"{API}/profile", headers=self.headers, json=fields)
        assert response.status_code == 200, response.text
        profile: dict[str, Any] = response.json()
        return profile

    async def delete(self, at: httpx2.AsyncClient) -> None:
        response = await at.delete(f"{API}/profile", headers=self.headers)
        assert response.status_code == 204, response.text


async def _rows(url: str, query: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def test_old_and_new_code_work_side_by_side_on_the_expanded_schema(
    versions: tuple[Version, Version], postgres_url: str, tmp_path: Path
) -> None:
    old_version, new_version = versions
    await old_version.run("-m", "user_service.migrate")
    async with AsyncExitStack() as stack:
        # This replica runs while the schema changes.
        old = await stack.enter_async_context(old_version.replica(tmp_path / "old.log"))
        before = await User.register(old, old)
        assert "add_pronouns" in await new_version.run("-c", WRITE_MIGRATION)
        assert "was migrated" in await new_version.run("-m", "user_service.migrate")
        new = await stack.enter_async_context(new_version.replica(tmp_path / "new.log"))
        # A replica of the old version that starts after the change: scaled up, or restarted.
        late = await stack.enter_async_context(old_version.replica(tmp_path / "late.log"))

        by_old = await User.register(old, new)
        by_new = await User.register(new, late)
        for user in (before, by_old, by_new):
            assert (await user.profile(new))["pronouns"] is None
            for replica in (old, late):
                assert "pronouns" not in await user.profile(replica)

            assert (await user.patch(new, pronouns="they/them"))["pronouns"] == "they/them"
            assert (await user.patch(old, display_name="Ada"))["display_name"] == "Ada"
            assert (await user.patch(late, email=f"new-{user.name}@mail.dev"))["display_name"] == "Ada"
            # Old code does not overwrite the columns that it does not know.
            seen = await user.profile(new)
            assert (seen["pronouns"], seen["display_name"], seen["email"]) == (
                "they/them",
                "Ada",
                f"new-{user.name}@mail.dev",
            )

        for replica in (old, late, new):
            assert (await replica.get(f"{API}/stats/count")).json() == {"count": 3}
        both = "SELECT username, email, display_name, pronouns FROM {} ORDER BY username"
        written = await _rows(postgres_url, both.format("users"))
        assert written == await _rows(postgres_url, both.format("users_read"))
        assert {row[0] for row in written} == {before.name, by_old.name, by_new.name}

        await by_new.delete(old)
        await by_old.delete(new)
        assert [row[0] for row in await _rows(postgres_url, both.format("users"))] == [before.name]
        for replica in (old, late, new):
            assert (await replica.get(f"{API}/stats/count")).json() == {"count": 1}


async def test_the_migration_job_of_the_old_version_leaves_the_expanded_schema_alone(
    versions: tuple[Version, Version], postgres_url: str
) -> None:
    """Every start of a version runs its job first, even during a release and after a rollback."""
    old_version, new_version = versions
    await old_version.run("-m", "user_service.migrate")
    await new_version.run("-c", WRITE_MIGRATION)
    await new_version.run("-m", "user_service.migrate")
    revision = await _rows(postgres_url, "SELECT version_num FROM alembic_version")

    for _ in range(2):
        assert "newer than this code: it is left alone" in await old_version.run("-m", "user_service.migrate")
    assert "up to date" in await new_version.run("-m", "user_service.migrate")

    assert await _rows(postgres_url, "SELECT version_num FROM alembic_version") == revision
    for table in ("users", "users_read"):
        await _rows(postgres_url, f"SELECT pronouns FROM {table}")


@pytest.mark.needs("notes")
async def test_the_mongodb_job_of_the_old_version_leaves_what_newer_code_added(mongo_url: str, tmp_path: Path) -> None:
    environment = {"MONGO_URL": mongo_url}
    old_version = Version(REPOSITORY / "notes", environment)
    new_version = Version(_copy("notes", tmp_path / "next"), environment)
    _edit(
        new_version.folder / "notes_service" / "database.py",
        "    erasure.COLLECTION_NAME: erasure.INDEXES,\n",
        '    erasure.COLLECTION_NAME: [*erasure.INDEXES, IndexModel("colour", name="by_colour")],\n'
        '    "palettes": [IndexModel("owner_id", name="by_owner")],\n',
    )
    await old_version.run("-m", "notes_service.migrate")
    await new_version.run("-m", "notes_service.migrate")

    async def schema() -> dict[str, set[str]]:
        async with connected(SecretStr(mongo_url), application="test") as database:
            names = await database.list_collection_names()
            return {name: set(await database[name].index_information()) for name in names}

    expanded = await schema()
    assert "by_owner" in expanded["palettes"]
    assert any("by_colour" in indexes for indexes in expanded.values())
    for version in (old_version, new_version, old_version):
        await version.run("-m", "notes_service.migrate")
    assert await schema() == expanded
