"""What the user service reads from its environment, besides what all services read."""

from pathlib import Path

from servicekit.core.settings import PostgresSettings
from servicekit.storage.postgres_migrations import DatabaseSettings


class Settings(PostgresSettings):
    """Of the service itself."""

    # Holds the keys that sign access tokens; the migration job makes the first one.
    jwt_keys_dir: Path


class MigrationSettings(DatabaseSettings):
    """Of the migration job."""

    jwt_keys_dir: Path
