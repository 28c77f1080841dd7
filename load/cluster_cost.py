"""Compare the platform in a cluster with the same one in compose: a read, a sealed call, the memory of a replica.

    make prod GATEWAY_RATE_GENERAL=0 GATEWAY_RATE_AUTH=0 USER_RATE=0
    make cluster-up VALUES=… (a port on the nodes, no limits)
    .venv/bin/python load/cluster_cost.py [--quick]

Both run side by side on this machine and get their requests in turn. The environment names them as for evidence.py.
"""

import json
from pathlib import Path
from uuid import uuid4

from benchlib import Run, Sample, Subject, http_request, main
from opskit.catalog import read_catalog
from production.cluster_stack import ClusterStack
from production.load_user import API, LoadUser
from production.stack import Stack
from production.wire import exchange, one_connection

SEALED_CALLS = Path(__file__).with_name("production") / "sealed_calls.py"
# Fewer requests than the slower one can handle, so that latencies are not those of a queue.
RATE, CONNECTIONS = 40.0, 4
# Anonymous memory; pages that processes share count once.
MEMORY = """
import os, pathlib
sizes = []
for process in pathlib.Path("/proc").glob("[0-9]*/smaps_rollup"):
    if process.parent.name != str(os.getpid()):
        lines = process.read_text().splitlines()
        sizes += [int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:")]
print(sum(sizes) / 1024)
"""


async def measure(run: Run) -> None:
    stacks = {"cluster": ClusterStack(), "compose": Stack()}
    reads = [await reading(run, name, stack) for name, stack in stacks.items()]
    await run.compare(reads, group="a note read through the gateway")
    calls = [sealed_calls(name, stack) for name, stack in stacks.items()]
    await run.compare(calls, group="a sealed call from analytics to user", warm_up=0)
    for what, (cluster, compose) in {"a read through the gateway": reads, "a sealed call": calls}.items():
        for percentile in "p50", "p95":
            run.ratio(what, percentile, cluster, compose)
    for service in read_catalog():
        sizes = [float(await stack.inside(service, MEMORY)) for stack in stacks.values()]
        run.progress(f"a replica of {service}: {sizes[0]:.0f} MiB in the cluster, {sizes[1]:.0f} MiB in compose")
        run.result(f"memory of a replica of {service}", [sizes[0] / sizes[1]], "memory, of compose")


async def reading(run: Run, name: str, stack: Stack) -> Subject:
    """Return the subject that reads one note of a new user."""
    user = await LoadUser.sign_up(await stack.gateway())
    async with one_connection(user.gateway, user.headers) as session:
        headers = {"Idempotency-Key": uuid4().hex}
        note = await exchange(session, "POST", f"{API}/notes", json={"title": "read", "body": "it"}, headers=headers)
    request = http_request("GET", f"{API}/notes/{note.json()['id']}", user.headers)
    return run.http(name, user.gateway, request, connections=CONNECTIONS, rate=RATE)


def sealed_calls(name: str, stack: Stack) -> Subject:
    """Return the subject that makes one call after the other inside a container of analytics."""

    async def slice_of(seconds: float) -> Sample:
        output = await stack.inside("analytics", SEALED_CALLS.read_text(), str(seconds))
        times: list[float] = json.loads(output.splitlines()[-1])
        return Sample.of(times, requests=len(times), seconds=seconds)

    return Subject(name, slice_of)


if __name__ == "__main__":
    main(measure, __doc__)
