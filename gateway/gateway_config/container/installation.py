"""The container's paths, names and settings, and the weights of running releases."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway_config.pools import Canary, Catalog
from gateway_config.render import render
from gateway_config.settings import GatewaySettings
from opskit.atomic_file import write_atomically
from opskit.catalog import read_catalog

CERTIFICATE, KEY = "certificate.pem", "key.pem"


class InstallationError(ValueError):
    """A mounted file cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Installation:
    """The paths and names that the image and the compose files agree on.

    `target` is writable and outlives the container. A service's name resolves to all its replicas, and its canary's
    name to the replicas of the version that is being released.
    """

    target: Path = Path("/run/gateway")
    tls: Path = Path("/etc/gateway/tls")
    swagger_ui: Path = Path("/opt/gateway/swagger-ui")
    nginx: str = "nginx"
    stable_server: str = "{service}:8000"
    canary_server: str = "{service}-v2:8000"
    catalog: Catalog = field(default_factory=read_catalog)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    # In a cluster: the mounted state of releases, and the resolver of all pods.
    traffic: Path = Path("/etc/gateway/traffic")
    resolv_conf: Path = Path("/etc/resolv.conf")

    @property
    def release_file(self) -> Path:
        """The file with the weights of running releases: `{"notes": {"weight": 25}}`."""
        return self.target / "release.json"

    @property
    def serial_file(self) -> Path:
        """The file with the serial number of the state that was applied last."""
        return self.target / "release.serial"

    @property
    def gateways_file(self) -> Path:
        """The file with the number of gateways that share the limits."""
        return self.target / "gateways"

    def settings(self) -> GatewaySettings:
        """Return the environment's settings, with TLS if a certificate is mounted, and this gateway's share.

        Raises `SettingError` or `InstallationError`, both of them a `ValueError`.
        """
        environ = dict(self.environ)
        if self._uses_system_resolver:
            environ["GATEWAY_RESOLVER"] = self._system_resolver()[0]
        settings = replace(GatewaySettings.from_environ(environ), gateways=self.read_number(self.gateways_file) or 1)
        if settings.console_url:
            scheme, _, server = settings.console_url.partition("//")
            settings = replace(settings, console_url=f"{scheme}//{self._qualified(server)}")
        if settings.tls_certificate or not self._has_certificate():
            return settings
        return replace(settings, tls_certificate=str(self.tls / CERTIFICATE), tls_certificate_key=str(self.tls / KEY))

    def render(self, weights: Mapping[str, int]) -> None:
        """Write NGINX's configuration with a canary of this weight for each service. Raises `ValueError`."""
        render(
            self.settings(),
            self.catalog,
            {name: [self._qualified(self.stable_server.format(service=name))] for name in self.catalog},
            self.target,
            canaries={name: Canary([self.canary_of(name)], weight) for name, weight in weights.items()},
            swagger_ui=self.swagger_ui,
        )

    def canary_of(self, service: str) -> str:
        """Return the host:port of a service's canary."""
        return self._qualified(self.canary_server.format(service=service))

    def read_weights(self) -> dict[str, int]:
        """Return the weight of each service that is being released. Raises `InstallationError`."""
        try:
            text = self.release_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        return parsed_weights(text, str(self.release_file))

    def write_weights(self, weights: Mapping[str, int]) -> None:
        """Replace the file of weights."""
        write_atomically(self.release_file, weights_json(weights) + "\n", mode=0o644)

    def mounted_state(self) -> tuple[int, dict[str, int]] | None:
        """Return serial number and weights of the mounted state of releases, or None. Raises `InstallationError`.

        The kubelet replaces both files together, and shows a change up to 90 s late.
        """
        folder = self.traffic.resolve() / "..data"
        folder = folder.resolve() if folder.exists() else self.traffic
        serial = self.read_number(folder / "serial")
        if not serial:
            return None
        try:
            return serial, parsed_weights((folder / "release.json").read_text(encoding="utf-8"), str(self.traffic))
        except OSError as error:
            raise InstallationError(f"{self.traffic} holds a serial number and no state: {error}") from error

    def adopt_mounted_state(self) -> None:
        """Take the mounted state over before the start, if it is newer. Raises `InstallationError`."""
        mounted = self.mounted_state()
        if mounted and mounted[0] > self.read_number(self.serial_file):
            self.write_weights(mounted[1])
            self.write_number(self.serial_file, mounted[0])

    def read_number(self, path: Path) -> int:
        """Return the number that a file holds, or 0."""
        try:
            return int(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return 0

    def write_number(self, path: Path, number: int) -> None:
        """Replace the file of a number."""
        write_atomically(path, f"{number}\n", mode=0o644)

    @property
    def _uses_system_resolver(self) -> bool:
        return self.environ.get("GATEWAY_RESOLVER", "").strip() == "system"

    def _system_resolver(self) -> tuple[str, str]:
        """Return the first name server of all programs, and the domain of names without one.

        NGINX reads no resolv.conf. Raises `InstallationError`.
        """
        server = domain = ""
        for line in self.resolv_conf.read_text(encoding="utf-8").splitlines():
            match line.split():
                case ["nameserver", address, *_] if not server:
                    server = address
                case ["search", first, *_]:
                    domain = first
        if not server:
            raise InstallationError(f"{self.resolv_conf} names no server")
        return server, domain

    def _qualified(self, server: str) -> str:
        """Return a server (host:port) with its domain, which NGINX does not add."""
        host, _, port = server.rpartition(":")
        if not self._uses_system_resolver or "." in host or ":" in host:
            return server
        domain = self._system_resolver()[1]
        return f"{host}.{domain}:{port}" if domain else server

    def _has_certificate(self) -> bool:
        try:
            names = {path.name for path in self.tls.iterdir()}
            found = [name for name in (CERTIFICATE, KEY) if name in names]
            for name in found:
                (self.tls / name).read_bytes()
        except FileNotFoundError:
            return False
        except OSError as error:
            # Without a certificate the port would speak plain HTTP, and the mount says that this is not wanted.
            raise InstallationError(f"the certificate cannot be read: {error}") from error
        if len(found) == 1:
            missing = KEY if found == [CERTIFICATE] else CERTIFICATE
            raise InstallationError(f"{self.tls} holds {found[0]} and no {missing}")
        return bool(found)


def parsed_weights(text: str, source: str) -> dict[str, int]:
    """Return the weights in a state of releases. Raises `InstallationError`, which names the source."""
    try:
        weights = {name: release["weight"] for name, release in json.loads(text or "{}").items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InstallationError(f"{source} is no state of releases; remove it to end them all") from error
    if wrong := [weight for weight in weights.values() if type(weight) is not int or weight not in range(101)]:
        raise InstallationError(f"{source} names the weight {wrong[0]!r}, and weights are whole numbers from 0 to 100")
    return weights


def weights_json(weights: Mapping[str, int]) -> str:
    """Return the weights as the file holds them and `traffic` prints them."""
    return json.dumps({name: {"weight": weight} for name, weight in weights.items()})
