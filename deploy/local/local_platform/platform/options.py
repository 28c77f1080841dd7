"""The options of `make run`."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from local_platform.environment import SETTINGS, known_variables, settings_of_services
from local_platform.errors import InvalidOption
from opskit.catalog import read_catalog

MAX_REPLICAS = 16
MAX_MONGO_NODES = 7


@dataclass(frozen=True, slots=True)
class Options:
    """How to run. `gateway_port` 0: any free one; `settings`: environment variables of services and gateway."""

    data_dir: Path
    gateway_port: int = 8080
    replicas: int = 1
    mongo_nodes: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    # Whether a service starts anew when its code changes.
    reload: bool = False
    # Whether the services for operators run, too.
    console: bool = False

    def check(self) -> None:
        """Raise InvalidOption for a value that cannot work."""
        if not 0 <= self.gateway_port <= 65535:
            raise InvalidOption(
                f"GATEWAY_PORT={self.gateway_port} is not a port; use 1 to 65535, or 0 for any free one"
            )
        if not 1 <= self.replicas <= MAX_REPLICAS:
            raise InvalidOption(f"REPLICAS={self.replicas} is out of range; use 1 to {MAX_REPLICAS}")
        if not 1 <= self.mongo_nodes <= MAX_MONGO_NODES:
            raise InvalidOption(
                f"MONGO_NODES={self.mongo_nodes} is out of range; use 1 to {MAX_MONGO_NODES}, "
                "an odd number to survive a failure"
            )
        _check_service_settings({**known_variables(), **self.settings})


def _check_service_settings(environment: Mapping[str, str]) -> None:
    """Refuse at once a value that a service would refuse later, after the stores have started.

    The fields of the services' own settings decide. A service's module is imported only for a setting of its own.
    """
    catalog = read_catalog(operators=True).values()
    for name, value in environment.items():
        if not value or name not in SETTINGS | settings_of_services():
            continue
        owners = [f"{entry.package}.settings" for entry in catalog if name in entry.settings]
        for module in owners or ["servicekit.core.settings"]:
            settings = importlib.import_module(module)
            fields = getattr(settings, "Settings" if owners else "PostgresSettings").model_fields
            if (field := fields.get(name.lower())) is not None:
                _check_value(name, value, field)


def _check_value(name: str, value: str, field: FieldInfo) -> None:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
        adapter.validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InvalidOption(
            f"{name}={value} is invalid: {reason}; use another value, or leave it out for the default"
        ) from error
