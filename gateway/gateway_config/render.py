"""Writes the directory that NGINX runs in: links to the static files, and the rendered files.

<target>/nginx.conf      link to the static entry point
<target>/static          link to the static files
<target>/swagger-ui      link to Swagger UI's files, which /docs loads
<target>/rendered/       files that depend on settings and servers
<target>/temp/           buffered bodies
<target>/nginx.pid, access.log   written by NGINX
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway_config import blocks, pools
from gateway_config.pools import Canaries, Catalog, Servers
from gateway_config.settings import GatewaySettings
from opskit.atomic_file import write_atomically
from opskit.swagger_ui import swagger_ui_folder

STATIC_FILES = Path(__file__).resolve().parents[1] / "nginx"

_SERVICE = re.compile(r"[a-z][a-z0-9_]*")
_PREFIX = re.compile(r"[a-z][a-z0-9-]*")
_WELL_KNOWN = re.compile(r"/\.well-known/[A-Za-z0-9._/-]+")
_SERVER = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


class RenderError(ValueError):
    """A service or server cannot be rendered; the message says which and why."""


def render(
    settings: GatewaySettings,
    catalog: Catalog,
    servers: Servers,
    target: Path,
    *,
    canaries: Canaries | None = None,
    static_files: Path = STATIC_FILES,
    swagger_ui: Path | None = None,
) -> None:
    """Write the configuration into `target`, which is created if it is missing.

    `servers` maps each service of the catalog to its `host:port` list. A DNS name stands for all its addresses and
    needs `settings.resolver`. `canaries` holds the services that are being released. `swagger_ui` is the folder of
    Swagger UI's files, by default the installed package's. Each file is replaced atomically, so a gateway that runs on
    `target` may reload afterwards.

    Raises `RenderError` for a service without servers, servers of an unknown service, an invalid name or an invalid
    weight.
    """
    files = rendered_files(settings, catalog, servers, canaries)
    for folder in ("rendered/http", "rendered/limits", "temp"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        # NGINX may run as another user than the renderer, and the files hold no secret. Each start renders them again.
        write_atomically(target / "rendered" / name, text, mode=0o644, durable=False)
    _link(target / "static", static_files)
    _link(target / "swagger-ui", swagger_ui or swagger_ui_folder())
    _link(target / "nginx.conf", Path("static") / "nginx.conf")


def rendered_files(
    settings: GatewaySettings, catalog: Catalog, servers: Servers, canaries: Canaries | None = None
) -> Mapping[str, str]:
    """Return the text of each rendered file by its name below `rendered/`. Raises `RenderError` as `render` does."""
    canaries = canaries or {}
    _check(settings, catalog, servers, canaries)
    return {
        "main.conf": blocks.main(settings),
        "listen.conf": blocks.listen(settings),
        "trusted_proxies.conf": blocks.trusted_proxies(settings),
        "http/access_log.conf": blocks.access_log(settings),
        "http/cors.conf": blocks.cors(settings),
        "http/direct_listeners.conf": blocks.direct_listeners(settings, catalog),
        "files.conf": blocks.files(settings),
        "frontend.conf": blocks.frontend(settings),
        "console.conf": blocks.console(settings),
        "http/content_policy.conf": blocks.content_policy(settings),
        "http/file_sending.conf": blocks.file_sending(settings),
        "http/upload_limit.conf": blocks.upload_limit(settings),
        "telemetry.conf": blocks.telemetry(settings),
        "http/telemetry.conf": blocks.telemetry_constants(settings),
        "http/metrics_listener.conf": blocks.metrics_listener(settings),
        "http/limit_zones.conf": blocks.limit_zones(settings),
        "http/tokens.conf": blocks.tokens(settings, catalog, servers, canaries),
        "http/tracing.conf": blocks.tracing(settings),
        "http/upstreams.conf": pools.upstreams(settings, catalog, servers, canaries),
        "limits/general.conf": blocks.limit(settings, "general", settings.rate_general),
        "limits/console.conf": blocks.limit(settings, "console", settings.rate_general),
        "limits/auth.conf": blocks.limit(settings, "auth", settings.rate_auth),
        "limits/upload.conf": blocks.limit(settings, "upload", settings.rate_upload),
        "limits/concurrent_uploads.conf": blocks.concurrent_uploads(settings),
        "limits/upload_size.conf": blocks.upload_size(settings),
    }


def _check(settings: GatewaySettings, catalog: Catalog, servers: Servers, canaries: Canaries) -> None:
    if unknown := sorted({*servers, *canaries} - set(catalog)):
        raise RenderError(f"servers are given for {', '.join(unknown)}, which the service list does not name")
    for entry in catalog.values():
        if not _SERVICE.fullmatch(entry.name) or not _PREFIX.fullmatch(entry.prefix):
            raise RenderError(
                f"service {entry.name!r} with prefix {entry.prefix!r} cannot be routed: letters and digits only"
            )
        for path in entry.well_known:
            if not _WELL_KNOWN.fullmatch(path):
                raise RenderError(f"service {entry.name}: {path!r} is not a path below /.well-known/")
        _check_servers(settings, f"service {entry.name}", servers.get(entry.name, ()))
    if settings.console_url:
        _check_servers(settings, "the console", [pools.console_server(settings)])
    for name, canary in canaries.items():
        _check_servers(settings, f"the canary of {name}", canary.servers)
        if canary.weight not in range(101):
            raise RenderError(f"the canary of {name} cannot get {canary.weight} of a hundred requests")


def _check_servers(settings: GatewaySettings, whose: str, servers: Sequence[str]) -> None:
    if not servers:
        raise RenderError(f"{whose} has no server")
    for server in servers:
        if not _SERVER.fullmatch(server):
            raise RenderError(f"{whose}: {server!r} is not host:port")
        if pools.needs_resolver(server) and not settings.resolver:
            raise RenderError(f"{whose}: {server} is a DNS name, which needs GATEWAY_RESOLVER")


def _link(path: Path, destination: Path) -> None:
    if path.is_symlink() and path.readlink() == destination:
        return
    temporary = path.with_name(f".{path.name}.link")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(destination)
    temporary.replace(path)
