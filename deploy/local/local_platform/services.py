"""The platform's own services: their environment, their migration jobs, their gunicorn masters."""

import json
import os
import sys
from collections.abc import Mapping

from local_platform.child import ChildSpec
from local_platform.layout import REPOSITORY, Layout
from local_platform.ports import HOST, PortBook
from local_platform.probes import NotReady, Probe, http_get, json_body
from local_platform.process import Command
from local_platform.stores import StoreSet
from servicekit.catalog import ServiceEntry

WORKERS = 2
# A little more than gunicorn's own graceful time-out, so that it is gunicorn who ends a slow worker.
STOP_SECONDS = 25.0
# Whoever publishes signing keys issues tokens, and tells which sessions ended.
JWKS_PATH = "/.well-known/jwks.json"
# Reasons of an unready service that lie in the machine. Waiting does not mend them, and the services work meanwhile.
MACHINE_REASONS = ("disk ", "memory ")

_STORE_VARIABLES = {"postgres": "DATABASE_URL", "mongo": "MONGO_URL"}


def issuers(catalog: Mapping[str, ServiceEntry]) -> frozenset[str]:
    """Return the services that issue access tokens."""
    return frozenset(name for name, entry in catalog.items() if JWKS_PATH in entry.well_known)


class Services:
    """Describes every process of the services; the launcher runs them."""

    def __init__(
        self,
        catalog: Mapping[str, ServiceEntry],
        layout: Layout,
        ports: PortBook,
        stores: StoreSet,
        *,
        replicas: int,
        settings: Mapping[str, str],
    ) -> None:
        self._catalog = catalog
        self._layout = layout
        self._stores = stores
        self._settings = settings
        self._issuers = issuers(catalog)
        self.ports = {
            name: {f"{name}-{number}": ports.take(f"{name}-{number}") for number in range(1, replicas + 1)}
            for name in catalog
        }

    @property
    def keys_directory(self) -> "os.PathLike[str]":
        return self._layout.secrets / "keys"

    def urls(self, service: str) -> list[str]:
        """Return the base URL of each replica."""
        return [f"http://{HOST}:{port}" for port in self.ports[service].values()]

    def migration(self, entry: ServiceEntry) -> Command:
        """Return the job that brings a service's database to the form that its code expects."""
        name = f"{entry.name}-migrate"
        return Command(
            argv=[sys.executable, "-m", entry.migration],
            directory=self._layout.work(name),
            log=self._layout.log(name),
            environment=self._environment(entry),
        )

    def replicas(self, entry: ServiceEntry) -> list[ChildSpec]:
        """Return the gunicorn master of each replica."""
        return [self._replica(entry, name, port) for name, port in self.ports[entry.name].items()]

    def _replica(self, entry: ServiceEntry, name: str, port: int) -> ChildSpec:
        directory = self._layout.work(name)
        own = {"WEB_CONCURRENCY": str(WORKERS), "PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics")}
        url = f"http://{HOST}:{port}"
        return ChildSpec(
            name=name,
            service=entry.name,
            url=url,
            command=Command(
                argv=[
                    *(sys.executable, "-m", "gunicorn", "-c", str(REPOSITORY / "deploy" / "gunicorn.conf.py")),
                    *("-b", f"{HOST}:{port}", entry.application),
                ],
                directory=directory,
                log=self._layout.log(name),
                environment={**self._environment(entry), **own},
            ),
            probe=_probe(f"{url}/ready"),
            stop_seconds=STOP_SECONDS,
        )

    def _environment(self, entry: ServiceEntry) -> dict[str, str]:
        """Return a service's whole environment. Secrets stand in files, where `ps` does not show them."""
        secrets = {
            _STORE_VARIABLES[entry.store]: self._stores.service_url(entry.name),
            "VALKEY_URL": self._stores.service_valkey_url(entry.name),
            "FINGERPRINT_SECRET": self._stores.secrets.value(f"{entry.name}/fingerprint.key"),
        }
        files = {
            f"{name}_FILE": str(self._stores.secrets.store(f"{entry.name}/{name.lower()}", text))
            for name, text in secrets.items()
        }
        peers = {peer: self.urls(peer) for peer in entry.calls}
        environment = {
            # What the user set holds, such as LOG_LEVEL or SERVICE_CIPHER; what follows replaces only these defaults.
            "ENVIRONMENT": "production",
            "LOG_FORMAT": "json",
            **_inherited(),
            **self._settings,
            **files,
            "SERVICE_NAME": entry.name,
            "SERVICE_KEYS_DIR": str(self._layout.secrets / "keys" / entry.name),
            "PEER_URLS": json.dumps(peers),
            "GATEWAY_NETWORKS": f"{HOST}/32",
        }
        if entry.name in self._issuers:
            environment["JWT_KEYS_DIR"] = str(self._layout.secrets / "jwt")
        return environment


def _inherited() -> dict[str, str]:
    """Return our own environment without what would compete with the values that the launcher sets."""
    ours = {"DATABASE_URL", "MONGO_URL", "VALKEY_URL", "POSTGRES_URL", "FINGERPRINT_SECRET"}
    dropped = ours | {f"{name}_FILE" for name in ours} | {"LOG_DIR", "WEB_CONCURRENCY", "PROMETHEUS_MULTIPROC_DIR"}
    return {name: value for name, value in os.environ.items() if name not in dropped}


def _probe(url: str) -> Probe:
    async def probe() -> str:
        status, body = await http_get(url)
        if status == 200:
            return "without Valkey" if json_body(body).get("status") == "degraded" else ""
        reasons = [str(reason) for reason in json_body(body).get("reasons") or [f"{url} answers {status}"]]
        if all(reason.startswith(MACHINE_REASONS) for reason in reasons):
            return "warning: " + ", ".join(reasons)
        raise NotReady(", ".join(reasons))

    return probe
