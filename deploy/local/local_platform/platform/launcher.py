"""The whole platform: stores, then each service after its migration, then the gateway; stopped in reverse order.

async with running_platform(tmp_path, replicas=2) as platform:
    platform.gateway_url            # http://127.0.0.1:…
    platform.urls("user")           # the base URL of each replica
    platform.supervisor.kill("user-1")              # SIGKILL; restarted on its port
    await platform.stop_process("valkey"); await platform.start_process("valkey")
"""

import asyncio
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from local_platform.errors import DataDirectoryUnusable, LaunchError, ProcessFailed
from local_platform.layout import GATEWAY, GATEWAY_METRICS, REPOSITORY, Layout
from local_platform.platform.disk import DiskReserve, check_disk
from local_platform.platform.gateway import Gateway
from local_platform.platform.mailbox import NAME as MAIL
from local_platform.platform.mailbox import Mailbox
from local_platform.platform.options import Options
from local_platform.platform.reloading import Reloader
from local_platform.platform.service_environment import keys_directory
from local_platform.platform.services import Services
from local_platform.secret_files import withdraw_rights
from local_platform.stores import StoreSet
from local_platform.supervision.data_lock import data_lock, stop_orphans
from local_platform.supervision.jobs import run_job
from local_platform.supervision.managed_process import ManagedProcess, State
from local_platform.supervision.ports import HOST, PortAllocator
from local_platform.supervision.probes import NotReady, wait_until_ready
from local_platform.supervision.run_file import RunFile
from local_platform.supervision.status_table import StatusTable
from local_platform.supervision.supervisor import Supervisor
from local_platform.supervision.tasks import run_concurrently
from opskit.catalog import ServiceEntry, read_catalog
from servicekit.sealing.key_files import KeyFileError, ensure_keys

REACH_SECONDS = 20.0
UPKEEP_SECONDS = 1.0


