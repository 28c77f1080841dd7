"""The text of each rendered file: pure functions from settings and servers to NGINX configuration.

Only what differs between installations is rendered. Everything else is in the static files, with its reasons.
"""

from gateway_config.pools import Canaries, Catalog, Servers, stable_pool
from gateway_config.settings import GatewaySettings
from gateway_config.syntax import address_of, map_block, text_of
from opskit.catalog import JWKS_PATH

# A multipart upload adds boundaries, part headers and a closing line to the file itself.
MULTIPART_OVERHEAD = 64 * 1024
# Of one address at once.
CONCURRENT_REQUESTS = 256


def main(settings: GatewaySettings) -> str:
    """Return the modules that this NGINX needs to load, and the workers' user if the master is root."""
    lines = [f'load_module "{module}";' for module in settings.modules]
    if settings.worker_user:
        lines.append(f"user {settings.worker_user};")
    return text_of(lines)


def listen(settings: GatewaySettings) -> str:
    """Return address and port and, if a certificate is configured, TLS with HTTP/2."""
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
    """Return a plain listener for each service, on its port of the service list, that forwards everything to it."""
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
    """Return where the access log goes; a file is written in blocks, a second late at most."""
    # A device such as /dev/stdout is read live.
    buffer = "" if settings.access_log.startswith("/dev/") else " buffer=32k flush=1s"
    log = f'access_log "{settings.access_log}" requests{buffer}'
    if not settings.metrics_port and not settings.console_url:
        return text_of([f"{log};"])
    # The script runs when NGINX asks whether to write the line; there is no other place for it after the response.
    script = "telemetry" if settings.console_url else "metrics"
    return text_of([f"js_import {script} from {script}.js;", f"js_set $counted {script}.count;", f"{log} if=$counted;"])


def metrics_listener(settings: GatewaySettings) -> str:
    """Return the listener of the inner port, which has nothing but the metrics."""
    if not settings.metrics_port:
        return ""
    return text_of(
        [
            "server {",
            f"    listen {address_of(settings.bind)}:{settings.metrics_port};",
            "    access_log off;",
            "    location = /metrics { js_import families from families.js; js_content families.report; }",
            "    location / { return 404; }",
            "}",
        ]
    )


def trusted_proxies(settings: GatewaySettings) -> str:
    """Return the peers whose X-Forwarded-For is trusted."""
    return text_of(f"set_real_ip_from {network};" for network in settings.trusted_proxies)


def cors(settings: GatewaySettings) -> str:
    """Return the allow-list as a map from the Origin header to the allowed origin, or to nothing."""
    return map_block("$http_origin", "$cors_origin", "", {origin: origin for origin in settings.cors_allowed_origins})


def tokens(settings: GatewaySettings, catalog: Catalog, servers: Servers, canaries: Canaries) -> str:
    """Return what the edge script needs: the issuer and audience that it accepts, and where the public keys are."""
    owners = [entry.name for entry in catalog.values() if entry.issues_tokens]
    sources = [server for owner in owners for server in servers[owner]]
    # Stable servers are asked first; the canary's serve the keys if no stable one can be reached.
    sources += [server for owner in owners if owner in canaries for server in canaries[owner].servers]
    urls = [f"http://{server}{JWKS_PATH}" for server in sources]
    constants = {
        "$token_issuer": settings.token_issuer,
        "$token_audience": settings.token_audience,
        "$jwks_urls": " ".join(urls),
    }
    return "".join(map_block("", variable, value) for variable, value in constants.items())


def tracing(settings: GatewaySettings) -> str:
    """Return which requests are recorded. NGINX's own id decides: a client could choose one that is drawn."""
    spans = map_block("", "$gateway_spans", "own " if settings.console_url else "")
    if settings.limits_traces:
        return spans + text_of(["js_set $trace_flags telemetry.draw;"])
    return spans + _drawn(round(settings.traced_share * 100, 2))


def _drawn(percent: float) -> str:
    if percent in (0, 100):
        return map_block("", "$trace_flags", "01" if percent else "00")
    return text_of(['split_clients "$request_id" $trace_flags {', f"    {percent:g}% 01;", "    * 00;", "}"])


def telemetry(settings: GatewaySettings) -> str:
    """Return the location that sends to the console; it handles no requests."""
    if not settings.console_url:
        return ""
    return text_of(
        [
            "location @telemetry {",
            "    js_import sender from sender.js;",
            "    js_periodic sender.send interval=2s;",
            "}",
        ]
    )


