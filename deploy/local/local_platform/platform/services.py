"""The processes of the platform's own services: migration jobs and gunicorn masters."""

import signal
import sys
from collections.abc import Mapping

from local_platform.layout import REPOSITORY, Layout
from local_platform.platform.service_environment import service_environment, write_secrets
from local_platform.stores import StoreSet
from local_platform.supervision.managed_process import ProcessSpec
from local_platform.supervision.ports import HOST, PortAllocator
from local_platform.supervision.probes import NotReady, Probe, http_get, json_body
from local_platform.supervision.process import Command
from opskit.catalog import ServiceEntry

WORKERS = 2
# The state of a service for operators is the memory of its one process.
WORKERS_FOR_OPERATORS = 1
# Longer than gunicorn's own graceful time-out, so that gunicorn itself ends a slow worker.
STOP_SECONDS = 25.0
# Reasons that lie in the machine, as `/ready` words them. Waiting does not help, and the services work all the same.
MACHINE_REASONS = ("disk ", "memory ")
_GUNICORN = (sys.executable, "-m", "gunicorn", "-c", str(REPOSITORY / "deploy" / "gunicorn.conf.py"))


class Services:
    """Describes every process of the services."""

    def __init__(
        self,
        catalog: Mapping[str, ServiceEntry],
        layout: Layout,
        ports: PortAllocator,
        stores: StoreSet,
        *,
        replicas: int,
        settings: Mapping[str, str],
        own_settings: Mapping[str, Mapping[str, str]] | None = None,
        reload: bool = False,
    ) -> None:
        """Take the settings of all services, and by name the `own_settings` that one of them has besides."""
        self._layout = layout
        self._stores = stores
        self._settings = settings
        self._own_settings = own_settings or {}
        # A developer who waits for a restart has no use for a slow goodbye to kept-alive connections.
        self._stop_signal = signal.SIGQUIT if reload else signal.SIGTERM
        self.ports = {
            entry.name: {name: ports.allocate(name) for name in _replica_names(entry, replicas)}
            for entry in catalog.values()
        }

    def urls(self, service: str) -> list[str]:
        """Return the base URL of each replica."""
        return [f"http://{HOST}:{port}" for port in self.ports[service].values()]

    def migration(self, entry: ServiceEntry) -> Command:
        """Return the job that migrates a service's database to what its code expects."""
        name = f"{entry.name}-migrate"
        self.write_secrets(entry)
        return Command(
            argv=[sys.executable, "-m", entry.migration],
            directory=self._layout.work(name),
            log=self._layout.log(name),
            environment=self._environment(entry),
            forked=True,
        )

    def write_secrets(self, entry: ServiceEntry) -> None:
        """Write the files of secrets that a service's processes read."""
        write_secrets(
            self._layout,
            entry,
            store_url=self._stores.service_url(entry.name) if entry.store else "",
            valkey_url=self._stores.service_valkey_url(entry.name),
        )

    def check(self, entry: ServiceEntry) -> Command:
        """Return the job that loads a service's code and fails if it cannot be loaded."""
        name = f"{entry.name}-check"
        return Command(
            argv=[*_GUNICORN, "--check-config", entry.application],
            directory=self._layout.work(name),
            log=self._layout.log(name),
            environment=self._environment(entry),
            forked=True,
        )

    def replicas(self, entry: ServiceEntry) -> list[ProcessSpec]:
        """Return the gunicorn master of each replica."""
        return [self._replica(entry, name, port) for name, port in self.ports[entry.name].items()]

    def _replica(self, entry: ServiceEntry, name: str, port: int) -> ProcessSpec:
        directory = self._layout.work(name)
        own = {
            "WEB_CONCURRENCY": str(WORKERS_FOR_OPERATORS if entry.operators else WORKERS),
            "PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics"),
            # The same file as the command's output, so that it holds all lines, each once.
            "LOG_DIR": str(self._layout.logs),
            "LOG_NAME": name,
        }
        url = f"http://{HOST}:{port}"
        return ProcessSpec(
            name=name,
            service=entry.name,
            url=url,
            command=Command(
                argv=[*_GUNICORN, "-b", f"{HOST}:{port}", entry.application],
                directory=directory,
                log=self._layout.log(name),
                environment={**self._environment(entry), **own},
                forked=True,
            ),
            probe=readiness(f"{url}/ready"),
            stop_signal=self._stop_signal,
            stop_seconds=STOP_SECONDS,
        )

    def _environment(self, entry: ServiceEntry) -> dict[str, str]:
        peers = {peer: self.urls(peer) for peer in entry.calls}
        settings = {**self._settings, **self._own_settings.get(entry.name, {})}
        return service_environment(self._layout, entry, peers=peers, settings=settings)


def _replica_names(entry: ServiceEntry, replicas: int) -> list[str]:
    return [entry.name] if entry.operators else [f"{entry.name}-{number}" for number in range(1, replicas + 1)]


def readiness(url: str) -> Probe:
    """Return a probe of `/ready` that takes a full disk or memory of the machine for a warning."""

    async def probe() -> str:
        status, body = await http_get(url)
        document = json_body(body)
        if status == 200:
            return ", ".join(map(str, document.get("reasons") or []))
        reasons = [str(reason) for reason in document.get("reasons") or [f"{url} returned {status}"]]
        if all(reason.startswith(MACHINE_REASONS) for reason in reasons):
            return "warning: " + ", ".join(reasons)
        raise NotReady(", ".join(reasons))

    return probe
