"""Adds a service to the files that run it in containers: both compose files, what goes into images, what is scraped.

They are edited as text, like the lists (`registration`). A service of the generator's is the plain case: the blocks of
the services that keep files or issue tokens are no example.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from string import Template
from typing import Final, Literal

from local_platform.new_service.registration import NotRegistered
from opskit.catalog import ServiceEntry, Store

Environment = Literal["development", "production"]

_TEMPLATES: Final = Path(__file__).parent / "templates" / "compose"
_URL_SETTING: Final[Mapping[Store, str]] = {"postgres": "database_url", "mongo": "mongo_url"}


class _Block(Template):
    """A template for compose files, in which `$` stands for their own variables."""

    delimiter = "@"


def in_development(compose: str, entry: ServiceEntry) -> str:
    """Return docker-compose.yml with one more service. Raises `NotRegistered`."""
    file = _Edited("docker-compose.yml", compose)
    file.before(r"^  gateway:$", _block("development", entry))
    port = f"127.0.0.1:{entry.development_port}:{entry.development_port}"
    file.after_last(r"^( +- )127\.0\.0\.1:8\d+:8\d+$", rf"\g<1>{port}")
    _add_everywhere(file, "development", entry)
    return file.text


def in_production(compose: str, entry: ServiceEntry) -> str:
    """Return docker-compose.prod.yml with one more service and the one that replaces it. Raises `NotRegistered`."""
    file = _Edited("docker-compose.prod.yml", compose)
    file.before(r"^services:$", _block("definition", entry))
    file.before(r"^  # -+ The gateway -+$", _block("production", entry))
    _add_everywhere(file, "production", entry)
    return with_connections(file.text, entry)


def with_connections(text: str, entry: ServiceEntry) -> str:
    """Return settings by which PostgreSQL admits a share of connections more, if the service is on it."""
    share = re.search(r"POSTGRES_CONNECTIONS(?::-|=)(\d+)", text)
    if entry.store != "postgres" or share is None:
        return text

    def raised(match: re.Match[str]) -> str:
        return f"{match[1]}{int(match[2]) + int(share[1])}"

    return re.sub(r"(POSTGRES_MAX_CONNECTIONS(?::-|=))(\d+)", raised, text)


def in_context(dockerignore: str, existing: Collection[str], name: str) -> str:
    """Return .dockerignore with the folder among those that go into images. Raises `NotRegistered`."""
    file = _Edited(".dockerignore", dockerignore)
    file.after_last(rf"^!(?:{'|'.join(existing)})$", f"!{name}")
    return file.text


def in_scrapes(prometheus: str, name: str) -> str:
    """Return prometheus.yml with the service among those whose metrics are collected. Raises `NotRegistered`."""
    file = _Edited("deploy/compose/prometheus.yml", prometheus)
    file.replace(r"(names: \[[^\]\n]+)\]", rf"\g<1>, {name}]")
    return file.text


def _add_everywhere(file: "_Edited", environment: Environment, entry: ServiceEntry) -> None:
    """Add what a service needs in either file: its peers know it, the gateway waits for it, its secrets are there."""
    name, store = entry.name, entry.store
    address = f'"{name}": ["http://{name}:8000"]'
    file.replace(r'^( *)(.*"(\w+)": \["http://\3:8000"\])\}', rf"\g<1>\g<2>,\n\g<1>{address}}}")
    file.replace(r"(depends_on: \{user: \*healthy[^}\n]*)\}", rf"\g<1>, {name}: *healthy}}")
    file.after_last(
        rf"^( +- )\{{source: {store}_\w+_password, target: \w+\}}$",
        rf"\g<1>{{source: {store}_{name}_password, target: {name}_password}}",
    )
    file.before(r"^  postgres_superuser_password: .*$", _block("secrets", entry, environment))
    file.after_last(
        rf'^(  ){store}_\w+_password: (\{{file: ".*/){store}/\w+_password("\}})$',
        rf"\g<1>{store}_{name}_password: \g<2>{store}/{name}_password\g<3>",
    )


def _block(template: str, entry: ServiceEntry, environment: Environment = "production") -> str:
    setting = _URL_SETTING[entry.store]
    return _Block((_TEMPLATES / f"{template}.yml.tmpl").read_text(encoding="utf-8")).substitute(
        name=entry.name,
        store=entry.store,
        url_setting=setting,
        url_variable=setting.upper(),
        environment=environment,
    )


class _Edited:
    """A file's text while it is edited. A place that is not found as expected is `NotRegistered`."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self.text = text

    def before(self, line: str, block: str) -> None:
        """Put a block before the only line of this form."""
        (match,) = self._matches(line, most=1)
        self.text = self.text[: match.start()] + block + self.text[match.start() :]

    def after_last(self, line: str, new: str) -> None:
        """Put a line after the last one of this form, whose groups it may use."""
        match = self._matches(line)[-1]
        self.text = f"{self.text[: match.end()]}\n{match.expand(new)}{self.text[match.end() :]}"

    def replace(self, pattern: str, new: str) -> None:
        """Replace whatever has this form."""
        for match in reversed(self._matches(pattern)):
            self.text = self.text[: match.start()] + match.expand(new) + self.text[match.end() :]

    def _matches(self, pattern: str, *, most: int | None = None) -> list[re.Match[str]]:
        found = list(re.finditer(pattern, self.text, re.MULTILINE))
        if not found or (most is not None and len(found) > most):
            raise NotRegistered(f"{self._name}: {len(found)} places have the form {pattern}")
        return found
