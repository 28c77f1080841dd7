"""Scenarios in a cluster: pods and nodes end, the gateways change, and who can reach whom.

`scale` of `serving` and the scenarios of `releasing` run there, too.
"""

import asyncio
import dataclasses
import json
import math
import secrets
import time
from collections import Counter
from pathlib import Path
from typing import cast

from opskit.catalog import read_catalog
from production.bench import Bench
from production.cluster_stack import ClusterStack
from production.load import ORDINARY
from production.load_user import LoadUser
from production.outcome import Outcome
from production.stack import CommandFailed

PROBE = Path(__file__).with_name("container_probe.py")
PORTS = {"postgres": 5432, "mongo": 27017, "valkey": 6379}
STORES = "app.kubernetes.io/component notin (postgres,mongo,valkey)"
NOT_READY_SECONDS = 120.0
# The share of the load's requests that notes handles, and how much of the load is added.
NOTES_SHARE, MOST_LOAD = 0.8, 1.5
# How the number of pods follows the load: at most this many, decided this often, for this long.
MOST_PODS = 3
AUTOSCALE_SECONDS = 5.0
FOLLOW_SECONDS = 60.0
# As the autoscaler of Kubernetes, which does nothing about a tenth.
TOLERANCE = 0.1
# The requests that a pod has handled, without those of probes.
COUNT = """
import urllib.request
lines = urllib.request.urlopen("http://127.0.0.1:8000/metrics").read().decode().splitlines()
counts = [line for line in lines if line.startswith("service_http_request_duration_seconds_count") and "/api/" in line]
print(sum(float(line.rpartition(" ")[2]) for line in counts))
"""


def cluster_of(bench: Bench) -> ClusterStack:
    """Return the stack as what it is in these scenarios."""
    return cast(ClusterStack, bench.stack)


async def kill_pod(bench: Bench, outcome: Outcome) -> None:
    """Kill one of two pods of notes at once, without its grace period."""
    stack = cluster_of(bench)
    await stack.scale("notes", 2)
    rounds = 1 if bench.quick else 3
    repeated = 0
    async with bench.notes_under_load(outcome):
        for _ in range(rounds):
            await stack.serving("notes", 2)
            began = time.time()
            outcome.mark("one of two pods killed")
            victim = (await stack.ids("notes"))[0]
            await stack.kubectl("delete", "pod", victim, "--grace-period=0", "--force")
            await stack.healthy("notes", 2)
            await bench.pause(6)
            repeated += (await stack.attempts("notes", began)).repeated
    outcome.note(f"{rounds} killed; the gateways sent {repeated} requests to the other pod")


async def drain(bench: Bench, outcome: Outcome) -> None:
    """Drain a node of everything but stores, and let it take pods again."""
    stack = cluster_of(bench)
    for service in (*read_catalog(), "gateway"):
        await stack.scale(service, max(2, len(await stack.ids(service))))
    node = await stack.spare_node()
    async with bench.notes_under_load(outcome):
        began = time.monotonic()
        outcome.mark(f"{node} drains")
        try:
            await stack.kubectl(
                "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s",
                f"--pod-selector={STORES}",
            )  # fmt: skip
            took = time.monotonic() - began
            moved = [await stack.node_of(pod) for pod in await stack.pods("", "v1")]
            await bench.pause(6)
        finally:
            await stack.kubectl("uncordon", node)
    outcome.note(f"{node} drained of all but stores after {took:.0f} s")
    outcome.require(node not in moved, f"pods are left on {node}")


async def kubelet(bench: Bench, outcome: Outcome) -> None:
    """Stop a node's kubelet until its pods count as lost, and start it again."""
    stack = cluster_of(bench)
    await stack.scale("notes", 2)
    node = await stack.spare_node()
    async with bench.notes_under_load(outcome):
        began = time.monotonic()
        outcome.mark(f"the kubelet of {node} stops")
        await stack.on_node(stack.stop_kubelet, node)
        try:
            while await stack.node_is_ready(node):
                if time.monotonic() - began > NOT_READY_SECONDS:
                    raise CommandFailed(f"{node} is still ready")
                await asyncio.sleep(1)
            noticed = time.monotonic() - began
            outcome.mark(f"{node} is not ready")
            await bench.pause(45)
        finally:
            await stack.on_node(stack.start_kubelet, node)
        while not await stack.node_is_ready(node):
            await asyncio.sleep(1)
        await stack.healthy("notes", 2)
        await bench.pause(6)
    outcome.note(f"the cluster noticed after {noticed:.0f} s; the node was without a kubelet meanwhile and afterwards")


