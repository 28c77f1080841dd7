"""Takes a service from the files that list all services: the inverse of `new_service.registration` and `.containers`.

The compose files are edited as text, so that comments and layout stay, and then read, to prove that nothing is left.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import tomlkit
from ruamel.yaml.error import YAMLError

from local_platform.new_service.containers import dump_yaml, load_yaml, with_connections
from local_platform.new_service.registration import FORMS, NotRegistered, arrays, parse_toml
from opskit.catalog import ServiceEntry

# The volume of the service that keeps files, which the gateway mounts, too.
_FILES: Final = (
    r"^(?:(?:  # Uploaded files.*\n)?  files: \{\}|"
    r" +GATEWAY_FILES_DIR: .*|"
    r" +- .*source: files, .*)\n"
)


def without_entry(services: str, entry: ServiceEntry) -> str:
    """Return the service list without a service, which the others no longer call. Raises NotRegistered."""
    document = parse_toml("deploy/services.toml", services)
    for array in arrays(document):
        if entry.name in array:
            array.remove(entry.name)
    document.remove(entry.name)
    return tomlkit.dumps(document).strip("\n") + "\n"


def without_member(manifest: str, existing: Collection[str], name: str) -> str:
    """Return the root pyproject.toml without a service in the lists that name all services. Raises NotRegistered."""
    document = parse_toml("pyproject.toml", manifest)
    for array in arrays(document):
        for form in FORMS:
            if all(form.format(service) in array for service in existing):
                array.remove(form.format(name))
    return tomlkit.dumps(document)


def without_row(readme: str, name: str) -> str:
    """Return the README without the service's row in the table of services."""
    return "".join(line for line in readme.splitlines(keepends=True) if not line.startswith(f"| [`{name}`]"))


def without_scopes(page: str, entry: ServiceEntry) -> str:
    """Return the page on API keys without the rows of the service's scopes."""
    rows = tuple(f"| `{scope}` |" for scope in entry.scopes)
    return "".join(line for line in page.splitlines(keepends=True) if not line.startswith(rows))


def out_of_context(dockerignore: str, name: str) -> str:
    """Return .dockerignore without the service's folder."""
    return "".join(line for line in dockerignore.splitlines(keepends=True) if line.rstrip() != f"!{name}")


def out_of_scrapes(prometheus: str, name: str) -> str:
    """Return prometheus.yml without the service among those whose metrics are collected. Raises NotRegistered."""
    document = _load("deploy/observability/prometheus.yml", prometheus)
    try:
        document["scrape_configs"][0]["dns_sd_configs"][0]["names"].remove(name)
    except (KeyError, IndexError, ValueError) as error:
        raise NotRegistered("deploy/observability/prometheus.yml does not list the service's metrics") from error
    return dump_yaml(document)


def without_containers(file: str, compose: str, catalog: Mapping[str, ServiceEntry], entry: ServiceEntry) -> str:
    """Return a compose file without a service, its jobs, secrets and canary. Raises NotRegistered."""
    name = entry.name
    text = _without_blocks(compose, rf"(?:x-|  ){name}(?:-v2)?(?:-migrate)?:")
    for pattern in (
        # In flow style: an object of replicas by service, and the gateway's dependencies.
        rf',\s*"{name}": \["http://{name}:8000"\](?=\s*\}})',
        rf'"{name}": \["http://{name}:8000"\],\s*',
        rf", {name}: \*healthy(?=[,}}])",
        # On lines of their own: its secrets, the store's password, and its port for development.
        rf"^  (?:{name}_\w+|{entry.store}_{name}_password): \{{file: .*\n",
        rf"^ +- \{{source: {entry.store}_{name}_password, .*\n",
        rf"^ +- 127\.0\.0\.1:{entry.development_port}:{entry.development_port}\n",
        *((_FILES,) if entry.keeps_files else ()),
    ):
        text = re.sub(pattern, "", text, flags=re.MULTILINE)
    text = with_connections(text, entry, -1)
    if not any(other.store == entry.store for other in catalog.values() if other.name != name):
        # `docker compose up --wait` fails for a finished job that nothing waits for.
        text = re.sub(r"(depends_on: \{user: \*healthy[^}]*)\}", rf"\1, {entry.store}-setup: *done}}", text)
    if left := sorted(set(_names(_load(file, text), lambda word: re.search(rf"(?<![a-z]){name}(?![a-z])", word)))):
        raise NotRegistered(f"{file} would still name {name}, in {', '.join(left)}")
    return text


def _without_blocks(text: str, head: str) -> str:
    """Remove each block in indented style whose first line matches, with the blank line before the next block."""
    kept: list[str] = []
    indent: int | None = None
    for line in text.splitlines(keepends=True):
        depth = len(line) - len(line.lstrip(" "))
        if indent is not None and (not line.strip() or depth > indent):
            continue
        if re.match(head, line):
            indent = depth
            continue
        if indent is not None and kept and kept[-1].strip() and depth < 2:
            kept.append("\n")
        indent = None
        kept.append(line)
    return "".join(kept)


def _names(node: Any, matches: Callable[[str], object]) -> list[str]:
    """Return the keys and texts of a document that match."""
    if isinstance(node, Mapping):
        return [found for item in node.items() for part in item for found in _names(part, matches)]
    if isinstance(node, list):
        return [found for item in node for found in _names(item, matches)]
    return [node] if isinstance(node, str) and matches(node) else []


def _load(file: str, text: str) -> Any:
    try:
        return load_yaml(text)
    except YAMLError as error:
        raise NotRegistered(f"{file} does not have the expected form: {error}") from error
