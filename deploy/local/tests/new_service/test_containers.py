"""A new service in the compose files; `tests/own_platforms/test_new_service.py` checks the result as a whole."""

import difflib
import json
from functools import cache
from typing import Any

import pytest
import yaml

from local_platform.layout import REPOSITORY
from local_platform.new_service.containers import (
    in_context,
    in_development,
    in_production,
    in_scrapes,
    with_connections,
)
from local_platform.new_service.registration import NotRegistered
from opskit.catalog import ServiceEntry, read_catalog

pytestmark = pytest.mark.needs("analytics", "notes", "assets")

NEW = [
    ServiceEntry("billing", "billing", 8005, "postgres", calls=("user",)),
    ServiceEntry("ledger", "ledger", 8006, "mongo", calls=("user",)),
]
FILES = {
    "development": ("docker-compose.yml", in_development),
    "production": ("docker-compose.prod.yml", in_production),
}


def text_of(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


@cache
def extended(name: str, count: int) -> str:
    """Return a compose file with the first `count` of the new services."""
    path, add = FILES[name]
    return add(extended(name, count - 1), NEW[count - 1]) if count else text_of(path)


def parsed(text: str) -> Any:
    return yaml.load(text, Loader=yaml.CSafeLoader)


@pytest.fixture(scope="module", params=sorted(FILES))
def both(request: pytest.FixtureRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """A compose file, and the same with two more services."""
    return parsed(extended(request.param, 0)), parsed(extended(request.param, 2))


def test_a_new_service_has_what_an_existing_one_of_its_engine_has(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    before, after = both
    added = {name for name in after["services"] if name not in before["services"]}
    assert {name.removeprefix("ledger") for name in added if name.startswith("ledger")} == {
        name.removeprefix("notes") for name in before["services"] if name.startswith("notes")
    }
    # `notes` keeps no files and issues no tokens, so it equals a new service but for the name.
    for name in (name for name in added if name.startswith("ledger")):
        like = json.dumps(before["services"][name.replace("ledger", "notes")]).replace("notes", "ledger")
        ours = json.dumps(after["services"][name])
        assert without_peers(json.loads(ours)) == without_peers(json.loads(like))
    assert after["services"]["billing-migrate"]["environment"] == {"DATABASE_URL_FILE": "/run/secrets/database_url"}
    assert "postgres-setup" in after["services"]["billing-migrate"]["depends_on"]


def without_peers(service: dict[str, Any]) -> dict[str, Any]:
    environment = service.get("environment", {})
    return {**service, "environment": {name: value for name, value in environment.items() if name != "PEER_URLS"}}


def test_all_others_know_a_new_service(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    before, after = both
    names = {"billing", "ledger"}
    old = json.loads(before["services"]["user"]["environment"]["PEER_URLS"])
    peers = json.loads(after["services"]["user"]["environment"]["PEER_URLS"])
    assert peers == old | {name: [f"http://{name}:8000"] for name in names}
    assert after["services"]["gateway"]["depends_on"].keys() - before["services"]["gateway"]["depends_on"] == names
    for store, name in (("postgres", "billing"), ("mongo", "ledger")):
        secrets = after["services"][f"{store}-setup"]["secrets"]
        assert {"source": f"{store}_{name}_password", "target": f"{name}_password"} in secrets
        assert len(secrets) == len(before["services"][f"{store}-setup"]["secrets"]) + 1
    if "rotate-keys" in after["services"]:
        replicas = peers | {"console": ["http://console:8000"]}
        assert json.loads(after["services"]["rotate-keys"]["command"][-1]) == replicas
        assert json.loads(after["services"]["rotate-jwt-key"]["command"][-1]) == replicas


def test_exactly_the_secrets_that_containers_use_are_defined(
    both: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    before, after = both
    used = {
        secret if isinstance(secret, str) else secret["source"]
        for service in after["services"].values()
        for secret in service.get("secrets", [])
    }
    assert used == after["secrets"].keys()
    directory = before["secrets"]["notes_mongo_url"]["file"].removesuffix("notes/mongo_url")
    assert {name: secret["file"].removeprefix(directory) for name, secret in after["secrets"].items()} == {
        **{name: secret["file"].removeprefix(directory) for name, secret in before["secrets"].items()},
        "billing_database_url": "billing/database_url",
        "billing_valkey_url": "billing/valkey_url",
        "billing_fingerprint_secret": "billing/fingerprint_secret",
        "postgres_billing_password": "postgres/billing_password",
        "ledger_mongo_url": "ledger/mongo_url",
        "ledger_valkey_url": "ledger/valkey_url",
        "ledger_fingerprint_secret": "ledger/fingerprint_secret",
        "mongo_ledger_password": "mongo/ledger_password",
    }


def test_other_services_do_not_change(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    before, after = both
    touched = {"gateway", "postgres", "postgres-setup", "mongo-setup", "rotate-keys", "rotate-jwt-key"}
    for name, service in before["services"].items():
        if name not in touched:
            assert without_peers(after["services"][name]) == without_peers(service)
    assert after["networks"] == before["networks"]
    assert after["volumes"] == before["volumes"]


def test_its_port_for_development_is_published() -> None:
    ports = parsed(extended("development", 1))["services"]["gateway"]["ports"]
    assert ports[-1] == "127.0.0.1:8005:8005"


def test_postgres_accepts_one_more_share_of_connections_for_a_service_that_uses_it() -> None:
    settings = [text_of(".env.example")]
    for entry in NEW:
        settings.append(with_connections(settings[-1], entry))
    for before, with_postgres, with_mongo in (settings, [extended("production", count) for count in range(3)]):
        assert "260" in before
        assert "380" in with_postgres
        assert "380" in with_mongo


def test_its_folder_is_in_the_build_context_and_its_metrics_are_collected() -> None:
    ignored = in_context(text_of(".dockerignore"), read_catalog(), "billing")
    assert "!assets\n!billing\n" in ignored
    scraped = parsed(in_scrapes(text_of("deploy/observability/prometheus.yml"), "billing"))
    assert scraped["scrape_configs"][0]["dns_sd_configs"][0]["names"] == [*read_catalog(), "billing"]


@pytest.mark.parametrize("name", sorted(FILES))
def test_comments_and_layout_stay(name: str) -> None:
    """Only the lines that list all services change, and no line gets lost."""
    before, after = extended(name, 0), extended(name, 1)
    changes = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    removed = [line for line in changes if line.startswith("- ")]
    known = ('["http://assets:8000"]}', '["http://console:8000"]}', "assets: *healthy}", "MAX_CONNECTIONS")
    assert all(any(text in line for text in known) for line in removed), removed
    assert sum(line.startswith("+ ") for line in changes) > len(removed)


@pytest.mark.parametrize("add", [in_development, in_production])
def test_a_compose_file_of_another_form_is_left_alone(add: Any) -> None:
    with pytest.raises(NotRegistered, match="docker-compose"):
        add("services: {}\n", NEW[0])
