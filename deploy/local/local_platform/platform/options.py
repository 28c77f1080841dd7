"""The options of `make run`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from local_platform.environment import known_variables
from local_platform.errors import InvalidOption
from servicekit.sealing.ciphers import CipherName

MAX_REPLICAS = 16
MAX_MONGO_NODES = 7
_LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class Options:
    """How to run. `gateway_port` 0: any free one; `settings`: environment variables of services and gateway."""

    data_dir: Path
    gateway_port: int = 8080
    replicas: int = 1
    mongo_nodes: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)

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
    """Refuse at once a value that every service would refuse later, after the stores have started."""
    cipher, rate, level = (environment.get(name) for name in ("SERVICE_CIPHER", "USER_RATE", "LOG_LEVEL"))
    if cipher and cipher not in get_args(CipherName):
        raise InvalidOption(f"SERVICE_CIPHER={cipher} is unknown; use {' or '.join(get_args(CipherName))}")
    if rate and not (rate.isascii() and rate.isdigit()):
        raise InvalidOption(f"USER_RATE={rate} is not a number; use whole requests per second, 0 = no limit")
    if level and level.upper() not in _LOG_LEVELS:
        raise InvalidOption(f"LOG_LEVEL={level} is unknown; use one of {', '.join(_LOG_LEVELS)}")
