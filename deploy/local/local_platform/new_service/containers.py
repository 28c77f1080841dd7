"""Adds a service to the files that run it in containers: both compose files, the build context, the metrics' targets.

The compose files are edited in two steps. Whole definitions, which templates hold, are inserted as text at places that
the parsed file gives. Lists and maps that name all services are changed in the parsed file. Comments and layout stay.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from string import Template
from typing import Any, Final, Literal

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, FoldedScalarString

from local_platform.new_service.registration import NotRegistered
from opskit.catalog import ServiceEntry, Store

DEVELOPMENT: Final = "docker-compose.yml"
PRODUCTION: Final = "docker-compose.prod.yml"
Block = Literal["development", "definition", "production"]
# Where a template is inserted: before this key, given by its path in the document.
Places = Mapping[Block, tuple[str, ...]]

_TEMPLATES: Final = Path(__file__).parent / "templates" / "compose"
_URL_SETTING: Final[Mapping[Store | None, str]] = {"postgres": "database_url", "mongo": "mongo_url"}


class _Block(Template):
    """A template for compose files, where `$` marks their own variables."""

    delimiter = "@"


def in_development(compose: str, entry: ServiceEntry) -> str:
    """Return docker-compose.yml with one more service. Raises NotRegistered."""
    with _expected_form(DEVELOPMENT):
        document = _load_with_blocks(compose, {"development": ("services", "gateway")}, entry)
        document["services"]["gateway"]["ports"].append(f"127.0.0.1:{entry.development_port}:{entry.development_port}")
        _add_to_lists(document, entry)
        return dump_yaml(document)


def in_production(compose: str, entry: ServiceEntry) -> str:
    """Return docker-compose.prod.yml with one more service and its canary. Raises NotRegistered."""
    with _expected_form(PRODUCTION):
        places: Places = {"definition": ("services",), "production": ("services", "gateway")}
        document = _load_with_blocks(compose, places, entry)
        _add_to_lists(document, entry)
        commands = [document["services"][tool]["command"] for tool in ("rotate-keys", "rotate-jwt-key")]
        # Both commands end with one text, which the second refers to by an alias.
        replicas = _with_peer(commands[0][-1], entry.name)
        for command in commands:
            command[-1] = replicas
        return with_connections(dump_yaml(document), entry)


def with_connections(text: str, entry: ServiceEntry, services: int = 1) -> str:
    """Return settings by which PostgreSQL accepts the share of so many services more, if it is the store."""
    share = re.search(r"POSTGRES_CONNECTIONS(?::-|=)(\d+)", text)
    if entry.store != "postgres" or share is None:
        return text

    def changed(match: re.Match[str]) -> str:
        return f"{match[1]}{int(match[2]) + services * int(share[1])}"

    return re.sub(r"(POSTGRES_MAX_CONNECTIONS(?::-|=))(\d+)", changed, text)


def in_context(dockerignore: str, existing: Collection[str], name: str) -> str:
    """Return .dockerignore with the folder among those that go into images. Raises NotRegistered."""
    with _expected_form(".dockerignore"):
        lines = dockerignore.splitlines()
        last = max(lines.index(f"!{service}") for service in existing)
        return "\n".join([*lines[: last + 1], f"!{name}", *lines[last + 1 :], ""])


def in_scrapes(prometheus: str, name: str) -> str:
    """Return prometheus.yml with the service among those whose metrics are collected. Raises NotRegistered."""
    with _expected_form("deploy/observability/prometheus.yml"):
        document = load_yaml(prometheus)
        document["scrape_configs"][0]["dns_sd_configs"][0]["names"].append(name)
        return dump_yaml(document)


def _add_to_lists(document: CommentedMap, entry: ServiceEntry) -> None:
    """Add a service to what both files list: peers, the gateway's dependencies, roles in the store, secrets."""
    name, store = entry.name, entry.store
    environment = document["x-service-environment"]
    environment["PEER_URLS"] = _with_peer(environment["PEER_URLS"], name)
    services, secrets = document["services"], document["secrets"]
    depends_on = services["gateway"]["depends_on"]
    depends_on[name] = depends_on["user"]
    # Without services on the store, the gateway waits for its job.
    depends_on.pop(f"{store}-setup", None)
    services[f"{store}-setup"]["secrets"].append(
        _flow_map(source=f"{store}_{name}_password", target=f"{name}_password")
    )
    directory = secrets["valkey_users"]["file"].removesuffix("valkey/users.acl")
    for secret in (_URL_SETTING[store], "valkey_url", "fingerprint_secret"):
        _insert_secret(secrets, f"{name}_{secret}", f"{directory}{name}/{secret}", before="postgres_superuser_password")
    following = "mongo_root_password" if store == "postgres" else "valkey_users"
    _insert_secret(secrets, f"{store}_{name}_password", f"{directory}{store}/{name}_password", before=following)