class Platform:
    """Everything that runs for one DATA_DIR. `prepared` creates it; `start` and `stop` run it."""

    def __init__(
        self,
        options: Options,
        layout: Layout,
        ports: PortAllocator,
        status_table: StatusTable,
        force: asyncio.Event,
        warn: Callable[[str], None],
    ) -> None:
        self.supervisor = Supervisor(force)
        self.status_table = status_table
        self.catalog = read_catalog()
        for_operators = [entry for entry in read_catalog(operators=True).values() if entry.operators]
        self._console = next(iter(for_operators), None) if options.console else None
        self._layout = layout
        self.gateway_url = f"http://{HOST}:{ports.allocate(GATEWAY)}"
        services = {entry.name: entry for entry in (*self.catalog.values(), self._console) if entry is not None}
        self.stores = StoreSet(
            layout,
            ports,
            self.supervisor,
            mongo_nodes=options.mongo_nodes,
            services={name: entry.store for name, entry in services.items()},
            issuers=[entry.name for entry in self.catalog.values() if entry.issues_tokens],
        )
        self.mailbox = Mailbox(layout, ports.allocate(MAIL), self.gateway_url)
        self.console_url = f"http://{HOST}:{ports.allocate(self._console.name)}" if self._console else ""
        settings = {**options.settings, **({"CONSOLE_URL": self.console_url} if self._console else {})}
        self._services = Services(
            services,
            layout,
            ports,
            self.stores,
            replicas=options.replicas,
            settings={**self.mailbox.settings, **settings},
            own_settings={self._console.name: self._console_settings} if self._console else {},
            reload=options.reload,
        )
        self._gateway = Gateway(
            layout,
            ports.allocate(GATEWAY),
            ports.allocate(GATEWAY_METRICS),
            self.catalog,
            {name: self._services.ports[name] for name in self.catalog},
            settings,
        )
        ports.save()
        self._run_file = RunFile(layout.run_file, self.gateway_url, warn)
        self.gateway_metrics_url = self._gateway.metrics_url
        self._reserve = DiskReserve(layout.root, warn)
        self._warn = warn
        self._reloader = Reloader(REPOSITORY, services, self._restart_service, warn) if options.reload else None
        self._background: list[asyncio.Task[None]] = []
        self._add_rows()
        self.supervisor.listen(self._run_file.update)
        self.supervisor.listen(status_table.update)

    @property
    def logs(self) -> Path:
        """The directory of log files."""
        return self._layout.logs

    def urls(self, service: str) -> list[str]:
        """Return the base URL of each replica of a service."""
        return self._services.urls(service)

    async def start(self) -> None:
        """Start everything; return when the gateway serves. Raises LaunchError; call `stop` then, too."""
        ready = {engine: asyncio.Event() for engine in ("postgres", "mongo", "valkey")}
        await run_concurrently(
            self._start_store(ready["postgres"], self.stores.start_postgres),
            self._start_store(ready["valkey"], self.stores.start_valkey),
            self._start_store(ready["mongo"], self._start_mongo),
            self._start_services(ready),
            self.supervisor.add(self.mailbox.process_spec()).wait_ready(),
        )
        await self.supervisor.add(self._gateway.process_spec()).wait_ready()
        await self._reach_services()
        self._background.append(asyncio.create_task(self._keep_up()))
        self.start_console()
        if self._reloader is not None:
            self._background.append(asyncio.create_task(self._reloader.run()))

    def start_console(self) -> None:
        """Start the console if it is on, for which nothing waits. The platform works without it."""
        if self._console is None:
            return
        self._services.write_secrets(self._console)
        for spec in self._services.replicas(self._console):
            process = self.supervisor.add(spec)
            self._background.append(asyncio.create_task(self._warn_of_failure(process)))

    async def _warn_of_failure(self, process: ManagedProcess) -> None:
        try:
            await process.wait_ready()
        except LaunchError as error:
            self._warn(f"warning: {error}")

    async def stop(self) -> None:
        """Stop everything, callers before callees: gateway, services, stores."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.supervisor.stop(self.supervisor.of_service(GATEWAY))
        await self.supervisor.stop(self.supervisor.of_service(*self._services.ports))
        await self.supervisor.stop(self.supervisor.of_service(MAIL))
        await self.stores.stop_all()
        self._gateway.remove_cache()
        self._reserve.remove()
        self._run_file.remove()

    async def stop_process(self, name: str) -> None:
        """Stop one process (a name of run.json) until `start_process` is called."""
        await self.supervisor.processes[name].stop()

    async def start_process(self, name: str) -> None:
        """Start a stopped process again, on its port and its data; return when it serves."""
        process = self.supervisor.processes[name]
        process.start()
        await process.wait_ready()

    async def _keep_up(self) -> None:
        while True:
            self._reserve.check()
            await asyncio.sleep(UPKEEP_SECONDS)
            # A full disk may refuse to rename a file; the next round tries again.
            with suppress(OSError):
                if self._gateway.rotate_access_log():
                    self.supervisor.kill(GATEWAY, signal.SIGUSR1)

    async def _reach_services(self) -> None:
        try:
            await wait_until_ready(self._gateway.all_services_reachable, REACH_SECONDS)
        except NotReady as error:
            raise ProcessFailed(f"{error}; the logs are in {self._layout.log(GATEWAY).parent}") from error

    async def _start_store(self, ready: asyncio.Event, start: Callable[[], Awaitable[None]]) -> None:
        await start()
        ready.set()

    async def _start_mongo(self) -> None:
        self._run_file.put_first(await self.stores.start_mongo())

    async def _start_services(self, ready: Mapping[str, asyncio.Event]) -> None:
        await run_concurrently(*(self._start_service(entry, ready) for entry in self.catalog.values()))

    async def _start_service(self, entry: ServiceEntry, ready: Mapping[str, asyncio.Event]) -> None:
        """Migrate a service's database as soon as its own store serves, then start its replicas."""
        await ready[entry.store or "valkey"].wait()
        job = _migration_name(entry)
        self.status_table.set(job, State.PREPARING)
        await run_job(job, self._services.migration(entry))
        self.status_table.set(job, State.DONE)
        await ready["valkey"].wait()
        replicas = [self.supervisor.add(spec) for spec in self._services.replicas(entry)]
        await run_concurrently(*(replica.wait_ready() for replica in replicas))

    @property
    def _console_settings(self) -> dict[str, str]:
        """What the console alone gets; it sends nothing to itself."""
        rotate = [sys.executable, "-m", "local_platform", "rotate-keys", "--data-dir", str(self._layout.root)]
        return {
            "CONSOLE_URL": "",
            "CONSOLE_ROTATE_COMMAND": shlex.join(rotate),
            "MAIL_DIR": str(self.mailbox.folder),
        }

    async def _restart_service(self, entry: ServiceEntry) -> None:
        """Run a service with its present code. Raises LaunchError; the old code runs on if the new cannot be loaded."""
        jobs = [run_job(f"{entry.name}-check", self._services.check(entry), attempts=1)]
        if entry.store:
            jobs.append(run_job(_migration_name(entry), self._services.migration(entry), attempts=1))
        await run_concurrently(*jobs)
        replicas = self.supervisor.of_service(entry.name)
        await self.supervisor.stop(replicas)
        for replica in replicas:
            replica.start()
        await run_concurrently(*(replica.wait_ready() for replica in replicas))

    def _add_rows(self) -> None:
        self.status_table.add(*self.stores.names(), MAIL)
        for entry in self.catalog.values():
            self.status_table.add(_migration_name(entry), *self._services.ports[entry.name])
        self.status_table.add(GATEWAY, *([self._console.name] if self._console else []))


