"""The pools of servers, and which path leads to which pool: rendered/http/upstreams.conf.

Each service has its stable pool, `notes_v1`. During a release it has a second one, `notes_v2`, and $service_pool sends
it a share of the requests, and those that ask for it by `X-Release: v2`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway_config.settings import GatewaySettings
from gateway_config.syntax import address_of, is_address, map_block, text_of
from opskit.catalog import ServiceEntry

# One failure takes a server out of the pool for a second, the shortest time that NGINX knows: a restarted server is
# back that soon, and while it is out the next failure of its neighbour would leave the pool empty.
EJECTION = "max_fails=1 fail_timeout=1s"


@dataclass(frozen=True, slots=True)
class Candidate:
    """The next version of a service: its servers (host:port), and how many of a hundred requests go there."""

    servers: Sequence[str]
    weight: int


Catalog = Mapping[str, ServiceEntry]
Servers = Mapping[str, Sequence[str]]
Candidates = Mapping[str, Candidate]


def upstreams(settings: GatewaySettings, catalog: Catalog, servers: Servers, candidates: Candidates) -> str:
    """The pools, and the map from paths to pools."""
    pools: dict[str, Sequence[str]] = {}
    for name in catalog:
        pools[stable_pool(name)] = servers[name]
        if name in candidates:
            pools[_candidate_pool(name)] = candidates[name].servers
    lines = _resolver(settings)
    for pool, its_servers in pools.items():
        lines += _upstream(pool, its_servers, EJECTION, ["include static/snippets/upstream.conf;"])
        lines += _upstream(f"probe_{pool}", its_servers, "max_fails=0", [])
    text = text_of(lines)
    for name, candidate in candidates.items():
        text += _choice(name, candidate.weight)
    text += map_block("$uri", "$service_pool", "", _paths(catalog, candidates))
    return text + map_block("", "$service_pools", " ".join(pools))


def stable_pool(service: str) -> str:
    """The pool that serves a service normally."""
    return f"{service}_v1"


def needs_resolver(server: str) -> bool:
    """Whether the server (host:port) is a DNS name, whose addresses may change while NGINX runs."""
    return not is_address(server.rpartition(":")[0])


def _candidate_pool(service: str) -> str:
    return f"{service}_v2"


def _resolver(settings: GatewaySettings) -> list[str]:
    if not settings.resolver:
        return []
    return [
        # Replicas come and go within seconds, so their addresses are asked for again every second.
        f"resolver {address_of(settings.resolver)} valid=1s ipv6=off;",
        # A name that is not there yet may be asked for far away; by default that question stays open for 30 s.
        "resolver_timeout 1s;",
    ]


def _choice(service: str, weight: int) -> str:
    """The maps that choose between a service's two pools. NGINX knows no share of 0 %."""
    stable, candidate, share = stable_pool(service), _candidate_pool(service), f"$share_of_{service}"
    if weight in (0, 100):
        return map_block("$asked_release", f"$pool_of_{service}", candidate if weight else stable, {"v2": candidate})
    # The service's name makes this draw independent of other services' and of the tracing's, which hash the same id.
    text = text_of(
        [f'split_clients "{service} $request_id" {share} {{', f"    {weight}% {candidate};", f"    * {stable};", "}"]
    )
    return text + map_block("$asked_release", f"$pool_of_{service}", share, {"v2": candidate})


def _paths(catalog: Catalog, candidates: Candidates) -> dict[str, str]:
    paths = {}
    for entry in catalog.values():
        pool = f"$pool_of_{entry.name}" if entry.name in candidates else stable_pool(entry.name)
        paths[f"~^/api/v1/{entry.prefix}(?:/|$)"] = pool
        paths |= dict.fromkeys(entry.well_known, pool)
    return paths


def _upstream(name: str, servers: Sequence[str], ejection: str, common: Sequence[str]) -> list[str]:
    # The zone shares failures and addresses between workers; `resolve` requires one.
    inner = [f"zone {name} 256k;", *common]
    inner += [f"server {server} {ejection}{' resolve' if needs_resolver(server) else ''};" for server in servers]
    return [f"upstream {name} {{", *(f"    {line}" for line in inner), "}"]
