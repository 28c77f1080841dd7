"""Settings of the assets service, besides those of all services."""

from pathlib import Path

from pydantic import BaseModel, Field, SecretStr

from servicekit.core.settings import PostgresSettings
from servicekit.storage.postgres_migrations import DatabaseSettings

MEBIBYTE = 1024 * 1024


class StoreSettings(BaseModel):
    """Settings of the store of bytes: a bucket if its URL is given, otherwise a folder."""

    # `s3://bucket/prefix`.
    assets_store_url: str | None = None
    # One volume for all replicas.
    assets_dir: Path = Path("assets-data")
    # Without these, the machine's own credentials are used (an instance role, a web identity).
    aws_access_key_id: SecretStr | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    aws_region: str | None = None
    # For S3 servers other than Amazon's.
    aws_endpoint_url: str | None = None


class Settings(PostgresSettings, StoreSettings):
    """Settings of the service."""

    # Keys the HMAC that signs links.
    link_secret: SecretStr = Field(min_length=32)

    max_upload_bytes: int = Field(default=100 * MEBIBYTE, ge=1)
    # The most bytes of all files of one user.
    user_quota_bytes: int = Field(default=1024 * MEBIBYTE, ge=1)
    # Whether the gateway may send files itself; it must have the folder mounted.
    assets_x_accel: bool = False


class MigrationSettings(DatabaseSettings, StoreSettings):
    """Settings of the migration job."""
