"""The list of services, read from `deploy/services.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Store = Literal["postgres", "mongo"]

# Where a service publishes the keys that its access tokens are signed with.
JWKS_PATH = "/.well-known/jwks.json"
DEFAULT_PATH = Path(__file__).resolve().parents[2] / "deploy" / "services.toml"


class CatalogError(ValueError):
    """The service list cannot be used; the message names the entry and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """One service of the platform, as `deploy/services.toml` describes it.

    A service for operators has neither a prefix nor a store: its memory is its state, so it is one process.
    """

    name: str
    prefix: str
    development_port: int
    store: Store | None
    calls: tuple[str, ...] = ()
    well_known: tuple[str, ...] = ()
    keeps_files: bool = False
    settings: tuple[str, ...] = ()
    listed_scopes: tuple[str, ...] | None = None
    operators: bool = False

    @property
    def scopes(self) -> tuple[str, ...]:
        """What API keys can be allowed to do with this service."""
        by_default = (f"{self.prefix}:read", f"{self.prefix}:write")
        return by_default if self.listed_scopes is None else self.listed_scopes

    @property
    def package(self) -> str:
        """The import name, which differs from the folder's: `user` → `user_service`."""
        return f"{self.name}_service"

    @property
    def application(self) -> str:
        """What gunicorn runs: `user_service.app:create_app()`."""
        return f"{self.package}.app:create_app()"

    @property
    def migration(self) -> str:
        """The module of the migration job: `user_service.migrate`."""
        return f"{self.package}.migrate"

    @property
    def issues_tokens(self) -> bool:
        """Whether this service signs access tokens; it alone may announce revoked sessions."""
        return JWKS_PATH in self.well_known


def read_catalog(path: Path = DEFAULT_PATH, *, operators: bool = False) -> Mapping[str, ServiceEntry]:
    """Return the services of the API by name, in the order of the file; with `operators` also those for operators.

    Raises `CatalogError` for a missing or malformed file, or a call to a service that is not listed.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise CatalogError(f"{path}: {error}") from error
    catalog = {name: _entry(path, name, table) for name, table in document.items()}
    callable_by_others = {name for name, entry in catalog.items() if not entry.operators}
    for entry in catalog.values():
        if unknown := [peer for peer in entry.calls if peer not in callable_by_others - {entry.name}]:
            raise CatalogError(
                f"{path}: [{entry.name}] calls {', '.join(unknown)}, which is no other service of the API"
            )
    return {name: entry for name, entry in catalog.items() if operators or not entry.operators}


def _entry(path: Path, name: str, table: Mapping[str, Any]) -> ServiceEntry:
    operators = bool(table.get("operators", False))
    try:
        if operators:
            if refused := sorted({"prefix", "store", "well_known", "keeps_files", "scopes"} & table.keys()):
                raise CatalogError(f"{path}: [{name}] is for operators, and cannot have {', '.join(refused)}")
        elif table["store"] not in ("postgres", "mongo"):
            raise CatalogError(f"{path}: [{name}] store must be postgres or mongo, not {table['store']!r}")
        return ServiceEntry(
            name=name,
            prefix="" if operators else str(table["prefix"]),
            development_port=int(table["development_port"]),
            store=table.get("store"),
            calls=tuple(table.get("calls", ())),
            well_known=tuple(table.get("well_known", ())),
            keeps_files=bool(table.get("keeps_files", False)),
            settings=tuple(table.get("settings", ())),
            listed_scopes=() if operators else tuple(table["scopes"]) if "scopes" in table else None,
            operators=operators,
        )
    except KeyError as error:
        raise CatalogError(f"{path}: [{name}] lacks {error.args[0]}") from error