def _migration_name(entry: ServiceEntry) -> str:
    return f"{entry.name}-migrate"


@asynccontextmanager
async def prepared(
    options: Options, status_table: StatusTable, force: asyncio.Event, warn: Callable[[str], None] = lambda _text: None
) -> AsyncIterator[Platform]:
    """Yield a platform that has locked its DATA_DIR and reserved its ports but runs nothing yet.

    Raises LaunchError for what can be known beforehand. Setting `force` cuts a stop short; `warn` receives warnings.
    """
    options.check()
    layout = Layout.prepare(options.data_dir)
    files = [entry.name for entry in read_catalog().values() if entry.keeps_files]
    for folder in ("logs", "secrets", "work", GATEWAY, *files):
        # An earlier version left some of them open to every user of the machine.
        withdraw_rights(layout.root / folder)
    with data_lock(layout) as lock, PortAllocator(layout.port_file) as ports:
        for name in await stop_orphans(layout):
            warn(f"stopped {name}, which a killed run had left")
        ports.allocate_fixed(GATEWAY, options.gateway_port)
        if warning := check_disk(layout, mongo_nodes=options.mongo_nodes):
            warn(f"warning: {warning}")
        platform = Platform(options, layout, ports, status_table, force, warn)
        try:
            ensure_keys(keys_directory(layout), read_catalog(operators=True))
        except KeyFileError as error:
            raise DataDirectoryUnusable(f"{error}; put the key back, or remove the file to have a new key") from error
        lock.announce(platform.gateway_url)
        yield platform


@asynccontextmanager
async def running_platform(
    data_dir: Path,
    *,
    gateway_port: int = 0,
    replicas: int = 1,
    mongo_nodes: int = 1,
    settings: Mapping[str, str] | None = None,
    console: bool = False,
) -> AsyncIterator[Platform]:
    """Run the whole platform below `data_dir` and stop it in order at the end. The data stays.

    `settings` are environment variables for services and gateway. With `console` the console starts after everything
    else. Raises LaunchError when something else cannot start.
    """
    options = Options(data_dir, gateway_port, replicas, mongo_nodes, settings or {}, console=console)
    async with prepared(options, StatusTable(), asyncio.Event()) as platform:
        try:
            await platform.start()
            yield platform
        finally:
            await platform.stop()
