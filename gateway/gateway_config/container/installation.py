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

    @property
    def release_file(self) -> Path:
        """The file with the weights of running releases: `{"notes": {"weight": 25}}`."""
        return self.target / "release.json"

    def settings(self) -> GatewaySettings:
        """Return the environment's settings, with TLS if a certificate is mounted.

        Raises `SettingError` or `InstallationError`, both of them a `ValueError`.
        """
        settings = GatewaySettings.from_environ(self.environ)
        if settings.tls_certificate or not self._has_certificate():
            return settings
        return replace(settings, tls_certificate=str(self.tls / CERTIFICATE), tls_certificate_key=str(self.tls / KEY))

    def render(self, weights: Mapping[str, int]) -> None:
        """Write NGINX's configuration with a canary of this weight for each service. Raises `ValueError`."""
        render(
            self.settings(),
            self.catalog,
            {name: [self.stable_server.format(service=name)] for name in self.catalog},
            self.target,
            canaries={name: Canary([self.canary_of(name)], weight) for name, weight in weights.items()},
            swagger_ui=self.swagger_ui,
        )

    def canary_of(self, service: str) -> str:
        """Return the host:port of a service's canary."""
        return self.canary_server.format(service=service)

    def read_weights(self) -> dict[str, int]:
        """Return the weight of each service that is being released. Raises `InstallationError`."""
        try:
            text = self.release_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        try:
            weights = {name: release["weight"] for name, release in json.loads(text or "{}").items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InstallationError(
                f"{self.release_file} is no state of releases; remove it to end them all"
            ) from error
        if wrong := [weight for weight in weights.values() if type(weight) is not int or weight not in range(101)]:
            raise InstallationError(
                f"{self.release_file} names the weight {wrong[0]!r}, and weights are whole numbers from 0 to 100"
            )
        return weights

    def write_weights(self, weights: Mapping[str, int]) -> None:
        """Replace the file of weights."""
        write_atomically(self.release_file, weights_json(weights) + "\n", mode=0o644)

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


def weights_json(weights: Mapping[str, int]) -> str:
    """Return the weights as the file holds them and `traffic` prints them."""
    return json.dumps({name: {"weight": weight} for name, weight in weights.items()})
