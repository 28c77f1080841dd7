"""Adds a service to the lists that name all services: `deploy/services.toml`, and arrays of the root pyproject.toml.

Both are edited as text, so that comments and order stay. The Makefile, the launcher, the gateway and the keys read the
service list; pyproject.toml cannot, because the tools that it is for know no other file.
"""

import re
import tomllib
from collections.abc import Collection, Mapping
from typing import Final

from local_platform.errors import GeneratorError
from opskit.catalog import ServiceEntry

CALLER: Final = "user"
"""The service that may call a new one: it is the one that tells all others of deleted accounts."""

GATEWAY_PORT: Final = 8080
# How a list may name a service: by its folder, or by its package.
_FORMS: Final = ("{}", "{}_service")
# An array of strings. None of the lists in question holds a bracket.
_ARRAY: Final = re.compile(r"\[[^\[\]]*\]")


class NotRegistered(GeneratorError):
    """A list has another form than the generator knows; the message names it."""


def free_port(catalog: Mapping[str, ServiceEntry]) -> int:
    """Return the first port for development that no service has."""
    taken = {GATEWAY_PORT, *(entry.development_port for entry in catalog.values())}
    return next(port for port in range(8001, 65536) if port not in taken)


def with_entry(services: str, entry: ServiceEntry) -> str:
    """Return the service list with one more service, which `CALLER` may call. Raises `NotRegistered`."""
    line = re.compile(rf"(^\[{CALLER}\]$[^\[]*^calls = \[)([^\]\n]*)(?=\]$)", re.MULTILINE)
    called, number = line.subn(lambda match: f'{match[1]}{match[2]}{match[2] and ", "}"{entry.name}"', services)
    if number != 1:
        raise NotRegistered(f"deploy/services.toml: [{CALLER}] has no line `calls = […]`")
    calls = ", ".join(f'"{name}"' for name in entry.calls)
    return (
        f"{called.rstrip()}\n\n[{entry.name}]\n"
        f'prefix = "{entry.prefix}"\n'
        f"development_port = {entry.development_port}\n"
        f'store = "{entry.store}"\n'
        f"calls = [{calls}]\n"
    )


def with_member(manifest: str, existing: Collection[str], name: str) -> str:
    """Return the root pyproject.toml with a service in each array that names all existing ones; again: no change."""

    def extended(match: re.Match[str]) -> str:
        array = match[0]
        for form in _FORMS:
            named = {f'"{form.format(service)}"' for service in existing}
            new = f'"{form.format(name)}"'
            if new not in array and all(text in array for text in named):
                # Where each item has a line of its own, so has the new one.
                last = max(array.index(text) + len(text) for text in named)
                between = "\n    " if "\n" in array else " "
                array = f"{array[:last]},{between}{new}{array[last:]}"
        return array

    edited = _ARRAY.sub(extended, manifest)
    tomllib.loads(edited)
    return edited
