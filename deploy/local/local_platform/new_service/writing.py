"""Writes a new service: files from the templates, and its name in the lists."""

import shutil
import subprocess  # nosec B404
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template
from typing import Final

from local_platform.errors import GeneratorError
from local_platform.new_service.containers import (
    in_context,
    in_development,
    in_production,
    in_scrapes,
    with_connections,
)
from local_platform.new_service.naming import check_name
from local_platform.new_service.registration import CALLER, free_port, with_entry, with_member, with_row
from opskit.catalog import ServiceEntry, Store, read_catalog

Catalog = Mapping[str, ServiceEntry]

TEMPLATES: Final = Path(__file__).parent / "templates"
# The files that name all services, each with the function that adds one.
LISTS: Final[Mapping[str, Callable[[str, Catalog, ServiceEntry], str]]] = {
    "deploy/services.toml": lambda text, _catalog, entry: with_entry(text, entry),
    "pyproject.toml": lambda text, catalog, entry: with_member(text, catalog, entry.name),
    "README.md": lambda text, catalog, entry: with_row(
        text, catalog, entry, _NAMES_BY_STORE[entry.store]["store_title"]
    ),
    "docker-compose.yml": lambda text, _catalog, entry: in_development(text, entry),
    "docker-compose.prod.yml": lambda text, _catalog, entry: in_production(text, entry),
    ".env.example": lambda text, _catalog, entry: with_connections(text, entry),
    ".dockerignore": lambda text, catalog, entry: in_context(text, catalog, entry.name),
    "deploy/observability/prometheus.yml": lambda text, _catalog, entry: in_scrapes(text, entry.name),
}
_SUFFIX: Final = ".tmpl"
# In the paths of templates, this stands for the name of the package.
_PACKAGE: Final = "package"
_NAMES_BY_STORE: Final[Mapping[Store | None, Mapping[str, str]]] = {
    "postgres": {"store_title": "PostgreSQL", "url_setting": "database_url", "migrations": "postgres_migrations"},
    "mongo": {"store_title": "MongoDB", "url_setting": "mongo_url", "migrations": "mongo_migrations"},
}


class CannotFormat(GeneratorError):
    """The formatter refused the written code; the message is the formatter's."""


def rendered_files(name: str, store: Store) -> dict[Path, str]:
    """Return the content of a service's files by their paths below its folder."""
    names = {
        "name": name,
        "title": name.capitalize(),
        "store": store,
        "caller": CALLER,
        "url_fixture": f"{store}_url",
        "url_variable": _NAMES_BY_STORE[store]["url_setting"].upper(),
        **_NAMES_BY_STORE[store],
    }
    files = {}
    for root in (TEMPLATES / "common", TEMPLATES / store):
        for template in sorted(root.rglob(f"*{_SUFFIX}")):
            parts = (f"{name}_service" if part == _PACKAGE else part for part in template.relative_to(root).parts)
            path = Path(*parts).with_suffix("")
            files[path] = Template(template.read_text(encoding="utf-8")).substitute(names)
    return files


def write_service(repository: Path, name: str, store: Store) -> ServiceEntry:
    """Write `<repository>/<name>` and add it to the lists; return its entry.

    All or nothing: a failure leaves the repository as it was. Raises GeneratorError and OSError.
    """
    everything = read_catalog(repository / "deploy" / "services.toml", operators=True)
    check_name(name, everything, repository)
    entry = ServiceEntry(name, name, free_port(everything), store, calls=(CALLER,))
    catalog = {name: other for name, other in everything.items() if not other.operators}
    before = {repository / path: (repository / path).read_text(encoding="utf-8") for path in LISTS}
    after = {repository / path: edit(before[repository / path], catalog, entry) for path, edit in LISTS.items()}
    files = rendered_files(name, store)
    folder = repository / name
    folder.mkdir()
    try:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        for path, text in after.items():
            path.write_text(text, encoding="utf-8")
        _format(repository, name)
    except BaseException:
        for path, text in before.items():
            path.write_text(text, encoding="utf-8")
        shutil.rmtree(folder)
        raise
    return entry


def _format(repository: Path, name: str) -> None:
    """Sort the imports and wrap the lines, since both depend on the name."""
    for arguments in (("check", "--select", "I", "--fix", "--quiet", name), ("format", "--quiet", name)):
        done = subprocess.run(  # nosec B603
            [sys.executable, "-m", "ruff", *arguments], cwd=repository, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CannotFormat(done.stdout + done.stderr)
