"""Which variables of the caller's environment count: documented settings, and what every process needs.

All others stay outside. A proxy, `PGSSLMODE`, `GUNICORN_CMD_ARGS` or `LD_PRELOAD` of the user's shell is meant for
other programs and would break the servers. The settings of single services stand in `deploy/services.toml`.
"""

import os
from collections.abc import Mapping

from opskit.catalog import CatalogError, read_catalog

_PROCESS = {
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "LANG", "LANGUAGE", "TZ", "TZDIR"),
    *("TERM", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    # Where servers and interpreters outside of the system's directories find their libraries and packages. The Makefile
    # removes PYTHONPATH; who runs the launcher's module with one means it.
    *("LD_LIBRARY_PATH", "PYTHONPATH"),
}
LAUNCHER_VARIABLES = {
    *("DATA_DIR", "REPLICAS", "MONGO_NODES", "RELOAD", "CONSOLE", "FORCE", "POSTGRES_URL", "MONGO_URL", "VALKEY_URL"),
}
# Settings of all services and of the gateway. The gateway's other ones begin with GATEWAY_.
SETTINGS = {
    *("LOG_LEVEL", "LOG_LEVELS", "LOG_FORMAT", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER_ARG"),
    *("SERVICE_CIPHER", "DISPATCH_TRANSPORT", "USER_RATE", "MAX_UPLOAD_BYTES", "TOKEN_ISSUER", "TOKEN_AUDIENCE"),
    *("TRUSTED_PROXIES", "CORS_ALLOWED_ORIGINS", "STATIC_DIR", "STATIC_CSP"),
    *("DATABASE_CONNECTIONS", "DATABASE_REPLICAS"),
}
_PREFIXES = ("LC_", "GATEWAY_")


def known_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that count, of this process unless others are given."""
    environ = os.environ if environ is None else environ
    names = _PROCESS | LAUNCHER_VARIABLES | SETTINGS | settings_of_services()
    return {name: value for name, value in environ.items() if name in names or name.startswith(_PREFIXES)}


def keep_known_variables(*also: str) -> None:
    """Remove from this process's environment what does not count; names that begin like one of `also` stay."""
    known = known_variables()
    for name in os.environ.keys() - known.keys():
        if not name.startswith(also):
            del os.environ[name]


def settings_of_services() -> set[str]:
    """Return the names of settings that single services have, and of files that hold them."""
    try:
        catalog = read_catalog(operators=True)
    except CatalogError:
        # The command itself reports what is wrong with the list.
        return set()
    names = {name for entry in catalog.values() for name in entry.settings}
    return names | {f"{name}_FILE" for name in names}
