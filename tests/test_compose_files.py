"""What both compose files promise, read from the files themselves; `load/evidence.py` sees it work."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from opskit.catalog import read_catalog

ROOT = Path(__file__).resolve().parents[1]
DEVELOPMENT = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
PRODUCTION = yaml.safe_load((ROOT / "docker-compose.prod.yml").read_text(encoding="utf-8"))
CATALOG = read_catalog()
STORES = {"postgres", "valkey", "mongo-1", "mongo-2", "mongo-3"}

Service = Mapping[str, Any]


def is_job(service: Service) -> bool:
    return service.get("restart") == "no"


def named(document: Mapping[str, Any], *, jobs: bool) -> Iterator[Any]:
    for name, service in document["services"].items():
        if is_job(service) is jobs:
            yield pytest.param(service, id=name)


everything = [*named(PRODUCTION, jobs=True), *named(PRODUCTION, jobs=False)]
long_running = list(named(PRODUCTION, jobs=False))


@pytest.mark.parametrize("document", [DEVELOPMENT, PRODUCTION], ids=["development", "production"])
def test_every_listed_service_and_its_migration_are_there(document: Mapping[str, Any]) -> None:
    wanted = {name for service in CATALOG for name in (service, f"{service}-migrate")}

    assert wanted <= document["services"].keys()


def test_every_service_can_be_released() -> None:
    for service in CATALOG:
        for name in (service, f"{service}-migrate"):
            candidate = f"{service}-v2" + name.removeprefix(service)
            stable, release = PRODUCTION["services"][name], PRODUCTION["services"][candidate]
            differences = {key for key in stable.keys() | release.keys() if stable.get(key) != release.get(key)}

            # The two versions differ in nothing but the code.
            assert differences == {"image", "profiles", "depends_on"}
            assert release["image"] == stable["image"].replace(":current", ":next")
            assert release["profiles"] == ["release"]


@pytest.mark.parametrize("service", everything)
def test_no_container_can_gain_rights_or_write_outside_of_its_volumes(service: Service) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("cap_add")
    assert not service.get("privileged")


@pytest.mark.parametrize("service", everything)
def test_every_container_has_limits_and_does_not_fill_the_disk_with_its_log(service: Service) -> None:
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("service", long_running)
def test_what_runs_on_comes_back(service: Service) -> None:
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("service", [*named(DEVELOPMENT, jobs=True), *named(PRODUCTION, jobs=True)])
def test_a_job_is_not_asked_for_its_health(service: Service) -> None:
    """Its image's check is for a server, and would start a process twice a second beside it."""
    assert service["healthcheck"] == {"disable": True}


def test_only_the_gateway_is_published_in_production_and_on_loopback_unless_told_otherwise() -> None:
    published = {name: service["ports"] for name, service in PRODUCTION["services"].items() if "ports" in service}

    assert published == {"gateway": ["${GATEWAY_BIND:-127.0.0.1}:${GATEWAY_PORT:-8080}:8080"]}


def test_development_publishes_each_service_on_its_own_port_on_loopback() -> None:
    ports = [port for service in DEVELOPMENT["services"].values() for port in service.get("ports", [])]

    assert all(port.startswith("127.0.0.1:") for port in ports)
    for entry in CATALOG.values():
        assert f"127.0.0.1:{entry.development_port}:{entry.development_port}" in ports


@pytest.mark.parametrize("document", [DEVELOPMENT, PRODUCTION], ids=["development", "production"])
def test_every_service_can_be_scaled(document: Mapping[str, Any]) -> None:
    """A fixed name or a port of the host could be had by one replica only."""
    assert not [name for name, service in document["services"].items() if "container_name" in service]
    for service in CATALOG:
        assert "ports" not in document["services"][service]


def test_a_service_reaches_its_own_engine_and_no_other() -> None:
    for entry in CATALOG.values():
        for name in (entry.name, f"{entry.name}-migrate", f"{entry.name}-v2", f"{entry.name}-v2-migrate"):
            engines = {"postgres", "mongo"} & set(PRODUCTION["services"][name]["networks"])

            assert engines == {entry.store}
    assert set(PRODUCTION["services"]["gateway"]["networks"]) == {"outside", "services"}


def test_only_the_gateways_network_leads_outside() -> None:
    assert {name for name, network in PRODUCTION["networks"].items() if not network.get("internal")} == {"outside"}


def test_each_container_sees_the_secrets_of_its_own_only() -> None:
    for service in CATALOG:
        for name in (service, f"{service}-migrate"):
            sources = {secret["source"] for secret in PRODUCTION["services"][name]["secrets"]}

            assert all(source.startswith(f"{service}_") for source in sources)
    holders = [
        name for name, service in PRODUCTION["services"].items() if "postgres_superuser_password" in str(service)
    ]
    assert set(holders) == {"postgres", "postgres-setup"}


def test_replicas_wait_for_the_migration_of_their_database() -> None:
    for service in CATALOG:
        needs = PRODUCTION["services"][service]["depends_on"]

        assert needs[f"{service}-migrate"] == {"condition": "service_completed_successfully"}


def test_stores_do_not_run_as_root() -> None:
    for name in STORES:
        assert PRODUCTION["services"][name]["user"] not in ("", "root", "0")


@pytest.mark.parametrize("document", [DEVELOPMENT, PRODUCTION], ids=["development", "production"])
def test_images_of_others_are_pinned_to_a_version_and_ours_are_never_pulled(document: Mapping[str, Any]) -> None:
    for service in document["services"].values():
        image = service["image"]
        if not image.startswith("baseplate"):
            assert re.search(r":v?\d", image)
        elif document is PRODUCTION:
            assert service["pull_policy"] == "never"


def test_the_job_that_sets_passwords_gives_none_to_a_process_as_an_argument(tmp_path: Path) -> None:
    """Arguments are shown to everybody on the host."""
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


def test_no_secret_stands_in_a_compose_file() -> None:
    for document in (DEVELOPMENT, PRODUCTION):
        for service in document["services"].values():
            for variable, value in service.get("environment", {}).items():
                if re.search("PASSWORD|SECRET|_URL", variable):
                    assert str(value).startswith("/run/secrets/") or variable == "PEER_URLS"
