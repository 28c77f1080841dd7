"""Both compose files: equal to deploy/services.toml, and as closed as the documentation says."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from opskit.catalog import ServiceEntry, read_catalog
from opskit.secret_files import Environment, write_secrets

ROOT = Path(__file__).resolve().parents[1]
CATALOG = read_catalog()
OBSERVERS = {"prometheus", "alertmanager", "grafana", "otel-collector", "jaeger"}
STORES = {"postgres", "valkey", "mongo-1", "mongo-2", "mongo-3"}
URL_SECRET = {"postgres": "database_url", "mongo": "mongo_url"}

Service = Mapping[str, Any]
Document = Mapping[str, Any]


def read(name: str) -> Document:
    # The parser in C, since each collection of the tests reads both files.
    document: Document = yaml.load((ROOT / name).read_bytes(), Loader=yaml.CSafeLoader)
    return document


DEVELOPMENT, PRODUCTION = read("docker-compose.yml"), read("docker-compose.prod.yml")
both_files = pytest.mark.parametrize(
    "document", [pytest.param(DEVELOPMENT, id="development"), pytest.param(PRODUCTION, id="production")]
)
each_service = pytest.mark.parametrize("entry", CATALOG.values(), ids=list(CATALOG))


def is_job(service: Service) -> bool:
    return service.get("restart") == "no"


def parameters(document: Document, *, jobs: bool) -> Iterator[Any]:
    for name, service in document["services"].items():
        if is_job(service) is jobs:
            yield pytest.param(service, id=name)


everything = [*parameters(PRODUCTION, jobs=True), *parameters(PRODUCTION, jobs=False)]
long_running = list(parameters(PRODUCTION, jobs=False))


def sources(service: Service) -> dict[str, str]:
    """Return the secrets of a container by the name that they have in it."""
    secrets = service.get("secrets", [])
    return dict(
        (secret, secret) if isinstance(secret, str) else (secret["target"], secret["source"]) for secret in secrets
    )


def environment(service: Service) -> Mapping[str, str]:
    variables: Mapping[str, str] = service.get("environment", {})
    return variables


def volumes(service: Service) -> set[str]:
    """Return the named volumes of a container; those that it can only read begin with `read-only `."""
    found = set()
    for volume in service.get("volumes", []):
        if isinstance(volume, str):
            name, _, options = volume.partition(":")
            read_only = options.endswith(":ro")
        else:
            subpath = volume.get("volume", {}).get("subpath", "")
            name = "/".join(filter(None, [volume["source"], subpath]))
            read_only = volume.get("read_only", False)
        # Anything else is a path of the host.
        if not name.startswith((".", "$")):
            found.add(f"read-only {name}" if read_only else name)
    return found


# Equal to deploy/services.toml


@both_files
def test_the_services_are_the_listed_ones_each_with_its_migration(document: Document) -> None:
    built = {
        name
        for name, service in document["services"].items()
        if service.get("build", {}).get("dockerfile") == "deploy/service.Dockerfile" and not name.endswith("-v2")
    }
    migrations = {name for name in document["services"] if name.endswith("-migrate") and "-v2-" not in name}

    assert built == read_catalog(operators=True).keys()
    assert migrations == {f"{name}-migrate" for name in CATALOG}


@both_files
@each_service
def test_a_service_has_its_image_its_secrets_and_its_keys(document: Document, entry: ServiceEntry) -> None:
    service = document["services"][entry.name]
    url = URL_SECRET[entry.store]
    secrets = [url, "valkey_url", "fingerprint_secret", *(["link_secret"] if entry.keeps_files else [])]
    if document is PRODUCTION and "SMTP_URL" in entry.settings:
        secrets.append("smtp_url")

    assert service["image"] == (
        "baseplate-dev/" + entry.name if document is DEVELOPMENT else f"baseplate/{entry.name}:current"
    )
    assert service["build"]["args"]["SERVICE"] == entry.name
    assert sources(service) == {secret: f"{entry.name}_{secret}" for secret in secrets}
    assert {variable: value for variable, value in environment(service).items() if variable.endswith("_FILE")} == {
        f"{secret.upper()}_FILE": f"/run/secrets/{secret}" for secret in secrets
    }
    assert volumes(service) == {
        f"read-only service-keys/{entry.name}",
        *(["read-only jwt-keys"] if entry.issues_tokens else []),
        *(["files"] if entry.keeps_files else []),
    }
    assert ("JWT_KEYS_DIR" in environment(service)) is entry.issues_tokens


@both_files
@each_service
def test_a_migration_has_the_services_image_and_database_and_nothing_else(
    document: Document, entry: ServiceEntry
) -> None:
    job = document["services"][f"{entry.name}-migrate"]
    url = URL_SECRET[entry.store]

    assert is_job(job)
    assert job["image"] == document["services"][entry.name]["image"]
    assert job["command"] == ["python", "-m", entry.migration]
    assert sources(job) == {url: f"{entry.name}_{url}"}
    assert environment(job)[f"{url.upper()}_FILE"] == f"/run/secrets/{url}"
    assert volumes(job) == {*(["jwt-keys"] if entry.issues_tokens else []), *(["files"] if entry.keeps_files else [])}
    assert job["depends_on"] == {f"{entry.store}-setup": {"condition": "service_completed_successfully"}}


@both_files
@each_service
def test_a_service_waits_for_its_migration_the_keys_and_valkey(document: Document, entry: ServiceEntry) -> None:
    assert document["services"][entry.name]["depends_on"] == {
        f"{entry.name}-migrate": {"condition": "service_completed_successfully"},
        "keys": {"condition": "service_completed_successfully"},
        "valkey": {"condition": "service_healthy"},
    }


@both_files
@pytest.mark.parametrize("store", sorted(URL_SECRET))
def test_each_service_of_a_store_gets_a_role_there(document: Document, store: str) -> None:
    job = document["services"][f"{store}-setup"]
    administrator = {"postgres": "postgres_superuser_password", "mongo": "mongo_root_password"}[store]
    own = {
        f"{entry.name}_password": f"{store}_{entry.name}_password" for entry in CATALOG.values() if entry.store == store
    }

    assert sources(job) == {administrator: administrator, **own}


@both_files
def test_the_secrets_are_the_files_that_the_release_tool_makes(document: Document, tmp_path: Path) -> None:
    name: Environment = "development" if document is DEVELOPMENT else "production"
    write_secrets(tmp_path, name, read_catalog(operators=True))
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    directory = f"${{SECRETS_DIR:-.secrets/{name}}}/"
    files = {secret: entry["file"].removeprefix(directory) for secret, entry in document["secrets"].items()}

    assert files == {"valkey_users" if file == "valkey/users.acl" else file.replace("/", "_"): file for file in made}
    used = {source for service in document["services"].values() for source in sources(service).values()}
    assert used == set(files)


@both_files
def test_every_service_knows_every_other_one_and_the_gateway_waits_for_all(document: Document) -> None:
    everyone = {name: [f"http://{name}:8000"] for name in CATALOG}

    for name in CATALOG:
        assert json.loads(environment(document["services"][name])["PEER_URLS"]) == everyone
    for tool in ("rotate-keys", "rotate-jwt-key"):
        if document is PRODUCTION:
            urls = {name: [f"http://{name}:8000"] for name in read_catalog(operators=True)}
            assert json.loads(document["services"][tool]["command"][-1]) == urls
    unused = {"postgres", "mongo"} - {entry.store for entry in CATALOG.values()}
    assert document["services"]["gateway"]["depends_on"] == {
        **{name: {"condition": "service_healthy"} for name in CATALOG},
        **{f"{store}-setup": {"condition": "service_completed_successfully"} for store in unused},
    }


@each_service
def test_development_mounts_the_code_of_a_service_and_of_the_kit(entry: ServiceEntry) -> None:
    for name in (entry.name, f"{entry.name}-migrate"):
        mounted = DEVELOPMENT["services"][name]["volumes"]
        assert {"./shared:/app/shared:ro", f"./{entry.name}:/app/{entry.name}:ro"} <= {
            volume for volume in mounted if isinstance(volume, str)
        }


@each_service
def test_a_service_is_on_the_networks_of_its_store_and_of_no_other(entry: ServiceEntry) -> None:
    networks = {name: set(PRODUCTION["services"][name]["networks"]) for name in (entry.name, f"{entry.name}-migrate")}

    mail = {"${MAIL_NETWORK:-no-mail}"} if "SMTP_URL" in entry.settings else set()
    assert networks == {entry.name: {"services", entry.store, "valkey"} | mail, f"{entry.name}-migrate": {entry.store}}


@each_service
def test_a_canary_differs_from_its_service_in_the_image_only(entry: ServiceEntry) -> None:
    for name in (entry.name, f"{entry.name}-migrate"):
        canary_name = f"{entry.name}-v2" + name.removeprefix(entry.name)
        stable, canary = PRODUCTION["services"][name], PRODUCTION["services"][canary_name]
        differences = {key for key in stable.keys() | canary.keys() if stable.get(key) != canary.get(key)}

        assert differences == {"image", "profiles", "depends_on"}
        assert canary["image"] == stable["image"].replace(":current", ":next")
        assert canary["profiles"] == ["release"]
        assert canary["depends_on"] == {}


def test_postgres_admits_the_connections_of_every_service_on_it() -> None:
    def default(variable: str) -> int:
        text = (ROOT / "docker-compose.prod.yml").read_text(encoding="utf-8")
        (value,) = set(re.findall(rf"{variable}:-(\d+)", text))
        return int(value)

    on_postgres = sum(entry.store == "postgres" for entry in CATALOG.values())
    assert default("POSTGRES_MAX_CONNECTIONS") == on_postgres * default("POSTGRES_CONNECTIONS") + 20


def test_every_service_goes_into_images_and_its_metrics_are_collected() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in CATALOG} <= set(ignored)
    services, gateway = read("deploy/observability/prometheus.yml")["scrape_configs"]
    assert services["dns_sd_configs"][0]["names"] == list(CATALOG)
    port = gateway["dns_sd_configs"][0]["port"]
    assert f"GATEWAY_METRICS_PORT={port} " in (ROOT / "gateway" / "Dockerfile").read_text(encoding="utf-8")


# The console


@both_files
def test_the_console_is_one_process_that_only_its_profile_starts(document: Document) -> None:
    console = document["services"]["console"]

    assert console["profiles"] == ["console"]
    assert "scale" not in console
    assert environment(console).get("WEB_CONCURRENCY", "1") == "1"
    assert environment(console)["CONSOLE_URL"] == ""
    assert sources(console) == {name: f"console_{name}" for name in ("valkey_url", "fingerprint_secret")}
    assert volumes(console) == {"read-only service-keys/console"}
    assert console["depends_on"].keys() == {"keys", "valkey"}
    for name, service in document["services"].items():
        if name in {*CATALOG, "gateway"}:
            assert environment(service)["CONSOLE_URL"] == "${CONSOLE_URL:-}"
        assert "console" not in service.get("depends_on", {})


def test_the_console_reaches_services_and_valkey_and_no_store() -> None:
    assert PRODUCTION["services"]["console"]["networks"] == ["services", "valkey"]


def test_development_mounts_the_code_of_the_console() -> None:
    assert "./console:/app/console:ro" in DEVELOPMENT["services"]["console"]["volumes"]


# Starting and scaling


@both_files
def test_a_service_waits_for_each_job_of_a_start(document: Document) -> None:
    """`docker compose up --wait` fails for a finished job that no service waits for (docker/compose#10596)."""
    jobs = {name for name, service in document["services"].items() if is_job(service) and "profiles" not in service}
    awaited = {
        needed
        for service in document["services"].values()
        for needed, how in service.get("depends_on", {}).items()
        if how == {"condition": "service_completed_successfully"}
    }

    assert jobs == awaited


@both_files
def test_only_jobs_have_no_health_check(document: Document) -> None:
    """`docker compose up --wait` cannot wait for a server whose health check is switched off."""
    unchecked = {
        name for name, service in document["services"].items() if service.get("healthcheck") == {"disable": True}
    }

    assert unchecked == {name for name, service in document["services"].items() if is_job(service)}


@both_files
def test_every_service_can_be_scaled(document: Document) -> None:
    """Only one replica could have a fixed name, or a port of the host."""
    assert not [name for name, service in document["services"].items() if "container_name" in service]
    for service in CATALOG:
        assert "ports" not in document["services"][service]


@pytest.mark.parametrize("service", long_running)
def test_a_server_that_ended_is_started_again(service: Service) -> None:
    assert service["restart"] == "unless-stopped"


# What is open to whom


@pytest.mark.parametrize("service", everything)
def test_no_container_can_gain_privileges_or_write_outside_of_its_volumes(service: Service) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("cap_add")
    assert not service.get("privileged")


@pytest.mark.parametrize("service", everything)
def test_every_container_has_limits_and_a_log_of_limited_size(service: Service) -> None:
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service["logging"]["options"]["max-size"]


def test_production_publishes_only_the_gateway_and_by_default_on_loopback() -> None:
    published = {name: service["ports"] for name, service in PRODUCTION["services"].items() if "ports" in service}

    assert published.pop("gateway") == ["${GATEWAY_BIND:-127.0.0.1}:${GATEWAY_PORT:-8080}:8080"]
    # The rest runs by profile only, and never leaves this host.
    assert published.keys() <= OBSERVERS
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


@both_files
def test_what_looks_at_the_platform_runs_by_profile_only(document: Document) -> None:
    assert {
        name for name, service in document["services"].items() if service.get("profiles") == ["observability"]
    } == OBSERVERS


@both_files
def test_both_files_run_the_same_observers_on_the_same_files(document: Document) -> None:
    for name in OBSERVERS:
        service, other = document["services"][name], DEVELOPMENT["services"][name]
        assert service["image"] == other["image"]
        assert set(other.get("volumes", [])) <= set(service.get("volumes", []))
        assert set(other.get("command", [])) <= set(service.get("command", []))
        assert all((ROOT / volume.split(":")[0]).exists() for volume in other.get("volumes", []))


@both_files
def test_the_collector_and_grafana_reach_what_they_are_given(document: Document) -> None:
    sources = read("deploy/observability/grafana/provisioning/datasources/datasources.yml")["datasources"]
    given = [("grafana", source["url"].removeprefix("http://")) for source in sources]
    given.append(("otel-collector", read("deploy/observability/otel-collector.yml")["exporters"]["otlp"]["endpoint"]))

    for observer, address in given:
        name, networks = address.split(":")[0], document["services"][observer]["networks"]
        assert name in OBSERVERS
        assert set(networks) & set(document["services"][name]["networks"]), (observer, name)


@both_files
def test_the_collector_is_of_the_version_that_is_tested(document: Document) -> None:
    version = document["services"]["otel-collector"]["image"].partition(":")[2]

    built = (ROOT / "deploy" / "observability" / "otelcol.yml").read_text(encoding="utf-8")
    assert set(re.findall(r" v([0-9.]+)$", built, re.MULTILINE)) == {version}
    assert f"OTELCOL_VERSION := v{version}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", ["docker-compose.yml", "docker-compose.prod.yml"])
