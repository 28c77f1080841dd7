"""Settings that every service reads from its environment, once, at start.

A secret may be read from a file: `DATABASE_URL_FILE=/run/secrets/database_url` fills `DATABASE_URL`. No secret has a
default, and production refuses the placeholders of `.env.example`.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, HttpUrl, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from servicekit.core.client_address import Network, network_or_name

PLACEHOLDERS = ("change-me", "changeme", "placeholder", "example", "secret", "password")
FILE_SUFFIX = "_FILE"
LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")

# Connections of one process where no budget is given.
POOL_SIZE: Final = 5
# One connection serves requests while the outbox relay or a probe uses the other.
LEAST_POOL_SIZE: Final = 2
# Set aside for two migration jobs, one running and one waiting, and an operator's command.
JOB_CONNECTIONS: Final = 4


def _level(value: str) -> str:
    if value.upper() not in LOG_LEVELS:
        raise ValueError(f"{value!r} is none of {', '.join(LOG_LEVELS)}")
    return value


def _levels(value: str) -> str:
    for part in filter(str.strip, value.split(",")):
        library, sign, level = part.partition("=")
        if not library.strip() or not sign:
            raise ValueError(f"{part.strip()!r} is not of the form library=LEVEL")
        _level(level.strip())
    return value


class SecretFiles(PydanticBaseSettingsSource):
    """Reads each field `NAME` from the file that `NAME_FILE` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(field_name.upper() + FILE_SUFFIX)
        if path is None:
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, False
        except OSError as error:
            raise ValueError(f"{field_name.upper()}{FILE_SUFFIX}: {error}") from error

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class EnvironmentSettings(BaseSettings):
    """Frozen settings from the environment and from the files that it names."""

    # The input of a settings error holds secrets.
    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, SecretFiles(settings_cls)


class ServiceSettings(EnvironmentSettings):
    """Settings of the kit. A service derives its own and adds the address of its store."""

    service_name: str
    environment: Literal["development", "production"] = "production"

    log_level: Annotated[str, AfterValidator(_level)] = "INFO"
    log_format: Literal["json", "console"] = "json"
    # A directory for log files, and their name there (default: the service's name).
    log_dir: Path | None = None
    log_name: str = ""
    # Levels of single libraries: `sqlalchemy=WARNING,aiohttp=ERROR`.
    log_levels: Annotated[str, AfterValidator(_levels)] = ""

    # The base URL of an OpenTelemetry collector (OTLP over HTTP), which gets traces.
    otel_exporter_otlp_endpoint: HttpUrl | None = None
    # The share of traces started here that is recorded: by default all, and with a console a few in a second. For a
    # trace started elsewhere, the sender decides.
    otel_traces_sampler_arg: float | None = Field(default=None, ge=0, le=1)
    # The base URL of the console, which gets traces, log lines and metrics.
    console_url: HttpUrl | None = None

    valkey_url: SecretStr

    service_keys_dir: Path
    service_cipher: Literal["fernet", "aes-256-gcm"] = "fernet"
    # What carries calls to other services: aiohttp's connections, or httpx2 at several times the cost.
    dispatch_transport: Literal["aiohttp", "httpx2"] = "aiohttp"
    # Base URLs of each service that this one calls, one per replica; a DNS name may resolve to several.
    peer_urls: dict[str, list[str]] = Field(default_factory=dict)

    # The gateway's networks and DNS names: X-Real-IP is trusted from these alone.
    gateway_networks: Annotated[tuple[Network | str, ...], NoDecode] = ()
    # Requests per second per user, over all replicas; 0 switches the limit off.
    user_rate: int = Field(default=100, ge=0)

    token_issuer: str = "baseplate-user"
    token_audience: str = "baseplate"

    # The key of the HMAC that tells a repeated request from a different one.
    fingerprint_secret: SecretStr = Field(min_length=32)

    @property
    def traced(self) -> bool:
        """Whether this service exports traces."""
        return self.otel_exporter_otlp_endpoint is not None or self.console_url is not None

    @field_validator("gateway_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: Any) -> Any:
        parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        return tuple(network_or_name(part) if isinstance(part, str) else part for part in parts)

    @model_validator(mode="after")
    def _refuse_placeholders(self) -> Self:
        if self.environment == "production":
            for name in type(self).model_fields:
                value = getattr(self, name)
                if isinstance(value, SecretStr) and _is_placeholder(value.get_secret_value()):
                    raise ValueError(f"{name.upper()} still holds a placeholder; set a secret of your own")
        return self


class PostgresSettings(ServiceSettings):
    """Settings of a service that owns a PostgreSQL database."""

    database_url: SecretStr
    # The service's share of the server's `max_connections`: over all replicas, their workers and its jobs.
    database_connections: int | None = Field(default=None, ge=1)
    # The most replicas that run at once, including both versions during a release.
    database_replicas: int = Field(default=1, ge=1)
    # Workers of one replica: the variable is gunicorn's own.
    web_concurrency: int = Field(default=1, ge=1)

    @property
    def pool_size(self) -> int:
        """How many connections each process may hold, so that all of them stay within the budget."""
        if self.database_connections is None:
            return POOL_SIZE
        return (self.database_connections - JOB_CONNECTIONS) // self._processes

    @property
    def _processes(self) -> int:
        return self.database_replicas * self.web_concurrency

    @model_validator(mode="after")
    def _refuse_a_budget_that_is_too_small(self) -> Self:
        if self.pool_size < LEAST_POOL_SIZE:
            least = self._processes * LEAST_POOL_SIZE + JOB_CONNECTIONS
            raise ValueError(
                f"DATABASE_CONNECTIONS={self.database_connections} is too small for {self._processes} processes "
                f"(DATABASE_REPLICAS × WEB_CONCURRENCY): {LEAST_POOL_SIZE} connections each and {JOB_CONNECTIONS} for "
                f"jobs are {least}"
            )
        return self


def _is_placeholder(value: str) -> bool:
    """Return whether a secret, or the password inside a URL, is a placeholder."""
    password = value.split("://", 1)[-1].rsplit("@", 1)[0].rsplit(":", 1)[-1] if "://" in value else value
    return password.lower().strip("<>_-") in PLACEHOLDERS or "change-me" in password.lower()