async def configure(bench: Bench, outcome: Outcome) -> None:
    """Change a setting of the gateway, which replaces every gateway."""
    stack = cluster_of(bench)
    before = set(await stack.ids("gateway"))
    async with bench.notes_under_load(outcome):
        outcome.mark("the setting changes")
        setting = f"CORS_ALLOWED_ORIGINS=https://{secrets.token_hex(4)}.dev"
        await stack.kubectl("set", "env", "deployment/gateway", setting)
        await stack.kubectl("rollout", "status", "deployment/gateway", "--timeout=240s")
        # The former gateways drain and end.
        await bench.pause(30)
    after = set(await stack.ids("gateway"))
    outcome.require(len(after) >= 2 and not after & before, "not every gateway was replaced")
    outcome.note(f"{len(after)} gateways replaced")


async def isolation(bench: Bench, outcome: Outcome) -> None:
    """From inside of each kind of pod: what it uses is reached, and stores of others and the API server are not."""
    stack = cluster_of(bench)
    catalog = read_catalog()
    stores = {engine: [(pod.address, port) for pod in await stack.pods(engine)] for engine, port in PORTS.items()}
    for engine, addresses in stores.items():
        outcome.require(bool(addresses), f"no pod of {engine} runs; this needs stores.embedded=true")
    api = await stack.kubectl(
        "get", "service", "kubernetes", "--namespace=default", "--output=jsonpath={.spec.clusterIP}"
    )
    claims: Counter[str] = Counter()
    for name in (*catalog, "gateway"):
        barred = [(api, 443)]
        own = [(one, 8000) for one in catalog]
        asked: dict[str, object] = {"names": [], "routed": False}
        if name == "gateway":
            barred += [address for found in stores.values() for address in found]
        else:
            entry = catalog[name]
            barred += stores["mongo" if entry.store == "postgres" else "postgres"]
            own += [*stores[entry.store], *stores["valkey"]]
            asked["other"] = next(one.name for one in catalog.values() if one.store == entry.store and one.name != name)
        asked |= {"addresses": barred, "own": own}
        found = json.loads(await stack.inside(name, PROBE.read_text(), json.dumps(asked)))
        for claim, contradiction in found.items():
            claims[claim] += 1
            outcome.require(not contradiction, f"{name}: does not hold: {claim}: {contradiction}")
    for claim, count in claims.items():
        outcome.note(f"{claim} (checked in {count} pods)")
    enforced = "{.metadata.labels.pod-security\\.kubernetes\\.io/enforce}"
    level = await stack.kubectl("get", "namespace", stack.namespace, f"--output=jsonpath={enforced}")
    outcome.note(f"Pod Security of the namespace: {level or 'not enforced'}")
    outcome.require(level == "restricted", "the namespace does not enforce Pod Security `restricted`")


async def autoscale(bench: Bench, outcome: Outcome) -> None:
    """Scale notes by its request rate, up and down again; the figures are those of the pods' own /metrics.

    It takes the place of a metrics server: every few seconds it counts requests, applies the formula of the
    HorizontalPodAutoscaler, and scales the Deployment as that does.
    """
    stack = cluster_of(bench)
    await stack.scale("notes", 1)
    per_pod = bench.rate * MOST_LOAD * NOTES_SHARE / MOST_PODS
    followed = [1]

    async def follow(until: int) -> None:
        end = time.monotonic() + FOLLOW_SECONDS
        before, since = await _handled(stack), time.monotonic()
        while followed[-1] != until and time.monotonic() < end:
            await asyncio.sleep(AUTOSCALE_SECONDS)
            after, now = await _handled(stack), time.monotonic()
            # A pod that has just started or ended has no earlier or later count.
            rate = sum(max(0.0, count - before[pod]) for pod, count in after.items() if pod in before) / (now - since)
            before, since = after, now
            wanted = min(MOST_PODS, max(1, math.ceil(rate / per_pod - TOLERANCE)))
            if wanted != followed[-1]:
                await stack.scale("notes", wanted)
                followed.append(wanted)
                before, since = await _handled(stack), time.monotonic()

    async with dataclasses.replace(bench, rate=bench.rate / 4).notes_under_load(outcome) as base:
        user = LoadUser(base.gateway, "", base.headers)
        async with bench.load(user, ORDINARY, share=MOST_LOAD) as more:
            outcome.mark("more load")
            await follow(MOST_PODS)
        outcome.require(more.reads.failed + more.writes.failed == 0, "requests of the additional load failed")
        base.written.update(more.written)
        outcome.mark("less load")
        await follow(1)
        await bench.pause(30)
    outcome.note(f"pods of notes: {' → '.join(map(str, followed))}; {more.reads.sent + more.writes.sent} requests more")
    outcome.require(max(followed) > 1 and followed[-1] == 1, f"the number of pods did not follow the load: {followed}")


async def _handled(stack: ClusterStack) -> dict[str, float]:
    """Return how many requests each pod of notes has handled."""
    counts: dict[str, float] = {}
    for pod in await stack.pods("notes", "v1"):
        if pod.ready:
            counts[pod.name] = float(await stack.kubectl("exec", pod.name, "--", "python3", "-c", COUNT))
    return counts