def test_docker_accepts_the_profile(file: str) -> None:
    docker = shutil.which("docker")
    # The plugin `compose` may be missing.
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    command = [docker, "compose", "--file", str(ROOT / file), "--profile", "observability", "config", "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_development_publishes_the_gateway_and_each_service_on_a_port_of_its_own_on_loopback() -> None:
    ports = [port for service in DEVELOPMENT["services"].values() for port in service.get("ports", [])]

    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert set(DEVELOPMENT["services"]["gateway"]["ports"]) == {
        "127.0.0.1:${GATEWAY_PORT:-8080}:8080",
        *(f"127.0.0.1:{entry.development_port}:{entry.development_port}" for entry in CATALOG.values()),
    }


def test_only_the_gateway_is_on_a_network_that_leads_outside_while_there_is_no_mail_server() -> None:
    leading = {name for name, network in PRODUCTION["networks"].items() if not network.get("internal")}
    members = {
        network: {name for name, service in PRODUCTION["services"].items() if network in service.get("networks", [])}
        for network in leading
    }
    # The user service's network for mails leads nowhere until there is a mail server.
    assert members == {"outside": {"gateway"}, "mail": set(), "observers": OBSERVERS - {"otel-collector"}}
    assert PRODUCTION["networks"]["no-mail"] == {"internal": True}
    assert set(PRODUCTION["services"]["gateway"]["networks"]) == {"outside", "services"}


@both_files
@pytest.mark.parametrize("store", ["postgres", "mongo"])
def test_the_password_of_a_stores_administrator_is_mounted_in_its_own_containers_only(
    document: Document, store: str
) -> None:
    secret = {"postgres": "postgres_superuser_password", "mongo": "mongo_root_password"}[store]
    holders = {name for name, service in document["services"].items() if secret in sources(service).values()}

    assert holders == {"postgres": {"postgres", "postgres-setup"}, "mongo": {"mongo-setup"}}[store]


def test_stores_do_not_run_as_root() -> None:
    for name in STORES:
        assert PRODUCTION["services"][name]["user"] not in ("", "root", "0")


@both_files
def test_third_party_images_are_pinned_to_a_version_and_our_own_are_never_pulled(document: Document) -> None:
    for service in document["services"].values():
        image = service["image"]
        if not image.startswith("baseplate"):
            assert re.search(r":v?\d", image)
        elif document is PRODUCTION:
            assert service["pull_policy"] == "never"


def test_the_job_that_sets_passwords_passes_none_of_them_as_an_argument(tmp_path: Path) -> None:
    """Every user of the host can read the arguments of a process."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in ("postgres_superuser", "user", "assets"):
        (secrets / f"{name}_password").write_text(f"{name}-hunter2")
    psql = tmp_path / "psql"
    psql.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\ncat >> {tmp_path}/input\n')
    psql.chmod(0o755)
    script = (ROOT / "deploy/compose/postgres-setup.sh").read_text(encoding="utf-8")

    subprocess.run(
        ["bash", "-c", script.replace("/run/secrets", str(secrets))],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "CONNECTIONS": "40"},
        check=True,
        capture_output=True,
    )

    arguments, given = ((tmp_path / name).read_text() for name in ("arguments", "input"))
    assert "service=user" in arguments
    assert "hunter2" not in arguments
    assert "ALTER ROLE" in given


@both_files
def test_no_secret_is_written_in_a_compose_file(document: Document) -> None:
    for service in document["services"].values():
        for variable, value in environment(service).items():
            if re.search("PASSWORD|SECRET|_URL", variable):
                # Addresses without a password, and a variable of the caller without a default.
                plain = (
                    variable in ("PEER_URLS", "FRONTEND_URL")
                    or value in ("", f"${{{variable}:-}}")
                    or value == f"${{{variable}:-}}"
                )
                assert plain or str(value).startswith("/run/secrets/")


def test_development_runs_a_mailbox_on_request() -> None:
    mailbox = DEVELOPMENT["services"]["mailpit"]

    assert mailbox["profiles"] == ["mail"]
    assert mailbox["networks"] == DEVELOPMENT["services"]["user"]["networks"]
    assert environment(DEVELOPMENT["services"]["user"])["SMTP_URL"] == "${SMTP_URL:-}"
    assert all(port.startswith("127.0.0.1:") for port in mailbox["ports"])
