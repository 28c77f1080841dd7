"""The settings of the user service, in addition to those of every service."""

from pathlib import Path

from servicekit.core.settings import PostgresSettings
from servicekit.storage.postgres_migrations import DatabaseSettings


class Settings(PostgresSettings):
    """The settings of the service itself."""

    # The directory of the keys that sign access tokens. The migration job writes the first key.
    jwt_keys_dir: Path


class MigrationSettings(DatabaseSettings):
    """The settings of the migration job."""

    jwt_keys_dir: Path
