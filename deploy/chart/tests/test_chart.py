"""The chart as Helm renders it: equal to deploy/services.toml and to compose's networks, and closed as documented."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from opskit.catalog import ServiceEntry, read_catalog

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "deploy" / "chart"
CATALOG = read_catalog()
EMBEDDED = ("stores.embedded=true",)
EXTERNAL = tuple(f"services.{name}.urlsSecret={name}-stores" for name in CATALOG)
HELM = shutil.which("helm", path=f"{ROOT / '.tools' / 'bin'}{os.pathsep}{os.environ['PATH']}")

# The oldest version that the chart takes; a Helm that was built from its source assumes a very old one.
KUBERNETES = ("--kube-version", "1.30.0")

pytestmark = pytest.mark.skipif(HELM is None, reason="helm is missing: `make helm` builds it into .tools/bin")
each_service = pytest.mark.parametrize("entry", CATALOG.values(), ids=list(CATALOG))

Object = Mapping[str, Any]
# The pods of compose's long-running containers.
WORKLOADS = {*CATALOG, "gateway", "postgres", "mongo", "valkey"}


def helm(*settings: str) -> subprocess.CompletedProcess[str]:
    options = [word for setting in settings for word in ("--set", setting)]
    command = [HELM or "helm", "template", "baseplate", str(CHART), "--namespace", "platform", *KUBERNETES, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@cache
def rendered(*settings: str) -> Mapping[tuple[str, str], Object]:
    """Return all objects by kind and name."""
    result = helm(*settings)
    assert result.returncode == 0, result.stderr
    documents = [document for document in yaml.load_all(result.stdout, Loader=yaml.CSafeLoader) if document]
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}


def pods(*settings: str) -> Iterator[tuple[str, Object]]:
    """Yield the name and the pod template of everything that runs."""
    for (kind, name), document in rendered(*settings).items():
        if kind == "Pod":
            yield name, document
        elif kind == "CronJob":
            yield name, document["spec"]["jobTemplate"]["spec"]["template"]
        elif "template" in document.get("spec", {}):
            yield name, document["spec"]["template"]


def environment(container: Object) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"]}


# Equal to deploy/services.toml


@each_service
def test_a_service_has_what_the_list_says(entry: ServiceEntry) -> None:
    deployment = rendered(*EMBEDDED)["Deployment", entry.name]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    variables = environment(container)
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}

    assert (container["name"], container["image"]) == (entry.name, f"baseplate/{entry.name}:current")
    assert ("MONGO_URL_FILE" in variables, "DATABASE_URL_FILE" in variables) == (
        entry.store == "mongo",
        entry.store == "postgres",
    )
    assert ("JWT_KEYS_DIR" in variables, "/var/lib/jwt-keys" in mounts) == (entry.issues_tokens, entry.issues_tokens)
    assert ("LINK_SECRET_FILE" in variables, "/var/lib/files" in mounts) == (entry.keeps_files, entry.keeps_files)
    assert json.loads(variables["PEER_URLS"]) == {name: [f"http://{name}:8000"] for name in CATALOG}


@each_service
@pytest.mark.parametrize("kind", ["PodDisruptionBudget", "HorizontalPodAutoscaler", "ServiceAccount", "Service"])
def test_a_service_has_each_of_its_objects(entry: ServiceEntry, kind: str) -> None:
    assert (kind, entry.name) in rendered(*EMBEDDED, "defaults.autoscaling.enabled=true")


@each_service
def test_a_service_holds_only_its_own_keys_and_secrets(entry: ServiceEntry) -> None:
    volumes = rendered(*EMBEDDED)["Deployment", entry.name]["spec"]["template"]["spec"]["volumes"]
    secrets = set(re.findall(r"'(?:secretName|name)': '([\w-]+-(?:keys|secrets))'", str(volumes)))

    assert secrets - {"service-keys"} == {
        f"{entry.name}-keys",
        f"{entry.name}-secrets",
        *(["jwt-keys"] if entry.issues_tokens else []),
    }


@each_service
def test_both_versions_of_a_service_have_a_name_without_an_address_of_its_own(entry: ServiceEntry) -> None:
    for name, track in (entry.name, "v1"), (f"{entry.name}-v2", "v2"):
        spec = rendered(*EMBEDDED)["Service", name]["spec"]
        assert (spec["clusterIP"], spec["selector"]["baseplate/track"]) == ("None", track)


# The console

CONSOLE = (*EMBEDDED, "console.enabled=true")


def test_the_console_is_off_by_default_and_its_keys_are_there_all_the_same() -> None:
    objects = rendered(*EMBEDDED)

    assert not [key for key in objects if key[1] == "console"]
    assert not any("CONSOLE_URL" in str(pod) for _, pod in pods(*EMBEDDED))
    assert {"console-keys", "console-secrets"} <= set(objects["Role", "make-secrets"]["rules"][0]["resourceNames"])


def test_the_console_is_one_pod_which_services_and_gateways_know() -> None:
    objects = rendered(*CONSOLE, "console.settings.CONSOLE_MEMORY_MB=128")
    spec = objects["Deployment", "console"]["spec"]
    variables = environment(spec["template"]["spec"]["containers"][0])

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert (variables["WEB_CONCURRENCY"], variables["CONSOLE_MEMORY_MB"]) == ("1", "128")
    assert not {"CONSOLE_URL", "DATABASE_URL_FILE", "MONGO_URL_FILE"} & variables.keys()
    assert json.loads(variables["PEER_URLS"]).keys() == CATALOG.keys()
    assert ("HorizontalPodAutoscaler", "console") not in rendered(*CONSOLE, "defaults.autoscaling.enabled=true")
    for name in (*CATALOG, "gateway"):
        container = objects["Deployment", name]["spec"]["template"]["spec"]["containers"][0]
        assert environment(container)["CONSOLE_URL"] == "http://console:8000"


def test_the_console_is_on_the_networks_that_compose_puts_it_on() -> None:
    labels = rendered(*CONSOLE)["Deployment", "console"]["spec"]["template"]["metadata"]["labels"]

    prefix = "baseplate/net-"
    assert {name.removeprefix(prefix) for name in labels if name.startswith(prefix)} == compose_networks()["console"]


# Networks


def compose_networks() -> Mapping[str, set[str]]:
    document = yaml.safe_load((ROOT / "docker-compose.prod.yml").read_text())
    names = {"mongo-1": "mongo"}
    return {names.get(name, name): set(service.get("networks", [])) for name, service in document["services"].items()}


def selects(policy_selector: Object, labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in policy_selector.get("matchLabels", {}).items())


def may_connect(source: Mapping[str, str], target: Mapping[str, str], port: int) -> bool:
    """Decide as the cluster does: some policy of each side has to allow the connection."""
    policies = [document["spec"] for (kind, _), document in rendered(*EMBEDDED).items() if kind == "NetworkPolicy"]

    def allows(policy: Object, direction: str, side: str, other: Mapping[str, str]) -> bool:
        return any(
            any(entry["port"] == port for entry in rule["ports"])
            and (
                side not in rule
                or any(selects(peer.get("podSelector", {"matchLabels": {"none": ""}}), other) for peer in rule[side])
            )
            for rule in policy.get(direction, [])
        )

    leaves = any(
        allows(policy, "egress", "to", target) for policy in policies if selects(policy["podSelector"], source)
    )
    enters = any(
        allows(policy, "ingress", "from", source) for policy in policies if selects(policy["podSelector"], target)
    )
    return leaves and enters


def test_a_pod_reaches_a_server_exactly_if_compose_puts_both_on_the_server_s_network() -> None:
    networks = compose_networks()
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(*EMBEDDED) if name in WORKLOADS}
    servers = {"postgres": ("postgres", 5432), "mongo": ("mongo", 27017), "valkey": ("valkey", 6379)}
    servers |= dict.fromkeys(CATALOG, ("services", 8000))

    assert labels.keys() == WORKLOADS
    for source, (target, (network, port)) in product(WORKLOADS, servers.items()):
        shared = network in networks[source] & networks[target]
        assert may_connect(labels[source], labels[target], port) is shared, f"{source} -> {target}"


def test_what_a_service_may_reach_its_migrations_may_reach() -> None:
    objects = rendered(*EXTERNAL, "files.bucket.url=s3://files", "services.assets.egress[0].ports[0].port=9000")
    selector = objects["NetworkPolicy", "assets-egress"]["spec"]["podSelector"]
    (term,) = selector["matchExpressions"]

    for kind, name in ("Deployment", "assets"), ("Job", "assets-migrate-hook"):
        labels = objects[kind, name]["spec"]["template"]["metadata"]["labels"]
        assert selects(selector, labels)
        assert labels[term["key"]] in term["values"]


def test_nothing_but_its_own_port_is_open_on_any_pod() -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(*EMBEDDED) if name in WORKLOADS}

    assert not any(may_connect(a, b, port) for a, b in product(labels.values(), repeat=2) for port in (22, 8080, 9090))


# Pods


@pytest.mark.parametrize("settings", [pytest.param(CONSOLE, id="embedded"), pytest.param(EXTERNAL, id="external")])
def test_every_container_is_restricted(settings: tuple[str, ...]) -> None:
    for name, pod in pods(*settings):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec["enableServiceLinks"]
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["limits"]["memory"], name
            assert container["image"].rpartition(":")[2] != "latest"


def test_no_pod_waits_long_for_a_dns_server_that_died() -> None:
    for name, pod in pods(*EMBEDDED):
        options = {option["name"]: int(option["value"]) for option in pod["spec"]["dnsConfig"]["options"]}
        assert options["timeout"] == 1, name
        assert options["attempts"] > 2


def test_only_jobs_for_secrets_get_a_token_of_the_api() -> None:
    with_token = {name for name, pod in pods(*EMBEDDED) if pod["spec"]["automountServiceAccountToken"]}

    assert with_token == {"make-secrets", "rotate-keys", "rotate-jwt-key"}


@pytest.mark.parametrize("name", [*CATALOG, "gateway"])
def test_a_pod_goes_on_serving_after_it_has_left_the_cluster_s_names(name: str) -> None:
    spec = rendered(*EMBEDDED)["Deployment", name]["spec"]["template"]["spec"]
    drain = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]

    # gunicorn takes 20 s to finish requests, NGINX 60 s.
    assert spec["terminationGracePeriodSeconds"] >= drain + (60 if name == "gateway" else 20)


def test_the_gateway_divides_limits_by_ready_gateways_and_services_believe_all_of_them() -> None:
    objects = rendered(*EMBEDDED)
    gateway, notes = (
        environment(objects["Deployment", name]["spec"]["template"]["spec"]["containers"][0])
        for name in ("gateway", next(iter(CATALOG)))
    )

    assert objects["Service", gateway["GATEWAY_PEERS"]]["spec"]["publishNotReadyAddresses"] is False
    assert objects["Service", notes["GATEWAY_NETWORKS"]]["spec"]["publishNotReadyAddresses"] is True


# Stores


def test_migrations_are_hooks_unless_the_stores_or_the_files_come_with_the_chart() -> None:
    bucket = "files.bucket.url=s3://files"
    hooks = {name for kind, name in rendered(*EXTERNAL, bucket) if kind == "Job"} - {"make-secrets"}

    assert hooks == {f"{name}-migrate-hook" for name in CATALOG}
    assert not any("StatefulSet" in key for key in rendered(*EXTERNAL))
    in_pods = {name for name, pod in pods(*EMBEDDED) if pod["spec"].get("initContainers")} - {"gateway"}
    assert in_pods == set(CATALOG)


def test_with_a_bucket_there_is_no_volume_of_files() -> None:
    assert ("PersistentVolumeClaim", "files") not in rendered(*EXTERNAL, "files.bucket.url=s3://files")
    assert ("PersistentVolumeClaim", "files") in rendered(*EXTERNAL)


@pytest.mark.parametrize("name", [*CATALOG, "gateway"])
def test_pods_spread_over_nodes_that_have_no_label_of_a_zone(name: str) -> None:
    spec = rendered(*EMBEDDED)["Deployment", name]["spec"]["template"]["spec"]

    # The scheduler ignores a node that lacks the label of any one of the constraints.
    (constraint,) = spec["topologySpreadConstraints"]
    assert constraint["topologyKey"] == "kubernetes.io/hostname"
    # By revision, and only on nodes that take pods: otherwise a rolling update or a drain could not go on.
    assert (constraint["matchLabelKeys"], constraint["nodeTaintsPolicy"]) == (["pod-template-hash"], "Honor")
    (term,) = spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"]["topologyKey"] == "topology.kubernetes.io/zone"


def test_no_node_has_all_replicas_unless_a_volume_ties_them_to_it() -> None:
    def required(*settings: str) -> set[str]:
        specs = {name: rendered(*settings)["Deployment", name]["spec"]["template"]["spec"] for name in everything}
        return {
            name
            for name, spec in specs.items()
            if spec["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "DoNotSchedule"
        }

    everything = {*CATALOG, "gateway"}
    with_files = {"gateway", *(name for name, entry in CATALOG.items() if entry.keeps_files)}
    class_, once = "files.volume.storageClass=shared", "files.volume.accessMode=ReadWriteOnce"
    # The volumes of a default class may be of one node each.
    assert required(*EMBEDDED) == required(*EMBEDDED, class_, once) == everything - with_files
    assert required(*EMBEDDED, class_) == required(*EMBEDDED, "files.volume.existingClaim=shared") == everything
    assert required(*EXTERNAL, "files.bucket.url=s3://files") == everything


def test_an_upgrade_of_the_services_leaves_embedded_stores_as_they_are() -> None:
    before, after = (rendered(*EMBEDDED, f"image.tag=v{number}") for number in (1, 2))

    for store in "postgres", "mongo", "valkey":
        assert before["StatefulSet", store]["spec"] == after["StatefulSet", store]["spec"]


# Values


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        pytest.param("image.tagg=1", "'tagg' not allowed", id="a misspelt name"),
        pytest.param("defaults.replicas=many", "/defaults/replicas", id="a text for a number"),
        pytest.param("gateway.service.type=Host", "one of 'ClusterIP', 'NodePort', 'LoadBalancer'", id="no such type"),
        pytest.param("settings.LOG_LEVEL=LOUD", "/settings/LOG_LEVEL", id="no such level"),
        pytest.param("services.nowhere.replicas=2", "services.nowhere: there is no such service", id="no such service"),
        pytest.param("services.user.settings.COLOUR=red", "lists no such setting of user", id="no such setting"),
        pytest.param("services.user.replicas=7", "up to 14 replicas run at once", id="more replicas than connections"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_explained(setting: str, message: str) -> None:
    result = helm(*EMBEDDED, setting)

    assert result.returncode != 0
    assert message in result.stderr


def test_missing_addresses_of_stores_are_explained() -> None:
    assert "urls or urlsSecret must say where its" in helm().stderr
    assert "console: urlsSecret must name" in helm(*EXTERNAL, "console.enabled=true").stderr
    assert ("Deployment", "console") in rendered(*EXTERNAL, "console.enabled=true", "console.urlsSecret=console-stores")


def test_the_default_values_are_all_described_by_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    assert values.keys() == schema["properties"].keys() - {"global"}
    assert '"additionalProperties": true' not in (CHART / "values.schema.json").read_text()


def test_helm_finds_nothing_wrong() -> None:
    command = [HELM or "helm", "lint", "--strict", str(CHART), *KUBERNETES, "--set", EMBEDDED[0]]
    result = subprocess.run(command, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout


# Observability


def test_metrics_are_closed_and_the_operators_objects_left_out_unless_asked_for() -> None:
    kinds = {kind for kind, _ in rendered(*EMBEDDED)}
    assert not kinds & {"PodMonitor", "PrometheusRule"}
    assert ("NetworkPolicy", "scrapers") not in rendered(*EMBEDDED)


def test_the_operator_gets_the_rules_of_compose_as_they_are() -> None:
    rule = rendered(*EMBEDDED, "observability.prometheusRule.enabled=true")["PrometheusRule", "baseplate"]
    folder = ROOT / "deploy" / "observability" / "rules"
    files = [yaml.safe_load((folder / f"{name}.yml").read_text())["groups"] for name in ("recording", "alerts")]

    assert [group["rules"] for group in rule["spec"]["groups"]] == [group["rules"] for file in files for group in file]
    names = [group["name"] for group in rule["spec"]["groups"]]
    assert len(set(names)) == len(names)


def test_monitors_and_scrapers_reach_the_metrics_of_services_and_gateway() -> None:
    selector = "observability.scrapers[0].namespaceSelector.matchLabels.name=monitoring"
    objects = rendered(*EMBEDDED, "observability.podMonitors.enabled=true", selector)
    ports = {
        port["name"]: port["containerPort"]
        for name in ("notes", "gateway")
        for port in objects["Deployment", name]["spec"]["template"]["spec"]["containers"][0]["ports"]
    }

    assert ports["metrics"] == 9113
    for job, port in {"services": "http", "gateway": "metrics"}.items():
        (endpoint,) = objects["PodMonitor", job]["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] == port
        assert {"targetLabel": "job", "replacement": job} in endpoint["relabelings"]
    (rule,) = objects["NetworkPolicy", "scrapers"]["spec"]["ingress"]
    assert rule["ports"] == [{"port": "http"}, {"port": "metrics"}]
