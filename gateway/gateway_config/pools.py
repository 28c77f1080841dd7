"""The pools of servers, and the paths that lead to them: rendered/http/upstreams.conf.

Each service has a stable pool, such as `notes_v1`. During a release it also has the canary's pool, `notes_v2`. The map
$service_pool sends the canary its share of the requests, and those that ask for it by `X-Release: v2`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway_config.settings import GatewaySettings
from gateway_config.syntax import address_of, is_address, map_block, text_of
from opskit.catalog import ServiceEntry

# One failure ejects a server from its pool for a second, the shortest time that NGINX allows. With a longer time the
# pool would stay without a restarted server, and one failure of the last server would empty it for longer.
EJECTION = "max_fails=1 fail_timeout=1s"
# The pool of the console.
CONSOLE = "console_server"


@dataclass(frozen=True, slots=True)
class Canary:
    """The next version of a service: its servers (host:port), and how many of a hundred requests it gets."""

    servers: Sequence[str]
    weight: int


Catalog = Mapping[str, ServiceEntry]
Servers = Mapping[str, Sequence[str]]
Canaries = Mapping[str, Canary]


def upstreams(settings: GatewaySettings, catalog: Catalog, servers: Servers, canaries: Canaries) -> str:
    """Return the pools, and the map from paths to pools."""
    pools: dict[str, Sequence[str]] = {}
    for name in catalog:
        pools[stable_pool(name)] = servers[name]
        if name in canaries:
            pools[_canary_pool(name)] = canaries[name].servers
    lines = _resolver(settings)
    if settings.console_url:
        # One process alone has the console's state, so there is nobody to ask in its place.
        lines += _upstream(
            CONSOLE, [console_server(settings)], "max_fails=0", ["include static/snippets/upstream.conf;"]
        )
    for pool, its_servers in pools.items():
        lines += _upstream(pool, its_servers, EJECTION, ["include static/snippets/upstream.conf;"])
        lines += _upstream(f"probe_{pool}", its_servers, "max_fails=0", [])
    text = text_of(lines)
    for name, canary in canaries.items():
        text += _choice(name, canary.weight)
    text += map_block("$uri", "$service_pool", "", _paths(catalog, canaries))
    text += map_block("", "$upstream_weights", " ".join(_weights(catalog, canaries)))
    return text + map_block("", "$service_pools", " ".join(pools))


def stable_pool(service: str) -> str:
    """Return the name of a service's pool outside of releases."""
    return f"{service}_v1"


def console_server(settings: GatewaySettings) -> str:
    """Return the host:port of the console."""
    return settings.console_url.partition("//")[2]


def needs_resolver(server: str) -> bool:
    """Whether the server (host:port) is a DNS name, whose addresses may change while NGINX runs."""
    return not is_address(server.rpartition(":")[0])


def _canary_pool(service: str) -> str:
    return f"{service}_v2"


def _resolver(settings: GatewaySettings) -> list[str]:
    if not settings.resolver:
        return []
    return [
        # Replicas start and stop within seconds, so their addresses are resolved again every second.
        f"resolver {address_of(settings.resolver)} valid=1s ipv6=off;",
        # A name that does not exist yet may be forwarded to a distant server; the default is 30 s.
        "resolver_timeout 1s;",
    ]


def _choice(service: str, weight: int) -> str:
    """Return the maps that choose between a service's two pools. NGINX accepts no share of 0 %."""
    stable, canary, weighted = stable_pool(service), _canary_pool(service), f"$weighted_pool_of_{service}"
    if weight in (0, 100):
        return map_block("$requested_release", f"$pool_of_{service}", canary if weight else stable, {"v2": canary})
    # Other services' draws and the tracing's hash the same id; the service's name makes this one independent of them.
    text = text_of(
        [f'split_clients "{service} $request_id" {weighted} {{', f"    {weight}% {canary};", f"    * {stable};", "}"]
    )
    return text + map_block("$requested_release", f"$pool_of_{service}", weighted, {"v2": canary})


def _paths(catalog: Catalog, canaries: Canaries) -> dict[str, str]:
    paths = {}
    for entry in catalog.values():
        pool = f"$pool_of_{entry.name}" if entry.name in canaries else stable_pool(entry.name)
        paths[f"~^/api/v1/{entry.prefix}(?:/|$)"] = pool
        paths |= dict.fromkeys(entry.well_known, pool)
    return paths


def _weights(catalog: Catalog, canaries: Canaries) -> list[str]:
    """Return how many of a hundred requests each pool gets: `notes_v1=75`."""
    weights = []
    for name in catalog:
        canary = canaries[name].weight if name in canaries else 0
        weights.append(f"{stable_pool(name)}={100 - canary}")
        if name in canaries:
            weights.append(f"{_canary_pool(name)}={canary}")
    return weights


def _upstream(name: str, servers: Sequence[str], ejection: str, common: Sequence[str]) -> list[str]:
    # The workers share failures and addresses through the zone, which `resolve` requires.
    inner = [f"zone {name} 256k;", *common]
    inner += [f"server {server} {ejection}{' resolve' if needs_resolver(server) else ''};" for server in servers]
    return [f"upstream {name} {{", *(f"    {line}" for line in inner), "}"]
