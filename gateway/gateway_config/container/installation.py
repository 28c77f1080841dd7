"""What a gateway's container is made of: its directories, its servers' names, its settings."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway_config.pools import Candidate, Catalog
from gateway_config.render import render
from gateway_config.settings import GatewaySettings
from opskit.catalog import read_catalog

CERTIFICATE, KEY = "certificate.pem", "key.pem"


class InstallationError(ValueError):
    """What is mounted into the container cannot be used; the message says what."""


@dataclass(frozen=True, slots=True)
class Installation:
    """The paths and names that the image and the compose files agree on.

    `target` is writable and outlives the container. A service's name stands for all its replicas, and its candidate's
    name for those of the version that a release brings.
    """

    target: Path = Path("/run/gateway")
    tls: Path = Path("/etc/gateway/tls")
    swagger_ui: Path = Path("/opt/gateway/swagger-ui")
    nginx: str = "nginx"
    stable_server: str = "{service}:8000"
    candidate_server: str = "{service}-v2:8000"
    catalog: Catalog = field(default_factory=read_catalog)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def release_file(self) -> Path:
        """The state of releases (release_state.py)."""
        return self.target / "release.json"

    def settings(self) -> GatewaySettings:
        """Return the environment's settings, with TLS when a certificate is mounted.

        Raises `SettingError` or `InstallationError`, both a `ValueError`.
        """
        settings = GatewaySettings.from_environ(self.environ)
        if settings.tls_certificate or not self._has_certificate():
            return settings
        return replace(settings, tls_certificate=str(self.tls / CERTIFICATE), tls_certificate_key=str(self.tls / KEY))

    def render(self, weights: Mapping[str, int]) -> None:
        """Write NGINX's configuration while these services are released with these weights. Raises `ValueError`."""
        render(
            self.settings(),
            self.catalog,
            {name: [self.stable_server.format(service=name)] for name in self.catalog},
            self.target,
            candidates={name: Candidate([self.candidate_of(name)], weight) for name, weight in weights.items()},
            swagger_ui=self.swagger_ui,
        )

    def candidate_of(self, service: str) -> str:
        """Return the host:port of all servers of a service's next version."""
        return self.candidate_server.format(service=service)

    def _has_certificate(self) -> bool:
        try:
            there = {path.name for path in self.tls.iterdir()}
            found = [name for name in (CERTIFICATE, KEY) if name in there]
            for name in found:
                (self.tls / name).read_bytes()
        except FileNotFoundError:
            return False
        except OSError as error:
            # Without a certificate the port would speak plain HTTP, which nobody wants who mounted one.
            raise InstallationError(f"the certificate cannot be read: {error}") from error
        if len(found) == 1:
            missing = KEY if found == [CERTIFICATE] else CERTIFICATE
            raise InstallationError(f"{self.tls} holds {found[0]} and no {missing}")
        return bool(found)
