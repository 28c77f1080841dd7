"""The gateway's process: NGINX on a configuration that is rendered for this start's ports."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from gateway_config.commands import start_command
from gateway_config.render import render
from gateway_config.settings import GatewaySettings
from local_platform.binaries import NGINX
from local_platform.errors import InvalidOption
from local_platform.layout import Layout
from local_platform.supervision.managed_process import ProcessSpec
from local_platform.supervision.ports import HOST
from local_platform.supervision.probes import NotReady, Probe, http_get, json_body
from local_platform.supervision.process import Command, rotate
from opskit.catalog import ServiceEntry

NAME = "gateway"
# Requests in flight may finish; a client that trickles its upload does not hold up the stop for ever.
STOP_SECONDS = 15.0


class Gateway:
    """Describes the gateway; the launcher runs it. Raises InvalidOption for a setting that it cannot use."""

    def __init__(
        self,
        layout: Layout,
        port: int,
        catalog: Mapping[str, ServiceEntry],
        ports: Mapping[str, Mapping[str, int]],
        settings: Mapping[str, str],
    ) -> None:
        self._layout = layout
        self._binary = NGINX.find()
        self._catalog = catalog
        self._target = layout.root / NAME
        self._servers = {
            service: [f"{HOST}:{number}" for number in replicas.values()] for service, replicas in ports.items()
        }
        self.url = f"http://{HOST}:{port}"
        try:
            self._settings = GatewaySettings.from_environ(
                {**os.environ, **settings, **_own_settings(port), **_files(catalog)}
            )
        except ValueError as error:
            raise InvalidOption(str(error)) from error

    def process_spec(self) -> ProcessSpec:
        """Render the configuration and return the process that runs on it."""
        render(self._settings, self._catalog, self._servers, self._target)
        return ProcessSpec(
            name=NAME,
            service=NAME,
            url=self.url,
            command=Command(
                argv=start_command(self._binary, self._target),
                directory=self._target,
                log=self._layout.log(NAME),
            ),
            probe=_alive(f"{self.url}/gateway-health"),
            stop_signal=signal.SIGQUIT,
            stop_seconds=STOP_SECONDS,
            before_start=self._rotate_access_log,
        )

    async def all_services_reachable(self) -> None:
        """Raise NotReady unless the gateway reaches every service."""
        status, body = await http_get(f"{self.url}/lb-health")
        if status != 200:
            states = json_body(body).get("services") or {}
            away = [service for service, state in states.items() if state != "up"]
            raise NotReady(f"the gateway does not reach {', '.join(away) or 'the services'}")

    def _rotate_access_log(self) -> None:
        rotate(Path(self._target, self._settings.access_log))


def _own_settings(port: int) -> dict[str, str]:
    """Return what the launcher decides, whatever the environment says."""
    return {
        "GATEWAY_BIND": HOST,
        "GATEWAY_PORT": str(port),
        "GATEWAY_TLS_CERTIFICATE": "",
        "GATEWAY_TLS_CERTIFICATE_KEY": "",
        # NGINX would give its workers another user than root, who cannot pass through to every DATA_DIR.
        "GATEWAY_WORKER_USER": "root" if os.geteuid() == 0 else "",
    }


def _files(catalog: Mapping[str, ServiceEntry]) -> dict[str, str]:
    """Return where published files are, seen from the directory that NGINX runs in."""
    folders = [f"../{entry.name}/objects" for entry in catalog.values() if entry.keeps_files]
    return {"GATEWAY_FILES_DIR": folders[0] if folders else ""}


def _alive(url: str) -> Probe:
    async def probe() -> str:
        status, _ = await http_get(url)
        if status != 200:
            raise NotReady(f"{url} answers {status}")
        return ""

    return probe
