"""Adds a service to `deploy/services.toml`, to the README and to the lists of the root pyproject.toml.

The Makefile, the launcher, the gateway and the key tools read the service list. The tools that are configured in
pyproject.toml read no other file, so each of their lists names all services.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Array, Table

from local_platform.errors import GeneratorError
from opskit.catalog import ServiceEntry

CALLER: Final = "user"
"""The service that may call a new one, because it announces deleted accounts to all others."""

GATEWAY_PORT: Final = 8080
# A list names services by their folders or by their packages.
FORMS: Final = ("{}", "{}_service")


class NotRegistered(GeneratorError):
    """A file does not have the form that the generator edits; the message names the file."""


def free_port(catalog: Mapping[str, ServiceEntry]) -> int:
    """Return the first port for development that no service has."""
    taken = {GATEWAY_PORT, *(entry.development_port for entry in catalog.values())}
    return next(port for port in range(8001, 65536) if port not in taken)


def with_entry(services: str, entry: ServiceEntry) -> str:
    """Return the service list with one more service, called by `CALLER` and by services for operators.

    Raises NotRegistered.
    """
    document = parse_toml("deploy/services.toml", services)
    for caller in (CALLER, *(name for name, table in document.items() if table.get("operators"))):
        match document.get(caller):
            case {"calls": Array() as calls}:
                calls.append(entry.name)
            case _:
                raise NotRegistered(f"deploy/services.toml: [{caller}] has no list `calls`")
    table = tomlkit.table()
    table.update(
        prefix=entry.prefix,
        development_port=entry.development_port,
        store=entry.store,
        calls=list(entry.calls),
    )
    document.append(entry.name, table)
    return tomlkit.dumps(document)


def with_row(readme: str, existing: Collection[str], entry: ServiceEntry, title: str) -> str:
    """Return the README with a row for a service below those of the existing ones. Raises NotRegistered."""
    lines = readme.splitlines(keepends=True)
    rows = [number for number, line in enumerate(lines) if line.startswith(tuple(f"| [`{name}`]" for name in existing))]
    if not rows:
        raise NotRegistered("README.md has no table of services")
    row = f"| [`{entry.name}`]({entry.name}/README.md) | {title} | entries | `/api/v1/{entry.prefix}` |\n"
    lines.insert(rows[-1] + 1, row)
    return "".join(lines)


def with_member(manifest: str, existing: Collection[str], name: str) -> str:
    """Return the root pyproject.toml with a service in each list that names all existing ones. Raises NotRegistered."""
    document = parse_toml("pyproject.toml", manifest)
    for array in arrays(document):
        for form in FORMS:
            named, new = [form.format(service) for service in existing], form.format(name)
            if new not in array and all(service in array for service in named):
                array.insert(1 + max(array.index(service) for service in named), new)
    return tomlkit.dumps(document)


def parse_toml(path: str, text: str) -> tomlkit.TOMLDocument:
    """Return the document of a file. Raises NotRegistered."""
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise NotRegistered(f"{path}: {error}") from error


def arrays(item: Any) -> Iterator[Array]:
    """Yield the arrays below an item of a document, which are lists of plain values or of tables.

    `containers` are left out: these name packages whose own modules a contract is about.
    """
    if isinstance(item, Array):
        yield item
    elif isinstance(item, Table | dict):
        for key, value in item.items():
            if key != "containers":
                yield from arrays(value)
    elif isinstance(item, list):
        for value in item:
            yield from arrays(value)
