"""`python3 -m gateway_config.container.follower`: keep a gateway in step with the others of a cluster.

It runs beside NGINX in the same pod, and has NGINX reload when one of these changes:

- the mounted state of releases; a gateway that was unreachable during a change gets it so
- the number of gateways, the addresses of the name GATEWAY_PEERS, among which the limits are divided
- the mounted certificate
"""

import socket
import sys
import time
from pathlib import Path

from gateway_config.container.installation import CERTIFICATE, KEY, Installation
from gateway_config.container.nginx import ReloadFailed
from gateway_config.container.traffic import ChangeFailed, apply_state, share_limits

FOLLOW_SECONDS = 2.0


class Follower:
    """What was seen last, and what to do when it changes."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._peers = installation.environ.get("GATEWAY_PEERS", "")
        self._certificate = self._certificate_now()

    def follow(self) -> None:
        """Apply what has changed. Raises `ValueError`, OSError, `ChangeFailed` or `ReloadFailed`; try again then."""
        installation = self._installation
        mounted = installation.mounted_state()
        if mounted and mounted[0] > installation.read_number(installation.serial_file):
            _say(f"the state of releases is now {dict(apply_state(installation, *mounted))}")
        gateways = self._count()
        certificate = self._certificate_now()
        if gateways != (installation.read_number(installation.gateways_file) or 1) or certificate != self._certificate:
            share_limits(installation, gateways)
            self._certificate = certificate
            _say(f"limits are divided among {gateways}")

    def _count(self) -> int:
        """Return the number of gateways; that of the last time while the name does not resolve."""
        known = self._installation.read_number(self._installation.gateways_file) or 1
        if not self._peers:
            return known
        try:
            return len({entry[4][0] for entry in socket.getaddrinfo(self._peers, None, type=socket.SOCK_STREAM)})
        except OSError:
            return known

    def _certificate_now(self) -> tuple[bytes, ...]:
        return tuple(_content(self._installation.tls / name) for name in (CERTIFICATE, KEY))


def main() -> int:
    """Follow until the container is stopped."""
    follower = Follower(Installation())
    while True:
        try:
            follower.follow()
        except (ValueError, OSError, ChangeFailed, ReloadFailed) as error:
            _say(f"not applied yet: {error}")
        time.sleep(FOLLOW_SECONDS)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _say(text: str) -> None:
    print(f"follower: {text}", file=sys.stderr, flush=True)  # noqa: T201 - this is the container's log


if __name__ == "__main__":
    sys.exit(main())
