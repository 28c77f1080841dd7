"""Dashboards and rules read metrics that exist; what Grafana is given fits together."""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

import servicekit
from opskit.catalog import read_catalog

from .rules import ALERTS, FOLDER, RECORDED, metrics_of, rules

DASHBOARDS = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
each_dashboard = pytest.mark.parametrize("path", DASHBOARDS, ids=[path.stem for path in DASHBOARDS])
PARTS = re.compile(r"_(?:bucket|count|sum|total)$")


def modules() -> Iterator[ModuleType]:
    """Import the kit and the services, so that their metrics register."""
    packages = [servicekit, *(importlib.import_module(f"{name}_service") for name in read_catalog())]
    for package in packages:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not re.search(r"\.(?:testing|__main__|migrate\w*)(?:\.|$)", found.name):
                yield importlib.import_module(found.name)


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """The names of all metrics of services and gateway, without what a histogram or counter appends."""
    assert list(modules())
    script = (FOLDER.parents[1] / "gateway" / "nginx" / "njs" / "families.js").read_text()
    gateway = set(re.findall(r"name: '(gateway_\w+)'", script))
    # What is registered only with several processes keeps its name in the source.
    return {
        PARTS.sub("", name) for name in {family.name for family in REGISTRY.collect()} | gateway | _own_collectors()
    }


def _own_collectors() -> set[str]:
    return {"service_key_state", "service_key_holder"}


def expressions(dashboard: Any) -> Iterator[str]:
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["expr"]
    for variable in dashboard["templating"]["list"]:
        yield variable["query"]
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def test_every_metric_of_a_rule_is_exported_or_recorded(exported: set[str]) -> None:
    for rule in rules():
        for metric in metrics_of(rule["expr"]):
            assert metric in RECORDED or PARTS.sub("", metric) in exported, (metric, rule)


@each_dashboard
def test_every_metric_of_a_dashboard_is_exported_or_recorded(path: Any, exported: set[str]) -> None:
    for expression in expressions(json.loads(path.read_text())):
        metrics = metrics_of(expression) or {"ALERTS"}
        for metric in metrics:
            assert metric == "ALERTS" or metric in RECORDED or PARTS.sub("", metric) in exported, expression


@each_dashboard
def test_every_panel_reads_a_provisioned_source(path: Any) -> None:
    provisioned = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/datasources.yml").read_text())
    uids = {source["uid"] for source in provisioned["datasources"]}
    dashboard = json.loads(path.read_text())

    assert dashboard["uid"] == path.stem
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] in uids
        assert all(target["datasource"]["uid"] in uids for target in panel["targets"])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_a_bucket_leads_to_a_trace() -> None:
    provisioned = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/datasources.yml").read_text())
    prometheus, jaeger, _ = provisioned["datasources"]
    services = json.loads((FOLDER / "grafana/dashboards/services.json").read_text())

    assert prometheus["jsonData"]["exemplarTraceIdDestinations"] == [
        {"name": "trace_id", "datasourceUid": jaeger["uid"]}
    ]
    assert any(target.get("exemplar") for panel in services["panels"] for target in panel["targets"])


def test_alertmanager_silences_only_alerts_that_exist() -> None:
    rules = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())["inhibit_rules"]
    matchers = [matcher for rule in rules for matcher in rule["source_matchers"] + rule["target_matchers"]]
    named = {name for matcher in matchers for name in re.split("[|]", matcher.split('"')[1])}

    assert named <= set(ALERTS)
