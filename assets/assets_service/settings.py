"""What the assets service reads from its environment, besides what all services read."""

from pathlib import Path

from pydantic import BaseModel, Field, SecretStr

from servicekit.core.settings import PostgresSettings
from servicekit.storage.postgres_migrations import DatabaseSettings

MEBIBYTE = 1024 * 1024


class StoreSettings(BaseModel):
    """Where the bytes are: in a bucket if its URL is given, otherwise in a folder."""

    # `s3://bucket/prefix`.
    assets_store_url: str | None = None
    # One volume for all replicas.
    assets_dir: Path = Path("assets-data")
    # Without these, the bucket's credentials are those of the machine (an instance role, a web identity).
    aws_access_key_id: SecretStr | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    aws_region: str | None = None
    # Of another S3 than Amazon's.
    aws_endpoint_url: str | None = None


class Settings(PostgresSettings, StoreSettings):
    """Of the service itself."""

    # Keys the HMAC that signs links.
    link_secret: SecretStr = Field(min_length=32)

    max_upload_bytes: int = Field(default=100 * MEBIBYTE, ge=1)
    # What all files of one user may take together.
    user_quota_bytes: int = Field(default=1024 * MEBIBYTE, ge=1)
    # Whether the gateway may send files of the folder by itself, which it must have mounted.
    assets_x_accel: bool = False
    # After this time, what an upload or a deletion has left behind is removed; no upload takes as long.
    leftover_seconds: int = Field(default=3600, ge=1)


class MigrationSettings(DatabaseSettings, StoreSettings):
    """Of the migration job."""
