"""Settings of services under test."""

from pathlib import Path
from typing import Any

import orjson
from pydantic import SecretStr

from servicekit.core.settings import ServiceSettings


def common_settings(name: str, valkey_url: str, keys: Path) -> dict[str, Any]:
    """Return the settings that all services need. `keys` contains a folder for each service."""
    return {
        "service_name": name,
        "environment": "development",
        "log_format": "console",
        "valkey_url": SecretStr(valkey_url),
        "service_keys_dir": keys / name,
        "fingerprint_secret": SecretStr("f" * 32),
        "user_rate": 0,
    }


def unconnected_settings(name: str, **more: Any) -> ServiceSettings:
    """Return the settings of a service in production, without a store and without keys."""
    needed = {
        "service_name": name,
        "valkey_url": SecretStr("redis://127.0.0.1:1/0"),
        "service_keys_dir": Path(),
        "fingerprint_secret": SecretStr("f" * 32),
    }
    return ServiceSettings(**{**needed, **more})


def as_environment(settings: ServiceSettings) -> dict[str, str]:
    """Return the environment in which another process reads the same settings."""
    return {name.upper(): _as_text(getattr(settings, name)) for name in sorted(settings.model_fields_set)}


def _as_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return orjson.dumps(value).decode() if isinstance(value, dict) else str(value)
