"""The gateway's part in a release: how much of a service's traffic goes to its new version, and what came of it."""

import json
import time
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from release_tool.compose import Stack
from release_tool.errors import CommandFailed, StepFailed

GATEWAY = "gateway"
# How long an address that left the DNS may still be used: the gateway and the services ask again after a second.
STALE_SECONDS = 3.0
# A worker of the gateway that has been replaced finishes its requests first. Longer ones than this are few, and the
# service that they are with finishes them, too, before it stops.
OLD_WORKERS_SECONDS = 30.0
POLL_SECONDS = 0.3

_TLS_DIRECTORY = "/etc/gateway/tls"


class Traffic:
    """The command `traffic` in the gateway's container."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def weights(self) -> Mapping[str, int]:
        """Return the per cent of each service in release that its new version gets."""
        state = json.loads(self._stack.execute(GATEWAY, "traffic") or "{}")
        return {service: int(entry["weight"]) for service, entry in state.items()}

    def shift(self, service: str, weight: int) -> None:
        """Give the new version a share, in per cent; returns when no worker of the gateway goes by the old one."""
        self._stack.execute(GATEWAY, "traffic", service, str(weight))
        self._settle()

    def end(self, service: str) -> None:
        """Give all traffic to the version in service; returns when the gateway does not know another one any more."""
        if service in self.weights():
            self._stack.execute(GATEWAY, "traffic", service, "off")
        self._settle()

    def check(self, service: str) -> None:
        """Let the gateway try every replica of the new version. Raises `StepFailed`."""
        try:
            self._stack.execute(GATEWAY, "traffic", "check", service)
        except CommandFailed as error:
            raise StepFailed(f"the gateway's check of the new version failed: {error}") from error

    def log(self, since: float, until: float | None = None) -> list[str]:
        """Return the lines of the access log of a time, given in seconds since the epoch."""
        bounds = ["--since", f"{since:.3f}", *(["--until", f"{until:.3f}"] if until else [])]
        return self._stack.docker("logs", *bounds, self._stack.only(GATEWAY).id).splitlines()

    def _settle(self) -> None:
        gateway = self._stack.only(GATEWAY).id
        end = time.monotonic() + OLD_WORKERS_SECONDS
        while "shutting down" in self._stack.docker("top", gateway):
            if time.monotonic() > end:
                return
            time.sleep(POLL_SECONDS)


def address(stack: Stack) -> str:
    """Return the gateway's URL, as this host reaches it."""
    gateway = stack.configuration["services"][GATEWAY]
    port = gateway["ports"][0]
    host = port.get("host_ip")
    if not host or ip_address(host).is_unspecified:
        host = "127.0.0.1"
    tls = [volume["source"] for volume in gateway.get("volumes", ()) if volume["target"] == _TLS_DIRECTORY]
    scheme = "https" if any(Path(source, "certificate.pem").exists() for source in tls) else "http"
    return f"{scheme}://{host}:{port['published']}"
