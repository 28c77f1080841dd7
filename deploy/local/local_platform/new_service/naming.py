"""Rules for the name of a new service: it becomes a folder, a database and role, a path, and part of a package."""

import keyword
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from local_platform.errors import GeneratorError
from opskit.catalog import ServiceEntry

# What key files, NGINX, PostgreSQL and Python all accept.
_NAME: Final = re.compile(r"[a-z][a-z0-9]{1,29}")
# Names that the stores, the launcher, the gateway or the compose files use themselves.
_RESERVED: Final = frozenset(
    {
        *("admin", "config", "local"),  # databases of MongoDB
        *("none", "postgres", "public", "template0", "template1"),  # roles and databases of PostgreSQL
        "default",  # Valkey's user
        *("gateway", "mongo", "valkey", "internal"),
        *("keys", "jaeger", "prometheus"),  # containers
        *("canary", "done", "everybody", "hardened", "healthy", "job", "service", "store"),  # anchors
    }
)


class NameRefused(GeneratorError):
    """A service cannot have this name; the message says why."""


def check_name(name: str, catalog: Mapping[str, ServiceEntry], repository: Path) -> None:
    """Check the name of a new service. Raises NameRefused."""
    if not _NAME.fullmatch(name):
        # A hyphen cannot stand in a package, nor an underscore in the name of a host; so neither is offered.
        plain = re.sub("[^a-z0-9]", "", name.lower())
        instead = f", such as {plain}" if _NAME.fullmatch(plain) else ""
        raise NameRefused(
            f"{name!r} cannot be a name; use 2 to 30 lower-case letters and digits, a letter first{instead}"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in sys.stdlib_module_names:
        raise NameRefused(f"{name!r} means something in Python; choose another name")
    if name in _RESERVED:
        raise NameRefused(f"{name!r} is used by the platform itself; choose another name")
    for entry in catalog.values():
        if name in (entry.name, entry.prefix):
            raise NameRefused(f"{name!r} is taken: deploy/services.toml lists it")
    if (repository / name).exists():
        raise NameRefused(f"{name}/ exists already; nothing is overwritten")