def _insert_secret(secrets: CommentedMap, name: str, file: str, *, before: str) -> None:
    position = list(secrets).index(before)
    secrets.insert(position, name, _flow_map(file=DoubleQuotedScalarString(file)))


def _flow_map(**values: str) -> CommentedMap:
    """Return a map that is written within braces."""
    flow = CommentedMap(values)
    flow.fa.set_flow_style()
    return flow


def _with_peer(urls: Any, name: str) -> Any:
    """Return a JSON object of replicas by service with one more service, on a line of its own."""
    peers = str(urls).removesuffix("}")
    extended = FoldedScalarString(f'{peers}, "{name}": ["http://{name}:8000"]}}', anchor=urls.anchor.value)
    # The positions of the blanks at which the lines break.
    extended.fold_pos = [*getattr(urls, "fold_pos", ()), len(peers) + 1]
    return extended


def _load_with_blocks(text: str, places: Places, entry: ServiceEntry) -> Any:
    """Return the document with a rendered template before each of the keys, and before the comment above the key."""
    document, lines = load_yaml(text), text.splitlines()
    # From the end, so that the places before stay where they are.
    for block, path in sorted(places.items(), key=lambda place: -_line_of(document, place[1])):
        line = _line_of(document, path)
        while re.match(r"\s*(#|$)", lines[line - 1]):
            line -= 1
        lines[line:line] = ["", *_rendered(block, entry).splitlines()]
    return load_yaml("\n".join([*lines, ""]))


def _line_of(document: Any, path: tuple[str, ...]) -> int:
    for key in path[:-1]:
        document = document[key]
    line: int = document.lc.key(path[-1])[0]
    return line


def _rendered(block: Block, entry: ServiceEntry) -> str:
    setting = _URL_SETTING[entry.store]
    template = _Block((_TEMPLATES / f"{block}.yml.tmpl").read_text(encoding="utf-8"))
    names = {"name": entry.name, "store": entry.store, "url_setting": setting, "url_variable": setting.upper()}
    return template.substitute(names).strip("\n")


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def load_yaml(text: str) -> Any:
    """Return a document that keeps its comments, layout and anchors."""
    document = _yaml().load(text)
    _keep_anchors(document)
    return document


def dump_yaml(document: CommentedMap) -> str:
    """Return the text of a document."""
    stream = StringIO()
    _yaml().dump(document, stream)
    return stream.getvalue()


def _keep_anchors(node: Any) -> None:
    """Let an anchor be written although nothing refers to it."""
    if isinstance(node, CommentedMap | CommentedSeq):
        if node.yaml_anchor() is not None:
            node.yaml_anchor().always_dump = True
        for value in node.values() if isinstance(node, CommentedMap) else node:
            _keep_anchors(value)


@contextmanager
def _expected_form(file: str) -> Iterator[None]:
    """Raise NotRegistered for a file that lacks what the generator looks for."""
    try:
        yield
    except (YAMLError, KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise NotRegistered(f"{file} does not have the expected form: {type(error).__name__} {error}") from error
