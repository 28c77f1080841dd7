"""The text of each rendered file: pure functions from settings and servers to NGINX configuration.

What can be said once for every installation stands in the static files, with its reasons; here is only what differs.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from gateway_config.settings import GatewaySettings
from servicekit.catalog import ServiceEntry

Catalog = Mapping[str, ServiceEntry]
Servers = Mapping[str, Sequence[str]]

JWKS_PATH = "/.well-known/jwks.json"

# Boundaries, part headers and the closing line of a multipart upload come on top of the file itself.
MULTIPART_ROOM = 64 * 1024

# One failure takes a server out of the pool for a second, the shortest time that NGINX knows: a restarted server is
# back that soon, and while it is out the next failure of its neighbour would leave the pool empty.
EJECTION = "max_fails=1 fail_timeout=1s"


def main(settings: GatewaySettings) -> str:
    """Modules that this NGINX needs to load, and the workers' user when the master is root."""
    lines = [f'load_module "{module}";' for module in settings.modules]
    if settings.worker_user:
        lines.append(f"user {settings.worker_user};")
    return _file(lines)


def listen(settings: GatewaySettings) -> str:
    """Address, port and, when a certificate is configured, TLS with HTTP/2."""
    address = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
    if not settings.tls_certificate:
        return _file([f"listen {address}:{settings.port};"])
    return _file(
        [
            f"listen {address}:{settings.port} ssl;",
            "http2 on;",
            f'ssl_certificate "{settings.tls_certificate}";',
            f'ssl_certificate_key "{settings.tls_certificate_key}";',
        ]
    )


def access_log(settings: GatewaySettings) -> str:
    """Where the access log goes; a file is written in blocks, at most a second late."""
    # A device such as /dev/stdout is somebody's live view.
    buffer = "" if settings.access_log.startswith("/dev/") else " buffer=32k flush=1s"
    return _file([f'access_log "{settings.access_log}" requests{buffer};'])


def trusted_proxies(settings: GatewaySettings) -> str:
    """Peers whose X-Forwarded-For is believed."""
    return _file(f"set_real_ip_from {network};" for network in settings.trusted_proxies)


def cors(settings: GatewaySettings) -> str:
    """The allow-list of origins as a map from the Origin header to the origin that is allowed, or nothing."""
    return _map("$http_origin", "$cors_origin", "", {origin: origin for origin in settings.cors_allowed_origins})


def tokens(settings: GatewaySettings, catalog: Catalog, servers: Servers) -> str:
    """What the edge script must know: whose tokens it accepts and where their public keys are."""
    owners = [entry.name for entry in catalog.values() if JWKS_PATH in entry.well_known]
    urls = [f"http://{server}{JWKS_PATH}" for owner in owners for server in servers[owner]]
    constants = {
        "$token_issuer": settings.token_issuer,
        "$token_audience": settings.token_audience,
        "$jwks_urls": " ".join(urls),
    }
    return "".join(_map("", variable, value) for variable, value in constants.items())


def tracing(settings: GatewaySettings) -> str:
    """Which requests are recorded. An id of NGINX's own decides, because a client could choose one that always wins."""
    percent = round(settings.traced_share * 100, 2)
    if percent in (0, 100):
        return _map("", "$trace_flags", "01" if percent else "00")
    return _file(['split_clients "$request_id" $trace_flags {', f"    {percent:g}% 01;", "    * 00;", "}"])


def files(settings: GatewaySettings) -> str:
    """The folder of the location that sends files for a service."""
    # Without one there is nothing to send, and no service is told that it could be.
    return _file([f'alias "{settings.files_dir.rstrip("/")}/";' if settings.files_dir else "return 404;"])


def file_sending(settings: GatewaySettings) -> str:
    """By which header which rule set tells its service that files can be sent for it."""
    return _map("$route", "$sendfile_type", "", {"content": "X-Accel-Redirect"} if settings.files_dir else {})


def limit_zones(settings: GatewaySettings) -> str:
    """Shared memory of the limits. A limit that is off counts nobody: requests with an empty key are not limited."""
    rates = {"general": settings.rate_general, "auth": settings.rate_auth, "upload": settings.rate_upload}
    text = ""
    for zone, rate in rates.items():
        text += _map("", f"${zone}_limit_key", "$client_network" if rate else "")
        text += _file([f"limit_req_zone ${zone}_limit_key zone={zone}:10m rate={rate or 1}r/s;"])
    return text + _file(["limit_conn_zone $general_limit_key zone=connections:10m;"])


def limit(zone: str, rate: int) -> str:
    """One location's use of a zone: up to twice the rate at once, refused beyond that and never queued."""
    return _file([f"limit_req zone={zone} burst={max(1, 2 * rate)} nodelay;"])


def upload_size(settings: GatewaySettings) -> str:
    """The largest upload, with room for the multipart frame around the file; the service measures the file itself."""
    return _file([f"client_max_body_size {settings.max_upload_bytes + MULTIPART_ROOM};"])


def upstreams(settings: GatewaySettings, catalog: Catalog, servers: Servers) -> str:
    """The pools of servers, and which paths lead to which pool."""
    lines = []
    if settings.resolver:
        resolver = f"[{settings.resolver}]" if ":" in settings.resolver else settings.resolver
        # Replicas come and go within seconds, so their addresses are asked for again every second.
        lines.append(f"resolver {resolver} valid=1s ipv6=off;")
    for name in catalog:
        pool = pool_name(name)
        lines += _upstream(pool, servers[name], EJECTION, ["include static/snippets/upstream.conf;"])
        lines += _upstream(f"probe_{pool}", servers[name], "max_fails=0", [])
    text = _file(lines)
    text += _map("$uri", "$service_pool", "", _paths(catalog))
    return text + _map("", "$service_pools", " ".join(pool_name(name) for name in catalog))


def pool_name(service: str) -> str:
    """The upstream that holds a service's servers."""
    return f"{service}_v1"


def _paths(catalog: Catalog) -> dict[str, str]:
    paths = {}
    for entry in catalog.values():
        paths[f"~^/api/v1/{entry.prefix}(?:/|$)"] = pool_name(entry.name)
        paths |= {path: pool_name(entry.name) for path in entry.well_known}
    return paths


def _upstream(name: str, servers: Sequence[str], ejection: str, common: Sequence[str]) -> list[str]:
    # The zone shares failures and addresses between workers; `resolve` requires one.
    inner = [f"zone {name} 256k;", *common]
    inner += [f"server {server} {ejection}{' resolve' if needs_resolver(server) else ''};" for server in servers]
    return [f"upstream {name} {{", *(f"    {line}" for line in inner), "}"]


def needs_resolver(server: str) -> bool:
    """Whether the server (host:port) is a DNS name, whose addresses may change while NGINX runs."""
    host = server.rpartition(":")[0].strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _map(source: str, target: str, default: str, rows: Mapping[str, str] | None = None) -> str:
    lines = [f"    {_quote(key)} {_quote(value)};" for key, value in (rows or {}).items()]
    return _file([f"map {_quote(source)} {target} {{", *lines, f"    default {_quote(default)};", "}"])


def _quote(value: str) -> str:
    return f'"{value}"'


def _file(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