def telemetry_constants(settings: GatewaySettings) -> str:
    """Return where the console is, and the name under which it knows this gateway."""
    instance = settings.instance or "$hostname"
    return map_block("", "$console_url", settings.console_url) + map_block("", "$telemetry_instance", instance)


def files(settings: GatewaySettings) -> str:
    """Return the folder from which the gateway sends files; without one, their location answers 404."""
    return text_of([f'alias "{settings.files_dir.rstrip("/")}/";' if settings.files_dir else "return 404;"])


def file_sending(settings: GatewaySettings) -> str:
    """Return the route that tells its service by X-Sendfile-Type that the gateway can send files."""
    return map_block("$route", "$sendfile_type", "", {"content": "X-Accel-Redirect"} if settings.files_dir else {})


def frontend(settings: GatewaySettings) -> str:
    """Return what stands at `/`: the files of a frontend, or a page of the gateway and 404 for all other paths."""
    if not settings.static_dir:
        home, unknown = "include static/snippets/home.conf;", "include static/snippets/unknown.conf;"
        return text_of([f"location = / {{ {home} }}", f"location / {{ {unknown} }}"])
    folder = settings.static_dir.rstrip("/")
    return text_of(["location / {", f'    root "{folder}";', "    include static/snippets/frontend.conf;", "}"])


def console(settings: GatewaySettings) -> str:
    """Return the location of the console; without one, it answers 404, also where a frontend has such a path."""
    snippet = "console" if settings.console_url else "unknown"
    paths = ("= /console", "/console/")
    return text_of(f"location {path} {{ include static/snippets/{snippet}.conf; }}" for path in paths)


def content_policy(settings: GatewaySettings) -> str:
    """Return the Content-Security-Policy of the gateway's own responses: that of the frontend in its folder."""
    folders = {settings.static_dir.rstrip("/"): settings.static_csp} if settings.static_dir else {}
    return map_block("$document_root", "$own_content_policy", "$gateway_content_policy", folders)


def limit_zones(settings: GatewaySettings) -> str:
    """Return the zones that count requests. A limit that is off has an empty key, which NGINX does not count."""
    rates = {"general": settings.rate_general, "auth": settings.rate_auth, "upload": settings.rate_upload}
    # The page asks often, and neither it nor clients of the API should wait for the other.
    rates["console"] = settings.rate_general
    text = ""
    for zone, rate in rates.items():
        text += map_block("", f"${zone}_limit_key", "$client_network" if rate else "")
        text += text_of([f"limit_req_zone ${zone}_limit_key zone={zone}:10m rate={_share(settings, rate or 1)};"])
    zones = {"connections": "$general_limit_key", "uploads": "$upload_limit_key"}
    text += text_of(f"limit_conn_zone {key} zone={zone}:10m;" for zone, key in zones.items())
    return text + text_of([_concurrent_requests(settings)])


def _concurrent_requests(settings: GatewaySettings) -> str:
    return f"limit_conn connections {max(1, CONCURRENT_REQUESTS // settings.gateways)};"


def _share(settings: GatewaySettings, rate: int) -> str:
    """Return this gateway's share of a rate per second, in NGINX's finest unit."""
    if settings.gateways == 1:
        return f"{rate}r/s"
    return f"{max(1, 60 * rate // settings.gateways)}r/m"


def limit(settings: GatewaySettings, zone: str, rate: int) -> str:
    """Return a location's use of a zone: a burst of twice the rate passes; more is refused and not queued."""
    return text_of([f"limit_req zone={zone} burst={max(1, 2 * rate // settings.gateways)} nodelay;"])


def concurrent_uploads(settings: GatewaySettings) -> str:
    """Return how many uploads an address may have in progress: as many as its rate lets through at once.

    Each may occupy the disk with `max_upload_bytes` for as long as its client takes.
    """
    # A limit_conn of a location drops the inherited one.
    uploads = 1 + 2 * settings.rate_upload // settings.gateways
    return text_of([f"limit_conn uploads {uploads};", _concurrent_requests(settings)])


def upload_size(settings: GatewaySettings) -> str:
    """Return the largest upload, including the multipart overhead; the service measures the file itself."""
    return text_of([f"client_max_body_size {settings.max_upload_bytes + MULTIPART_OVERHEAD};"])


def upload_limit(settings: GatewaySettings) -> str:
    """Return the largest file, for the error that names it."""
    return map_block("", "$upload_limit_bytes", str(settings.max_upload_bytes))
