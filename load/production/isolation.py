"""Scenario: who can reach whom, tried from outside and from inside each container."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from opskit.catalog import ServiceEntry, read_catalog
from production.bench import Bench
from production.outcome import Outcome

PROBE = Path(__file__).with_name("container_probe.py")
PORTS = {"postgres": 5432, "mongo": 27017, "valkey": 6379}
# What the services listen on.
SERVICE_PORT = 8000


async def isolation(bench: Bench, outcome: Outcome) -> None:
    """From outside, only the gateway's port is open; from inside, a service reaches only its own peers and stores."""
    containers = await bench.stack.inspect()
    _published(outcome, containers)
    await _check_gateway_port(outcome, await bench.stack.gateway())
    _hardened(outcome, containers)
    catalog = read_catalog()
    claims: dict[str, int] = {}
    for name, asked in _questions(catalog, containers):
        found: Mapping[str, str] = json.loads(await bench.stack.inside(name, PROBE.read_text(), json.dumps(asked)))
        for claim, contradiction in found.items():
            claims[claim] = claims.get(claim, 0) + 1
            outcome.require(not contradiction, f"{name}: does not hold: {claim}: {contradiction}")
    for claim, count in claims.items():
        outcome.note(f"{claim} (checked in {count} containers)")


def _questions(
    catalog: Mapping[str, ServiceEntry], containers: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    stores = {engine: list(_addresses(containers, engine)) for engine in PORTS}
    for name, entry in catalog.items():
        engine = "mongo" if entry.store == "postgres" else "postgres"
        other = next(one.name for one in catalog.values() if one.store == entry.store and one.name != name)
        own = [(store, PORTS[kind]) for kind in (entry.store, "valkey") for store, _ in stores[kind]]
        routed = not _sends_mails(containers, name)
        yield name, {**_barred(stores[engine]), "own": own, "other": other, "routed": routed}
    databases = [*stores["postgres"], *stores["mongo"]]
    for name in read_catalog(operators=True).keys() - catalog.keys():
        if any(_service(one) == name for one in containers):
            own = [
                *((store, PORTS["valkey"]) for store, _ in stores["valkey"]),
                *((one, SERVICE_PORT) for one in catalog),
            ]
            yield name, {**_barred(databases), "own": own, "routed": True}
    everything = [store for found in stores.values() for store in found]
    yield "gateway", {**_barred(everything), "own": [(name, SERVICE_PORT) for name in catalog]}


def _sends_mails(containers: Sequence[Mapping[str, Any]], service: str) -> bool:
    """Whether a service is on the network that leads to a mail server: with SMTP_URL only."""
    found = [one["NetworkSettings"]["Networks"] for one in containers if _service(one) == service]
    return any(network.endswith("_mail") for networks in found for network in networks)


def _barred(stores: Sequence[tuple[str, tuple[str, int]]]) -> Mapping[str, Any]:
    return {"names": [name for name, _ in stores], "addresses": [address for _, address in stores]}


def _addresses(containers: Sequence[Mapping[str, Any]], engine: str) -> Iterator[tuple[str, tuple[str, int]]]:
    """Yield compose name and address of each server of an engine."""
    for one in containers:
        name = _service(one)
        if name.partition("-")[0] == engine:
            for network in one["NetworkSettings"]["Networks"].values():
                yield name, (network["IPAddress"], PORTS[engine])


def _service(container: Mapping[str, Any]) -> str:
    return str(container["Config"]["Labels"]["com.docker.compose.service"])


def _published(outcome: Outcome, containers: Sequence[Mapping[str, Any]]) -> None:
    published = {_service(one): one["NetworkSettings"]["Ports"] for one in containers}
    open_ = sorted(name for name, ports in published.items() if any(ports.values()))
    outcome.require(open_ == ["gateway"], f"ports are published by {', '.join(open_) or 'no container'}")
    outcome.note(f"of {len(containers)} containers these publish a port: {', '.join(open_)}")


async def _check_gateway_port(outcome: Outcome, gateway: str) -> None:
    host, _, port = gateway.removeprefix("http://").rpartition(":")
    try:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
    except (OSError, TimeoutError) as error:
        outcome.require(False, f"the gateway's port does not accept connections: {error}")


def _hardened(outcome: Outcome, containers: Sequence[Mapping[str, Any]]) -> None:
    """Check the settings of every container, including the stores."""
    for one in containers:
        host, name = one["HostConfig"], one["Name"].removeprefix("/")
        outcome.require(host["ReadonlyRootfs"], f"{name}: the root file system is writable")
        outcome.require(host["CapDrop"] == ["ALL"] and not host["CapAdd"], f"{name}: it has capabilities")
        outcome.require("no-new-privileges:true" in (host["SecurityOpt"] or []), f"{name}: it may gain privileges")
        outcome.require(not host["Privileged"], f"{name}: it is privileged")
        outcome.require(one["Config"]["User"] not in ("", "0", "root"), f"{name}: it runs as root")
        outcome.require(bool(host["Memory"] and host["PidsLimit"]), f"{name}: it has no limit of memory or processes")
        sockets = [mount["Source"] for mount in one["Mounts"] if "docker.sock" in mount["Source"]]
        outcome.require(not sockets, f"{name}: it has the docker socket")
    outcome.note(
        f"{len(containers)} containers are configured: read-only, no capabilities, no new privileges, no root, limits"
    )
