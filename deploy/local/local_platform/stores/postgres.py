"""The local PostgreSQL server: its data directory, its process, its readiness."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from local_platform.binaries import POSTGRES
from local_platform.layout import Layout
from local_platform.stores.identity import Identity, unprivileged_identity
from local_platform.stores.postgres_access import PostgresAccess
from local_platform.supervision.jobs import run_job
from local_platform.supervision.managed_process import ProcessSpec
from local_platform.supervision.ports import HOST
from local_platform.supervision.process import Command

NAME = "postgres"
# More than the pools of all services together; a connection costs memory only while it is open.
MAX_CONNECTIONS = 200
_SHELL_CHARACTERS = frozenset('$`"\\')


class LocalPostgres:
    """A PostgreSQL server whose files live below DATA_DIR."""

    def __init__(self, layout: Layout, port: int, password: str) -> None:
        self.access = PostgresAccess(HOST, port, "postgres", password)
        self._layout = layout
        self._binary = POSTGRES.find()
        # This folder belongs to the server's user, who cannot create files in DATA_DIR itself.
        self._home = layout.store(NAME)
        self._data = self._home / "data"

    async def prepare(self) -> ProcessSpec:
        """Create the data directory unless it exists, and return the server's process."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity = unprivileged_identity(self._binary, self._home)
        identity.take_ownership(self._home)
        if not self._data.exists():
            await self._initialise(identity)
        return ProcessSpec(
            name=NAME,
            service=NAME,
            url=f"postgresql://{HOST}:{self.access.port}",
            command=Command(
                argv=[str(self._binary), "-D", str(self._data), *self._options()],
                directory=self._layout.work(NAME),
                log=self._layout.log(NAME),
                death_signal=signal.SIGINT,
                wrapper=identity.wrapper,
            ),
            probe=self.access.probe,
            stop_signal=signal.SIGINT,
            before_start=self._remove_stale_pid_file,
        )

    def _options(self) -> list[str]:
        options = {
            "listen_addresses": HOST,
            "port": str(self.access.port),
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "max_connections": str(MAX_CONNECTIONS),
            "logging_collector": "off",
        }
        return [word for name, value in options.items() for word in ("-c", f"{name}={value}")]

    async def _initialise(self, identity: Identity) -> None:
        """Create the data directory under another name, so that an interrupted start is not taken for complete."""
        unfinished = self._home / "unfinished"
        password_file = self._home / "password"

        def clear() -> None:
            shutil.rmtree(unfinished, ignore_errors=True)
            password_file.unlink(missing_ok=True)
            password_file.touch(mode=0o600)
            password_file.write_text(self.access.password, encoding="utf-8")
            identity.take_ownership(password_file)

        with _initdb(self._binary) as initdb:
            command = Command(
                argv=[
                    *(str(initdb), "-D", str(unfinished), "-U", self.access.user),
                    *("-A", "scram-sha-256", "--pwfile", str(password_file), "-E", "UTF8", "--locale=C.UTF-8"),
                    "--no-instructions",
                ],
                directory=self._layout.work(NAME),
                log=self._layout.log(NAME),
                wrapper=identity.wrapper,
            )
            try:
                await run_job("initdb", command, before=clear)
            finally:
                password_file.unlink(missing_ok=True)
        unfinished.rename(self._data)

    def _remove_stale_pid_file(self) -> None:
        """Remove postmaster.pid unless a server runs.

        The server refuses to start if the file is empty or cut off, as after a power failure or on a full disk, or if
        another program has the process id in it. This launcher has locked DATA_DIR, so no other one starts a server.
        """
        if not any(_runs_in(process, self._data) for process in psutil.process_iter()):
            (self._data / "postmaster.pid").unlink(missing_ok=True)


@contextmanager
def _initdb(binary: Path) -> Iterator[Path]:
    """Yield the path of initdb beside the server, or of a copy whose path a shell takes literally.

    initdb starts the server by a shell, with its path between double quotes, where `$`, a backquote, a backslash or a
    quote would change it. The programs resolve symbolic links to themselves, but not to the folders beside them.
    """
    installed = binary.resolve().parents[1]
    if not _SHELL_CHARACTERS.intersection(str(installed)):
        yield binary.with_name("initdb")
        return
    with tempfile.TemporaryDirectory(prefix="initdb-") as directory:
        # The server's user has to reach it.
        Path(directory).chmod(0o755)
        copy = Path(directory, "package", installed.name)
        (copy / "bin").mkdir(parents=True)
        for folder in installed.iterdir():
            if folder.name != "bin":
                (copy / folder.name).symlink_to(folder)
        # Where a wheel keeps the libraries of its programs.
        for libraries in installed.parents[1].glob("*.libs"):
            Path(directory, libraries.name).symlink_to(libraries)
        for program in ("initdb", "postgres"):
            shutil.copy(installed / "bin" / program, copy / "bin" / program)
        yield copy / "bin" / "initdb"


def _runs_in(process: psutil.Process, directory: Path) -> bool:
    """Whether a process has this working directory, as all of a PostgreSQL server have its data directory.

    The processes of other users cannot be looked at, and cannot open the directory.
    """
    try:
        return Path(process.cwd()) == directory.resolve()
    except psutil.Error:
        return False
