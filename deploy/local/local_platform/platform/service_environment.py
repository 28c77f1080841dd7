"""The environment of a service's processes: the same for its replicas, its migration and its commands."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from local_platform.environment import LAUNCHER_VARIABLES, known_variables
from local_platform.layout import Layout
from local_platform.supervision.ports import HOST
from opskit.catalog import ServiceEntry

_STORE_VARIABLES = {"postgres": "DATABASE_URL", "mongo": "MONGO_URL"}
# The launcher decides these. A value from the user's environment would override the file, or mix up the replicas.
_SECRETS = ("DATABASE_URL", "MONGO_URL", "VALKEY_URL", "FINGERPRINT_SECRET", "LINK_SECRET")
_NOT_PASSED_ON = LAUNCHER_VARIABLES.union(_SECRETS)


def keys_directory(layout: Layout) -> Path:
    """Return the directory that holds one directory of keys for each service."""
    return layout.secrets.path("keys")


def write_secrets(layout: Layout, entry: ServiceEntry, *, valkey_url: str, store_url: str = "") -> None:
    """Write the files that the service's `…_FILE` variables name; the URLs change with the stores' ports."""
    secrets = layout.secrets
    for variable, url in zip(_url_variables(entry), (valkey_url, store_url), strict=False):
        secrets.store(_file(entry, variable), url)
    for variable in _random_secrets(entry):
        secrets.value(_file(entry, variable))


def service_environment(
    layout: Layout,
    entry: ServiceEntry,
    *,
    peers: Mapping[str, Sequence[str]] | None = None,
    settings: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return a service's whole environment. Secrets are in files, because `ps` can show an environment.

    The user's settings, such as LOG_LEVEL or SERVICE_CIPHER, are passed on; `settings` override them.
    """
    secrets = layout.secrets
    environment = {"ENVIRONMENT": "production", "LOG_FORMAT": "json"}
    environment |= {name: value for name, value in known_variables().items() if name not in _NOT_PASSED_ON}
    environment |= settings or {}
    environment |= {
        f"{variable}_FILE": str(secrets.path(_file(entry, variable)))
        for variable in (*_url_variables(entry), *_random_secrets(entry))
    }
    environment |= {
        "SERVICE_NAME": entry.name,
        "SERVICE_KEYS_DIR": str(keys_directory(layout) / entry.name),
        "PEER_URLS": json.dumps(peers or {}),
        "GATEWAY_NETWORKS": f"{HOST}/32",
    }
    if entry.issues_tokens:
        environment["JWT_KEYS_DIR"] = str(secrets.path("jwt"))
    if entry.keeps_files:
        environment |= {
            f"{entry.name.upper()}_DIR": str(layout.root / entry.name),
            # The gateway reads the same folder.
            f"{entry.name.upper()}_X_ACCEL": "1",
        }
    return environment


def _url_variables(entry: ServiceEntry) -> tuple[str, ...]:
    return ("VALKEY_URL",) if entry.store is None else ("VALKEY_URL", _STORE_VARIABLES[entry.store])


def _random_secrets(entry: ServiceEntry) -> tuple[str, ...]:
    """Return the variables that hold a random secret; a service that keeps files also signs links to them."""
    return ("FINGERPRINT_SECRET", "LINK_SECRET") if entry.keeps_files else ("FINGERPRINT_SECRET",)


def _file(entry: ServiceEntry, variable: str) -> str:
    return f"{entry.name}/{variable.lower()}"
