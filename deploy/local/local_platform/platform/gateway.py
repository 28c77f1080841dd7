"""The gateway's process: NGINX with a configuration that is rendered for the ports of this start."""

import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path

from gateway_config.commands import start_command
from gateway_config.render import render
from gateway_config.settings import GatewaySettings
from local_platform.binaries import NGINX
from local_platform.environment import known_variables
from local_platform.errors import InvalidOption
from local_platform.layout import GATEWAY, Layout
from local_platform.secret_files import withdraw_rights
from local_platform.supervision.managed_process import ProcessSpec
from local_platform.supervision.ports import HOST
from local_platform.supervision.probes import NotReady, Probe, http_get, json_body
from local_platform.supervision.process import Command
from opskit.catalog import ServiceEntry
from opskit.rotated_file import rotate

# A file system in memory, on Linux.
MEMORY = Path("/dev/shm")  # nosec B108
_CACHE_PREFIX = "gateway-cache-"
# Requests in flight may finish, but a slow upload must not delay the stop for ever.
STOP_SECONDS = 15.0


class Gateway:
    """Describes the gateway's process. Raises InvalidOption for a setting that the gateway cannot use."""

    def __init__(
        self,
        layout: Layout,
        port: int,
        metrics_port: int,
        catalog: Mapping[str, ServiceEntry],
        ports: Mapping[str, Mapping[str, int]],
        settings: Mapping[str, str],
    ) -> None:
        self._layout = layout
        self._binary = NGINX.find()
        self._catalog = catalog
        self._target = layout.gateway
        self._servers = {
            service: [f"{HOST}:{number}" for number in replicas.values()] for service, replicas in ports.items()
        }
        self.url = f"http://{HOST}:{port}"
        self.metrics_url = f"http://{HOST}:{metrics_port}/metrics"
        try:
            self._settings = GatewaySettings.from_environ(
                {**known_variables(), **settings, **_own_settings(port, metrics_port), **_files(catalog), **_frontend()}
            )
        except ValueError as error:
            raise InvalidOption(str(error)) from error

    def process_spec(self) -> ProcessSpec:
        """Render the configuration and return the process that runs on it."""
        render(self._settings, self._catalog, self._servers, self._target)
        for rendered in self._target.glob("rendered/**/*"):
            withdraw_rights(rendered)
        withdraw_rights(self._target / "rendered")
        withdraw_rights(self._target / "temp")
        self._move_cache_to_memory()
        return ProcessSpec(
            name=GATEWAY,
            service=GATEWAY,
            url=self.url,
            command=Command(
                # It runs in this directory. In a longer prefix NGINX would take a `$` for a variable.
                argv=start_command(self._binary, Path()),
                directory=self._target,
                log=self._layout.log(GATEWAY),
            ),
            probe=_alive(f"{self.url}/gateway-health"),
            stop_signal=signal.SIGQUIT,
            stop_seconds=STOP_SECONDS,
            before_start=self.rotate_access_log,
        )

    def remove_cache(self) -> None:
        """Remove the copies of public responses from the memory."""
        cache = self._cache
        if cache.is_symlink():
            found = cache.readlink()
            # The link may be old: a file system in memory is shared with other users.
            if found.parent == MEMORY and found.name.startswith(_CACHE_PREFIX) and _is_own(found):
                shutil.rmtree(found, ignore_errors=True)
            cache.unlink()

    @property
    def _cache(self) -> Path:
        return self._target / "temp" / "cache"

    def _move_cache_to_memory(self) -> None:
        """Link the cache's folder into memory: NGINX breaks off a response whose copy finds no room on the disk."""
        self.remove_cache()
        if os.access(MEMORY, os.W_OK):
            shutil.rmtree(self._cache, ignore_errors=True)
            self._cache.symlink_to(tempfile.mkdtemp(prefix=_CACHE_PREFIX, dir=MEMORY))

    async def all_services_reachable(self) -> None:
        """Raise NotReady unless the gateway reaches every service."""
        status, body = await http_get(f"{self.url}/lb-health")
        if status != 200:
            states = json_body(body).get("services") or {}
            down = [service for service, state in states.items() if state != "up"]
            raise NotReady(f"the gateway does not reach {', '.join(down) or 'the services'}")

    def rotate_access_log(self) -> bool:
        """Put a large access log aside; return whether it was. NGINX opens a new one at its start and on SIGUSR1."""
        path = Path(self._target, self._settings.access_log)
        # A setting may name a device, such as /dev/stdout.
        return path.is_relative_to(self._target) and rotate(path)


def _is_own(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def _own_settings(port: int, metrics_port: int) -> dict[str, str]:
    """Return the settings that the launcher decides, whatever the environment says."""
    return {
        "GATEWAY_BIND": HOST,
        "GATEWAY_PORT": str(port),
        "GATEWAY_METRICS_PORT": str(metrics_port),
        "LOG_NAME": GATEWAY,
        "GATEWAY_TLS_CERTIFICATE": "",
        "GATEWAY_TLS_CERTIFICATE_KEY": "",
        # By default, NGINX started by root gives its workers another user, who cannot reach every DATA_DIR.
        "GATEWAY_WORKER_USER": "root" if os.geteuid() == 0 else "",
    }


def _files(catalog: Mapping[str, ServiceEntry]) -> dict[str, str]:
    """Return the setting for the folder of published files, relative to the directory that NGINX runs in."""
    folders = [f"../{entry.name}/objects" for entry in catalog.values() if entry.keeps_files]
    return {"GATEWAY_FILES_DIR": folders[0] if folders else ""}


def _frontend() -> dict[str, str]:
    """Return the absolute folder of the frontend, if STATIC_DIR names one. Raises InvalidOption for another folder."""
    folder = known_variables().get("STATIC_DIR", "").strip()
    if not folder:
        return {}
    path = Path(folder).expanduser().resolve()
    if not (path / "index.html").is_file():
        raise InvalidOption(f"STATIC_DIR must be the folder of a built frontend: {path} has no index.html")
    return {"STATIC_DIR": str(path)}


def _alive(url: str) -> Probe:
    async def probe() -> str:
        status, _ = await http_get(url)
        if status != 200:
            raise NotReady(f"{url} returned {status}")
        return ""

    return probe
