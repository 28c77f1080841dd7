"""The lists that name all services, and how the generator adds a new one."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from local_platform.layout import REPOSITORY
from local_platform.new_service.registration import NotRegistered, free_port, with_entry, with_member
from opskit.catalog import ServiceEntry, read_catalog

BILLING = ServiceEntry("billing", "billing", 8005, "postgres", calls=("user",))


@pytest.mark.needs("analytics", "notes", "assets")
def test_every_list_of_the_workspace_names_every_service() -> None:
    manifest = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    for form in ("{}", "{}_service"):
        names = {form.format(service) for service in read_catalog()}
        lists = [set(re.findall(r'"([^"]*)"', array)) for array in re.findall(r"\[[^\[\]]*\]", manifest)]
        # A list with one service alone is about that service.
        naming = [found for found in lists if len(found & names) > 1]
        assert naming
        assert all(names <= found for found in naming)


@pytest.mark.needs("analytics", "notes", "assets")
def test_a_new_service_is_added_to_every_list_once() -> None:
    manifest = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    services = list(read_catalog())

    edited = with_member(manifest, services, "billing")

    assert edited.count('"billing"') == manifest.count(f'"{services[-1]}"')
    assert edited.count('"billing_service"') == manifest.count(f'"{services[-1]}_service"')
    assert with_member(edited, services, "billing") == edited
    assert re.sub(r',\s+"billing(_service)?"', "", edited) == manifest


def test_a_list_with_a_line_for_each_item_keeps_this_layout_and_its_comments() -> None:
    before = 'x = [\n    "notes", # a\n    "user",\n    "z", # b\n] # c\ny = ["user"]\n'
    after = 'x = [\n    "notes", # a\n    "user",\n    "billing",\n    "z", # b\n] # c\ny = ["user"]\n'
    assert with_member(before, ["user", "notes"], "billing") == after


def test_the_service_list_gets_an_entry_that_the_user_service_and_the_console_may_call(tmp_path: Path) -> None:
    before = (REPOSITORY / "deploy" / "services.toml").read_text(encoding="utf-8")
    path = tmp_path / "services.toml"
    path.write_text(with_entry(before, BILLING), encoding="utf-8")

    old, catalog = read_catalog(operators=True), read_catalog(path, operators=True)

    assert catalog["billing"] == BILLING
    assert list(catalog) == [*old, "billing"]
    for name, entry in old.items():
        added = ("billing",) if name in ("user", "console") else ()
        assert catalog[name] == replace(entry, calls=(*entry.calls, *added))


@pytest.mark.parametrize("calls", ["calls = []", "calls = [\n]", 'calls = ["analytics"]'])
def test_the_services_that_the_user_service_calls_stay(tmp_path: Path, calls: str) -> None:
    one = 'prefix = "{0}"\ndevelopment_port = 1\nstore = "mongo"\n'
    path = tmp_path / "services.toml"
    text = f"[user]\n{one.format('users')}{calls}\n\n[analytics]\n{one.format('analytics')}"
    path.write_text(with_entry(text, BILLING), encoding="utf-8")
    assert read_catalog(path)["user"].calls == (*(["analytics"] if "analytics" in calls else []), "billing")


@pytest.mark.parametrize(
    "text", ["", '[user]\nprefix = "users"\n', '[user]\ncalls = "notes"\n', "[notes]\ncalls = []\n", "[user"]
)
def test_a_service_list_of_another_form_is_left_alone(text: str) -> None:
    with pytest.raises(NotRegistered, match=r"deploy/services\.toml"):
        with_entry(text, BILLING)


def test_the_port_for_development_is_the_first_free_one() -> None:
    catalog = {name: ServiceEntry(name, name, port, "mongo") for name, port in {"a": 8001, "b": 8003}.items()}
    assert free_port(catalog) == 8002
    assert free_port(catalog | {"c": ServiceEntry("c", "c", 8002, "mongo")}) == 8004
