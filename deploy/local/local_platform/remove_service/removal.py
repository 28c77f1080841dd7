"""Plans the removal of a service, and writes the plan as a whole or not at all."""

import os
import re
import shutil
import subprocess  # nosec B404
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from local_platform.errors import GeneratorError
from local_platform.new_service.containers import DEVELOPMENT, PRODUCTION, with_connections
from local_platform.remove_service.code import modules_about, without_subscriptions
from local_platform.remove_service.lists import (
    out_of_context,
    out_of_scrapes,
    without_containers,
    without_entry,
    without_member,
    without_row,
    without_scopes,
)
from opskit.catalog import ServiceEntry, read_catalog

Catalog = Mapping[str, ServiceEntry]

# The files that name all services, each with the function that takes one from it.
LISTS: Final[Mapping[str, Callable[[str, Catalog, ServiceEntry], str]]] = {
    "deploy/services.toml": lambda text, _catalog, entry: without_entry(text, entry),
    "pyproject.toml": lambda text, catalog, entry: without_member(text, catalog, entry.name),
    "README.md": lambda text, _catalog, entry: without_row(text, entry.name),
    DEVELOPMENT: lambda text, catalog, entry: without_containers(DEVELOPMENT, text, catalog, entry),
    PRODUCTION: lambda text, catalog, entry: without_containers(PRODUCTION, text, catalog, entry),
    ".env.example": lambda text, _catalog, entry: with_connections(text, entry, -1),
    "docs/api-keys.md": lambda text, _catalog, entry: without_scopes(text, entry),
    ".dockerignore": lambda text, _catalog, entry: out_of_context(text, entry.name),
    "deploy/observability/prometheus.yml": lambda text, _catalog, entry: out_of_scrapes(text, entry.name),
}
# Writes the page of all errors, those of services too.
_ERRORS: Final = "docs/errors.py"
# A frontend on the typed client, whose functions begin with the service's prefix.
EXAMPLE: Final = "examples/web"
# Folders outside of a service whose modules may be about it.
_TESTS_AND_FIGURES: Final = ("tests", "load", "deploy/local/tests", "deploy/release/tests", "gateway/tests")


class CannotRemove(GeneratorError):
    """The service is not removed; the message says why."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What is to be written, by paths below the repository, and what is to be removed."""

    repository: Path
    entry: ServiceEntry
    written: Mapping[Path, str]
    removed: tuple[Path, ...]
    # The services that call it, and go without it from now on.
    callers: tuple[str, ...] = field(default=())

    def carry_out(self) -> None:
        """Write the plan. A failure leaves the repository as it was. Raises OSError and GeneratorError."""
        page = (self.repository / _ERRORS).with_suffix(".md")
        touched = [*self.written, *([page] if page.exists() else [])]
        before = {path: _read(path) for path in touched}
        aside = {path: path.with_name(f".{path.name}.removed") for path in self.removed}
        try:
            for path, other in aside.items():
                path.rename(other)
            for path, text in self.written.items():
                path.write_text(text, encoding="utf-8")
            self._tidy()
        except BaseException:
            for path, text in before.items():
                path.write_text(text, encoding="utf-8")
            for path, other in aside.items():
                if other.exists():
                    other.rename(path)
            raise
        for other in aside.values():
            if other.is_dir():
                shutil.rmtree(other)
            else:
                other.unlink()

    def _tidy(self) -> None:
        """Remove imports that nothing uses any more, wrap the lines anew, and write the page of errors again."""
        modules = [str(path) for path in self.written if path.suffix == ".py"]
        if modules:
            self._run("-m", "ruff", "check", "--select", "F401,I", "--fix", "--quiet", *modules)
            self._run("-m", "ruff", "format", "--quiet", *modules)
        if (self.repository / _ERRORS).exists():
            folders = ("shared", *(name for name in read_catalog(self.repository / "deploy" / "services.toml")))
            self._run(_ERRORS, PYTHONPATH=os.pathsep.join(str(self.repository / folder) for folder in folders))

    def _run(self, *arguments: str, **variables: str) -> None:
        done = subprocess.run(  # nosec B603
            [sys.executable, *arguments],
            cwd=self.repository,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CannotRemove(done.stdout + done.stderr)


def plan_removal(repository: Path, name: str) -> Removal:
    """Plan the removal of a service; write nothing. Raises GeneratorError."""
    everything = read_catalog(repository / "deploy" / "services.toml", operators=True)
    entry = _removable(everything, name)
    catalog = {name: other for name, other in everything.items() if not other.operators}
    lists = {repository / file: edit(_read(repository / file), catalog, entry) for file, edit in LISTS.items()}
    events = {
        path: without_subscriptions(_read(path), name)
        for other in catalog
        if other != name and (path := repository / other / f"{other}_service" / "domain_events.py").exists()
    }
    modules = (module for folder in _TESTS_AND_FIGURES for module in modules_about(repository / folder, name))
    return Removal(
        repository,
        entry,
        written={path: text for path, text in (lists | events).items() if text != _read(path)},
        removed=(repository / name, *modules),
        callers=tuple(other.name for other in catalog.values() if name in other.calls),
    )


def _removable(catalog: Catalog, name: str) -> ServiceEntry:
    entry = catalog.get(name)
    if entry is None:
        raise CannotRemove(f"deploy/services.toml lists no service {name!r}, only {', '.join(catalog)}")
    if entry.operators:
        raise CannotRemove(f"{name} cannot be removed, only switched off: {name.upper()}=off")
    if entry.issues_tokens:
        raise CannotRemove(f"{name} cannot be removed: it owns the accounts, and all others accept its tokens")
    return entry


def check_committed(repository: Path) -> None:
    """Refuse changes that git could not undo. Raises CannotRemove."""
    done = subprocess.run(  # nosec B603 B607
        ["git", "status", "--porcelain"], cwd=repository, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotRemove("this is no git repository, so nothing could be undone; FORCE=1 goes on all the same")
    if done.stdout:
        raise CannotRemove("there are uncommitted changes; commit them first, or go on all the same with FORCE=1")


def example_calls(repository: Path, entry: ServiceEntry) -> list[str]:
    """Return the functions of the typed client that the example frontend calls on the service."""
    first, *others = entry.prefix.split("-")
    call = re.compile(rf"\b{first}{''.join(map(str.capitalize, others))}[A-Z]\w+(?=\()")
    return sorted({name for file in (repository / EXAMPLE / "src").glob("*.ts*") for name in call.findall(_read(file))})


def mentions(repository: Path, name: str) -> list[str]:
    """Return the files of code and docs that still name the service, in which a person must decide what to change."""
    pattern = rf"[\"`]{name}[\"`]|{name}_service|/v1/{name}\b|SERVICE={name}\b|\]\({name}/"
    left_out = [":!CHANGELOG.md", ":!docs/adr", ":!docs/report", ":!docs/evidence.md", ":!**/tests/**", ":!tests"]
    done = subprocess.run(  # nosec B603 B607
        ["git", "grep", "--untracked", "-lE", pattern, "--", ".", *left_out],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
