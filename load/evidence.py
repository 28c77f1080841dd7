"""Show on a running production stack that no request and no write is lost while replicas, versions and stores change.

    make prod GATEWAY_RATE_GENERAL=0 GATEWAY_RATE_AUTH=0 USER_RATE=0
    .venv/bin/python load/evidence.py [scenario …] [--quick] [--rate 120] [--json FILE]

    make cluster-up VALUES=… (a port on the nodes, no limits)
    .venv/bin/python load/evidence.py --cluster --load-image "kind load docker-image" [scenario …]

COMPOSE_PROJECT_NAME, GATEWAY_PORT and SECRETS_DIR name the stack, as for compose. The script kills parts of the stack
and creates accounts and notes, so do not run it on a stack that people use. Clients never retry by themselves. A
request fails if its connection breaks or the response is not the expected one. The exit status is 1 if a claim does
not hold.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from production import cluster_operations, figures, isolation, on_cluster, releasing, serving, starting, stores
from production.bench import Bench
from production.cluster_stack import ClusterStack
from production.load_user import PlatformUnavailable
from production.outcome import HEADER, Outcome
from production.stack import CommandFailed, Stack
from production.wire import RateLimited


@dataclass(frozen=True, slots=True)
class Scenario:
    """A claim and the function that shows it. Without `on_stack` it starts its own stack."""

    show: Callable[[Bench, Outcome], Awaitable[None]]
    on_stack: bool = True


SCENARIOS = {
    "memory": Scenario(figures.memory),
    "images": Scenario(figures.images, on_stack=False),
    "isolation": Scenario(isolation.isolation),
    "scale": Scenario(serving.scale),
    "kill": Scenario(serving.kill),
    "release": Scenario(releasing.release),
    "failing-release": Scenario(releasing.failing_release),
    "restart": Scenario(releasing.restart),
    "reload": Scenario(serving.reload),
    "mongo": Scenario(stores.mongo_primary),
    "postgres": Scenario(stores.postgres),
    "start": Scenario(starting.start, on_stack=False),
    "together": Scenario(starting.together, on_stack=False),
}


ON_CLUSTER = {
    "isolation": Scenario(on_cluster.isolation),
    "scale": Scenario(serving.scale),
    "kill": Scenario(on_cluster.kill_pod),
    "drain": Scenario(on_cluster.drain),
    "kubelet": Scenario(on_cluster.kubelet),
    "release": Scenario(releasing.release),
    "failing-release": Scenario(releasing.failing_release),
    "restart": Scenario(releasing.restart),
    "configure": Scenario(on_cluster.configure),
    "autoscale": Scenario(on_cluster.autoscale),
    "upgrade": Scenario(cluster_operations.upgrade),
    "rotations": Scenario(cluster_operations.rotations),
    "node": Scenario(cluster_operations.node),
    "limits": Scenario(cluster_operations.limits),
}


async def run(name: str, scenarios: Mapping[str, Scenario], bench: Bench) -> Outcome:
    """Run one scenario; an error that stops it counts as a claim that does not hold."""
    outcome = Outcome(name)
    try:
        await scenarios[name].show(bench, outcome)
    except* (CommandFailed, PlatformUnavailable, RateLimited) as errors:
        outcome.broken += [str(error) for error in errors.exceptions]
    outcome.end()
    return outcome


async def main(names: Sequence[str], scenarios: Mapping[str, Scenario], bench: Bench) -> list[Outcome]:
    """Run the scenarios and print their rows. Raises `CommandFailed` if no stack runs."""
    outcomes = []
    on_stack = any(scenarios[name].on_stack for name in names)
    replicas = len(await bench.stack.ids("notes")) if on_stack else 0
    if on_stack and not replicas:
        raise CommandFailed("no replica of notes runs; start the platform with: make prod, or make cluster-up")
    print(HEADER)
    for name in names:
        outcomes.append(await run(name, scenarios, bench))
        print("\n".join(outcomes[-1].lines()), flush=True)
    if on_stack:
        await bench.stack.scale("notes", replicas)
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=f"all, or some of {', '.join(SCENARIOS)}")
    parser.add_argument("--quick", action="store_true", help="shorter times and fewer repetitions")
    parser.add_argument("--rate", type=float, default=120.0, help="requests per second (default 120)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    parser.add_argument("--cluster", action="store_true", help=f"in a cluster: {', '.join(ON_CLUSTER)}")
    parser.add_argument(
        "--load-image", default="", metavar="COMMAND", help="gives images, its last words, to a cluster"
    )
    for action, what in product(("stop", "start"), ("kubelet", "node")):
        parser.add_argument(f"--{action}-{what}", default="", metavar="COMMAND", help=f"{action}s the {what} {{node}}")
    arguments = parser.parse_args()
    possible = ON_CLUSTER if arguments.cluster else SCENARIOS
    if unknown := set(arguments.scenarios) - set(possible):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    stack = (
        ClusterStack(
            load=arguments.load_image,
            stop_kubelet=arguments.stop_kubelet,
            start_kubelet=arguments.start_kubelet,
            stop_node=arguments.stop_node,
            start_node=arguments.start_node,
        )
        if arguments.cluster
        else Stack()
    )
    try:
        rows = asyncio.run(
            main(arguments.scenarios or list(possible), possible, Bench(stack, arguments.rate, arguments.quick))
        )
    except CommandFailed as error:
        sys.exit(f"error: {error}")
    if arguments.json:
        arguments.json.write_text(json.dumps([row.document() for row in rows], indent=2) + "\n")
    sys.exit(any(row.broken for row in rows))
