"""What lists all services names a removed one no more, and otherwise stays as it was."""

from typing import Any

import pytest
import yaml

from local_platform.layout import REPOSITORY
from local_platform.remove_service.lists import without_containers, without_entry, without_member, without_scopes
from local_platform.remove_service.removal import LISTS
from opskit.catalog import read_catalog

pytestmark = pytest.mark.needs("analytics", "notes", "assets")

CATALOG = read_catalog()
REMOVABLE = [name for name in CATALOG if name != "user"]
COMPOSE = ["docker-compose.yml", "docker-compose.prod.yml"]


def text_of(file: str) -> str:
    return (REPOSITORY / file).read_text(encoding="utf-8")


def parsed(text: str) -> Any:
    return yaml.load(text, Loader=yaml.CSafeLoader)


@pytest.mark.parametrize("name", REMOVABLE)
@pytest.mark.parametrize("file", COMPOSE)
def test_the_other_services_of_a_compose_file_keep_their_definitions(file: str, name: str) -> None:
    before = parsed(text_of(file))
    after = parsed(without_containers(file, text_of(file), CATALOG, CATALOG[name]))

    assert before["services"].keys() - after["services"].keys() >= {name, f"{name}-migrate"}
    used = {
        secret if isinstance(secret, str) else secret["source"]
        for service in after["services"].values()
        for secret in service.get("secrets", [])
    }
    assert used == after["secrets"].keys()
    for other in CATALOG:
        if other != name:
            assert after["services"][other]["secrets"] == before["services"][other]["secrets"]
    assert ("files" in after["volumes"]) == (name != "assets")
    assert after["volumes"].keys() | {"files"} == before["volumes"].keys()


@pytest.mark.parametrize("file", COMPOSE)
def test_a_job_of_a_store_without_services_is_still_awaited(file: str) -> None:
    catalog, text = dict(CATALOG), text_of(file)
    for name in ("analytics", "notes"):
        text = without_containers(file, text, catalog, catalog[name])
        del catalog[name]
    assert "mongo-setup" in parsed(text)["services"]["gateway"]["depends_on"]


@pytest.mark.parametrize("file", sorted(LISTS))
def test_no_line_is_added_but_those_that_become_shorter(file: str) -> None:
    before = text_of(file)
    after = LISTS[file](before, CATALOG, CATALOG["assets"])
    assert after != before
    assert len(after) < len(before) or file == ".env.example"
    added = set(after.splitlines()) - set(before.splitlines())
    known = ('"notes": [', '"user"', "user: *healthy", "_MAX_CONNECTIONS", "calls =", "user,", "user_service")
    assert all(any(text in line for text in known) for line in added), added


def test_no_service_calls_a_removed_one(tmp_path) -> None:
    path = tmp_path / "services.toml"
    path.write_text(without_entry(text_of("deploy/services.toml"), CATALOG["assets"]))
    catalog = read_catalog(path, operators=True)
    assert list(catalog) == ["user", "analytics", "notes", "console"]
    assert catalog["console"].calls == ("user", "analytics", "notes")
    assert catalog["notes"].calls == ("user", "analytics")


def test_the_page_on_api_keys_loses_the_scopes_of_a_removed_service_only() -> None:
    page = text_of("docs/api-keys.md")
    lost = set(page.splitlines()) - set(without_scopes(page, CATALOG["notes"]).splitlines())
    assert [line.split("`")[1] for line in sorted(lost)] == ["notes:read", "notes:write"]


def test_a_list_about_one_service_alone_stays() -> None:
    manifest = 'members = ["user", "notes"]\nroots = ["user_service", "notes_service"]\nalone = ["notes_service"]\n'
    assert without_member(manifest, ["user", "notes"], "notes") == (
        'members = ["user"]\nroots = ["user_service"]\nalone = ["notes_service"]\n'
    )
