"""The text of each rendered file: pure functions from settings and servers to NGINX configuration.

What can be said once for every installation stands in the static files, with its reasons; here is only what differs.
"""

from gateway_config.pools import Candidates, Catalog, Servers, stable_pool
from gateway_config.settings import GatewaySettings
from gateway_config.syntax import address_of, map_block, text_of

JWKS_PATH = "/.well-known/jwks.json"

# Boundaries, part headers and the closing line of a multipart upload come on top of the file itself.
MULTIPART_ROOM = 64 * 1024


def main(settings: GatewaySettings) -> str:
    """Modules that this NGINX needs to load, and the workers' user when the master is root."""
    lines = [f'load_module "{module}";' for module in settings.modules]
    if settings.worker_user:
        lines.append(f"user {settings.worker_user};")
    return text_of(lines)


def listen(settings: GatewaySettings) -> str:
    """Address, port and, when a certificate is configured, TLS with HTTP/2."""
    address = address_of(settings.bind)
    if not settings.tls_certificate:
        return text_of([f"listen {address}:{settings.port};"])
    return text_of(
        [
            f"listen {address}:{settings.port} ssl;",
            "http2 on;",
            f'ssl_certificate "{settings.tls_certificate}";',
            f'ssl_certificate_key "{settings.tls_certificate_key}";',
        ]
    )


def direct_listeners(settings: GatewaySettings, catalog: Catalog) -> str:
    """Plain listeners that hand everything to one service each, on the ports of the service list."""
    lines = []
    for entry in catalog.values() if settings.direct_ports else ():
        lines += [
            "server {",
            f"    listen {address_of(settings.bind)}:{entry.development_port};",
            "    include static/snippets/direct.conf;",
            f"    location / {{ proxy_pass http://{stable_pool(entry.name)}; }}",
            "}",
        ]
    return text_of(lines)


def access_log(settings: GatewaySettings) -> str:
    """Where the access log goes; a file is written in blocks, at most a second late."""
    # A device such as /dev/stdout is somebody's live view.
    buffer = "" if settings.access_log.startswith("/dev/") else " buffer=32k flush=1s"
    return text_of([f'access_log "{settings.access_log}" requests{buffer};'])


def trusted_proxies(settings: GatewaySettings) -> str:
    """Peers whose X-Forwarded-For is believed."""
    return text_of(f"set_real_ip_from {network};" for network in settings.trusted_proxies)


def cors(settings: GatewaySettings) -> str:
    """The allow-list of origins as a map from the Origin header to the origin that is allowed, or nothing."""
    return map_block("$http_origin", "$cors_origin", "", {origin: origin for origin in settings.cors_allowed_origins})


def tokens(settings: GatewaySettings, catalog: Catalog, servers: Servers, candidates: Candidates) -> str:
    """What the edge script must know: whose tokens it accepts and where their public keys are."""
    owners = [entry.name for entry in catalog.values() if JWKS_PATH in entry.well_known]
    sources = [server for owner in owners for server in servers[owner]]
    # Stable servers are asked first; the candidate's may be the last ones that are left.
    sources += [server for owner in owners if owner in candidates for server in candidates[owner].servers]
    urls = [f"http://{server}{JWKS_PATH}" for server in sources]
    constants = {
        "$token_issuer": settings.token_issuer,
        "$token_audience": settings.token_audience,
        "$jwks_urls": " ".join(urls),
    }
    return "".join(map_block("", variable, value) for variable, value in constants.items())


def tracing(settings: GatewaySettings) -> str:
    """Which requests are recorded. An id of NGINX's own decides, because a client could choose one that always wins."""
    percent = round(settings.traced_share * 100, 2)
    if percent in (0, 100):
        return map_block("", "$trace_flags", "01" if percent else "00")
    return text_of(['split_clients "$request_id" $trace_flags {', f"    {percent:g}% 01;", "    * 00;", "}"])


def files(settings: GatewaySettings) -> str:
    """The folder of the location that sends files for a service."""
    # Without one there is nothing to send, and no service is told that it could be.
    return text_of([f'alias "{settings.files_dir.rstrip("/")}/";' if settings.files_dir else "return 404;"])


def file_sending(settings: GatewaySettings) -> str:
    """By which header which rule set tells its service that files can be sent for it."""
    return map_block("$route", "$sendfile_type", "", {"content": "X-Accel-Redirect"} if settings.files_dir else {})


def limit_zones(settings: GatewaySettings) -> str:
    """Shared memory of the limits. A limit that is off counts nobody: requests with an empty key are not limited."""
    rates = {"general": settings.rate_general, "auth": settings.rate_auth, "upload": settings.rate_upload}
    text = ""
    for zone, rate in rates.items():
        text += map_block("", f"${zone}_limit_key", "$client_network" if rate else "")
        text += text_of([f"limit_req_zone ${zone}_limit_key zone={zone}:10m rate={rate or 1}r/s;"])
    return text + text_of(["limit_conn_zone $general_limit_key zone=connections:10m;"])


def limit(zone: str, rate: int) -> str:
    """One location's use of a zone: up to twice the rate at once, refused beyond that and never queued."""
    return text_of([f"limit_req zone={zone} burst={max(1, 2 * rate)} nodelay;"])


def upload_size(settings: GatewaySettings) -> str:
    """The largest upload, with room for the multipart frame around the file; the service measures the file itself."""
    return text_of([f"client_max_body_size {settings.max_upload_bytes + MULTIPART_ROOM};"])
