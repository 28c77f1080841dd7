"""Scenarios in a cluster: an upgrade, rotations of keys, a node that dies, and the limits of two gateways."""

import asyncio
import dataclasses
import json
import secrets
import time

from benchlib import Client, http_request
from benchlib.client import Load
from opskit.catalog import read_catalog
from production.bench import Bench
from production.cluster_stack import ClusterStack
from production.on_cluster import NOT_READY_SECONDS, PORTS, cluster_of
from production.outcome import Outcome
from production.stack import CommandFailed

COMPONENTS = (*read_catalog(), "gateway")
NODE_SECONDS = 180.0
# A limit that a busy machine exceeds, how much more is sent, for how long, and how many pass at first.
LIMIT, EXCESS, LIMIT_SECONDS, BURST = 40, 3, 20.0, 2 * 40
# Within this time each gateway knows of the other one.
COUNTED_SECONDS = 35.0


async def upgrade(bench: Bench, outcome: Outcome) -> None:
    """Replace every service and the gateway by new images at once."""
    stack = cluster_of(bench)
    tag = f"evidence-{secrets.token_hex(4)}"
    before = {name: set(await stack.ids(name)) for name in COMPONENTS}
    stores = {pod.name for engine in PORTS for pod in await stack.pods(engine)}
    await stack.prepare_upgrade(COMPONENTS, tag)
    async with bench.notes_under_load(outcome):
        began = time.monotonic()
        outcome.mark("make cluster-up")
        result = await stack.run("make", "cluster-up", "BUILD=0", f"TAG={tag}")
        outcome.mark("make cluster-up has ended")
        took = time.monotonic() - began
        # The former pods drain and end.
        await bench.pause(60)
    outcome.require(result.code == 0, f"make cluster-up failed:\n{result.end}")
    kept = [name for name in COMPONENTS if before[name] & set(await stack.ids(name))]
    outcome.require(not kept, f"pods were not replaced: {', '.join(kept)}")
    now = {pod.name for engine in PORTS for pod in await stack.pods(engine)}
    outcome.require(now == stores, "the upgrade replaced stores")
    outcome.note(f"{len(COMPONENTS)} Deployments have new images after {took:.0f} s")


async def rotations(bench: Bench, outcome: Outcome) -> None:
    """Replace the keys between services, and then the key that signs access tokens."""
    async with bench.notes_under_load(outcome):
        for target in "rotate-keys", "rotate-jwt-key":
            began = time.monotonic()
            outcome.mark(f"make {target}")
            result = await bench.stack.make(target, "CLUSTER=1")
            outcome.require(result.code == 0, f"make {target} failed:\n{result.end}")
            outcome.note(f"make {target}: {time.monotonic() - began:.0f} s")
        await bench.pause(6)


async def node(bench: Bench, outcome: Outcome) -> None:
    """Kill a node with all of its processes. Clients reach a gateway on another one, as behind a load balancer."""
    stack = cluster_of(bench)
    for component in COMPONENTS:
        await stack.scale(component, max(2, len(await stack.ids(component))))
    victim = await stack.spare_node()
    stores = [pod.name for engine in PORTS for pod in await stack.pods(engine) if await stack.node_of(pod) == victim]
    if stores:
        raise CommandFailed(f"{victim} has {', '.join(stores)}; this needs a node without stores")
    policy = "{.spec.externalTrafficPolicy}"
    former = await stack.kubectl("get", "service", "gateway", f"--output=jsonpath={policy}")
    await _route(stack, "Local")
    elsewhere = dataclasses.replace(bench, stack=dataclasses.replace(stack, avoided_node=victim))
    try:
        async with elsewhere.notes_under_load(outcome) as load:
            began = time.monotonic()
            outcome.mark(f"{victim} dies")
            await stack.on_node(stack.stop_node, victim)
            try:
                await _wait_for_node(stack, victim, ready=False, seconds=NOT_READY_SECONDS)
                noticed = time.monotonic() - began
                outcome.mark(f"{victim} is not ready")
                await bench.pause(45)
            finally:
                await stack.on_node(stack.start_node, victim)
            await _wait_for_node(stack, victim, ready=True, seconds=NODE_SECONDS)
            outcome.mark(f"{victim} is back")
            for component in COMPONENTS:
                await stack.healthy(component, len(await stack.ids(component)))
            await bench.pause(30)
    finally:
        await _route(stack, former)
    slow = [sample.seconds for sample in load.samples if sample.seconds > 2]
    outcome.note(f"the cluster noticed after {noticed:.0f} s")
    outcome.note(f"{len(slow)} requests took more than 2 s, the slowest {max(slow, default=0.0):.1f} s")


async def limits(bench: Bench, outcome: Outcome) -> None:
    """Measure what a client gets of a limit from two gateways, on one connection and on many."""
    stack = cluster_of(bench)
    await stack.scale("gateway", 2)
    await stack.kubectl("set", "env", "deployment/gateway", f"GATEWAY_RATE_GENERAL={LIMIT}")
    try:
        await stack.kubectl("rollout", "status", "deployment/gateway", "--timeout=240s")
        await asyncio.sleep(COUNTED_SECONDS)
        # The edge responds to it by itself.
        request = http_request("GET", "/api/v1/users/profile")
        with Client() as client:
            for connections, burst in (1, BURST / 2), (32, BURST):
                load = Load(await stack.gateway(), [request], connections, LIMIT * EXCESS)
                result = await asyncio.to_thread(client.send, load, LIMIT_SECONDS)
                passed = result.statuses[401]
                rate = (passed - burst) / result.seconds
                outcome.note(
                    f"a limit of {LIMIT}/s, {connections} connections: {passed} of {result.statuses.total()} passed "
                    f"in {result.seconds:.0f} s, {rate:.1f}/s without the burst of {burst:.0f}"
                )
                outcome.require(rate < LIMIT * 1.05, f"{rate:.1f}/s passed on {connections} connections")
                await asyncio.sleep(BURST / LIMIT * 2)
    finally:
        await stack.kubectl("rollout", "undo", "deployment/gateway")
        await stack.kubectl("rollout", "status", "deployment/gateway", "--timeout=240s")


async def _route(stack: ClusterStack, policy: str) -> None:
    """Set whether a node's port leads to its own gateway only."""
    await stack.kubectl(
        "patch", "service", "gateway", f"--patch={json.dumps({'spec': {'externalTrafficPolicy': policy}})}"
    )


async def _wait_for_node(stack: ClusterStack, name: str, *, ready: bool, seconds: float) -> None:
    end = time.monotonic() + seconds
    while await stack.node_is_ready(name) != ready:
        if time.monotonic() > end:
            raise CommandFailed(f"{name} is still {'not ready' if ready else 'ready'} after {seconds:.0f} s")
        await asyncio.sleep(1)
