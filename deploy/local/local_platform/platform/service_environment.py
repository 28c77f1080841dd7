"""The environment of a service's processes: the same for its replicas, its migration and its commands."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from local_platform.files import SecretFiles
from local_platform.supervision.ports import HOST
from opskit.catalog import ServiceEntry

_STORE_VARIABLES = {"postgres": "DATABASE_URL", "mongo": "MONGO_URL"}
# The launcher decides these. A value in our own environment would win over the file, or mix up the replicas.
_OURS = ("DATABASE_URL", "MONGO_URL", "VALKEY_URL", "FINGERPRINT_SECRET", "LINK_SECRET")
_NOT_INHERITED = {*_OURS, *(f"{name}_FILE" for name in _OURS), "LOG_DIR", "PROMETHEUS_MULTIPROC_DIR"}


def keys_directory(secrets: SecretFiles) -> Path:
    """Return the directory that holds one directory of service keys for each service."""
    return secrets.path("keys")


def files_directory(secrets: SecretFiles, entry: ServiceEntry) -> Path:
    """Return the folder of a service that keeps files: below DATA_DIR, beside the secrets."""
    return secrets.directory.parent / entry.name


def write_secrets(secrets: SecretFiles, entry: ServiceEntry, *, store_url: str, valkey_url: str) -> None:
    """Write what the service's `…_FILE` variables name; the URLs change with the stores' ports."""
    secrets.store(_file(entry, _STORE_VARIABLES[entry.store]), store_url)
    secrets.store(_file(entry, "VALKEY_URL"), valkey_url)
    for variable in _random_secrets(entry):
        secrets.value(_file(entry, variable))


def service_environment(
    secrets: SecretFiles,
    entry: ServiceEntry,
    *,
    peers: Mapping[str, Sequence[str]] | None = None,
    settings: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return a service's whole environment. Secrets stand in files, where `ps` does not show them.

    What the user set, such as LOG_LEVEL or SERVICE_CIPHER, is inherited, and `settings` come on top of it.
    """
    environment = {"ENVIRONMENT": "production", "LOG_FORMAT": "json"}
    environment |= {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    environment |= settings or {}
    environment |= {
        f"{variable}_FILE": str(secrets.path(_file(entry, variable)))
        for variable in (_STORE_VARIABLES[entry.store], "VALKEY_URL", *_random_secrets(entry))
    }
    environment |= {
        "SERVICE_NAME": entry.name,
        "SERVICE_KEYS_DIR": str(keys_directory(secrets) / entry.name),
        "PEER_URLS": json.dumps(peers or {}),
        "GATEWAY_NETWORKS": f"{HOST}/32",
    }
    if entry.issues_tokens:
        environment["JWT_KEYS_DIR"] = str(secrets.path("jwt"))
    if entry.keeps_files:
        environment |= {
            f"{entry.name.upper()}_DIR": str(files_directory(secrets, entry)),
            # The gateway reads the same folder.
            f"{entry.name.upper()}_X_ACCEL": "1",
        }
    return environment


def _random_secrets(entry: ServiceEntry) -> tuple[str, ...]:
    """Return the variables that hold a secret of the service's own; links to files are signed."""
    return ("FINGERPRINT_SECRET", "LINK_SECRET") if entry.keeps_files else ("FINGERPRINT_SECRET",)


def _file(entry: ServiceEntry, variable: str) -> str:
    return f"{entry.name}/{variable.lower()}"
