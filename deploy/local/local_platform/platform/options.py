"""What the user chooses."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from local_platform.errors import InvalidOption
from servicekit.sealing.ciphers import CipherName

MOST_REPLICAS = 16
MOST_NODES = 7
_LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")

_EPILOG = """\
Services and gateway also take their settings from the environment: MAX_UPLOAD_BYTES, USER_RATE, SERVICE_CIPHER,
LOG_LEVEL, and GATEWAY_RATE_GENERAL, GATEWAY_RATE_AUTH, GATEWAY_RATE_UPLOAD (requests per second and address, 0 = off).
Where a platform has no wheel of a server and none is on PATH: POSTGRES_URL, MONGO_URL, VALKEY_URL.
"""


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
            raise InvalidOption(f"GATEWAY_PORT={self.gateway_port} is no port; use 1 to 65535, or 0 for any free one")
        if not 1 <= self.replicas <= MOST_REPLICAS:
            raise InvalidOption(f"REPLICAS={self.replicas} cannot be; use 1 to {MOST_REPLICAS}")
        if not 1 <= self.mongo_nodes <= MOST_NODES:
            raise InvalidOption(
                f"MONGO_NODES={self.mongo_nodes} cannot be; use 1 to {MOST_NODES}, an odd number to outlive a failure"
            )
        _check_services({**os.environ, **self.settings})


def _check_services(environment: Mapping[str, str]) -> None:
    """Refuse now what every service would refuse in its turn, after the stores have started."""
    cipher, rate, level = (environment.get(name) for name in ("SERVICE_CIPHER", "USER_RATE", "LOG_LEVEL"))
    if cipher and cipher not in get_args(CipherName):
        raise InvalidOption(f"SERVICE_CIPHER={cipher} cannot be; use {' or '.join(get_args(CipherName))}")
    if rate and not (rate.isascii() and rate.isdigit()):
        raise InvalidOption(f"USER_RATE={rate} cannot be; use whole requests per second, 0 = no limit")
    if level and level.upper() not in _LOG_LEVELS:
        raise InvalidOption(f"LOG_LEVEL={level} cannot be; use one of {', '.join(_LOG_LEVELS)}")


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; what it leaves out comes from the environment, under the name that `make run` uses."""
    parser = argparse.ArgumentParser(
        prog="python -m local_platform",
        description="Run the platform on this machine: PostgreSQL, MongoDB, Valkey, every service and the gateway.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(flag: str, default: str, kind: type, text: str) -> None:
        variable = flag.strip("-").replace("-", "_").upper()
        value = os.environ.get(variable) or default
        parser.add_argument(flag, type=kind, default=value, help=f"{text} ({variable}, default {default})")

    add("--gateway-port", "8080", int, "the gateway's port on 127.0.0.1; 0: any free one")
    add("--data-dir", ".data", Path, "holds all data, secrets and logs")
    add("--replicas", "1", int, "how many of each service")
    add("--mongo-nodes", "1", int, "nodes of the MongoDB replica set")
    values = parser.parse_args(arguments)
    return Options(values.data_dir, values.gateway_port, values.replicas, values.mongo_nodes)
