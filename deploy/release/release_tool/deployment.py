"""One deployment of the platform: its compose file, its secrets, and the lock that keeps other operators away."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from opskit.catalog import ServiceEntry, read_catalog
from opskit.file_lock import AlreadyLockedError, file_lock
from opskit.secret_files import Environment, Written, write_secrets
from release_tool.compose import ComposeProject
from release_tool.compose_orchestrator import ComposeOrchestrator
from release_tool.console import Console
from release_tool.errors import CommandFailed, Refused
from release_tool.journal import JournalFile
from release_tool.programs import Client, docker_client

ROOT = Path(__file__).resolve().parents[3]
COMPOSE_FILES: Mapping[Environment, str] = {
    "production": "docker-compose.prod.yml",
    "development": "docker-compose.yml",
}
# The network that leads to a mail server, and outside.
MAIL_NETWORK = "mail"
# Where the console runs by default, and the profile that starts it.
CONSOLE_BY_DEFAULT: Mapping[Environment, bool] = {"production": False, "development": True}
_ON, _OFF = ("on", "1", "yes", "true"), ("off", "0", "no", "false")
# How long the last docker command of a killed run may take to end, such as a migration.
LEFTOVER_COMMAND_SECONDS = 120.0
POLL_SECONDS = 0.2


class Deployment:
    """The production or the development deployment of a repository."""

    def __init__(
        self, environment: Environment, console: Console, root: Path = ROOT, docker: Client | None = None
    ) -> None:
        self.environment = environment
        self.console = console
        self.root = root
        self._docker = docker or docker_client(root)

    @cached_property
    def project(self) -> ComposeProject:
        """The compose project. Raises `Refused` when docker cannot be used, or another checkout runs under its name."""
        try:
            self._docker.run("version", "--format", "{{.Server.Version}}")
        except CommandFailed as error:
            raise Refused(f"the docker engine does not respond; is it running, and may you use it?\n{error}") from error
        try:
            self._docker.run("compose", "version", "--short")
        except CommandFailed as error:
            raise Refused(f"docker compose is missing: https://docs.docker.com/compose/install/\n{error}") from error
        variables = {"MAIL_NETWORK": MAIL_NETWORK} if self.has_mail_server else {}
        if self.shows_console:
            profiles = [self._setting("COMPOSE_PROFILES"), *self.for_operators]
            variables["COMPOSE_PROFILES"] = ",".join(filter(None, profiles))
            variables |= {f"{name.upper()}_URL": f"http://{name}:8000" for name in self.for_operators}
        project = ComposeProject(self._docker, self.root / COMPOSE_FILES[self.environment], variables)
        _refuse_other_checkout(project, self.root)
        return project

    @property
    def orchestrator(self) -> ComposeOrchestrator:
        return ComposeOrchestrator(self.project, self.root, self.console)

    @cached_property
    def catalog(self) -> Mapping[str, ServiceEntry]:
        """The services of the API."""
        return {name: entry for name, entry in self._everything.items() if not entry.operators}

    @property
    def for_operators(self) -> list[str]:
        """The services for operators: the console."""
        return [name for name, entry in self._everything.items() if entry.operators]

    @cached_property
    def _everything(self) -> Mapping[str, ServiceEntry]:
        return read_catalog(self.root / "deploy" / "services.toml", operators=True)

    @property
    def shows_console(self) -> bool:
        """Whether the console runs, by the setting CONSOLE. Raises `Refused` for another value than on and off."""
        chosen = self._setting("CONSOLE").lower()
        if chosen not in ("", *_ON, *_OFF):
            raise Refused(f"CONSOLE={chosen} is neither on nor off")
        return chosen in _ON if chosen else CONSOLE_BY_DEFAULT[self.environment]

    @cached_property
    def secrets_directory(self) -> Path:
        """SECRETS_DIR, relative to the root."""
        return self.root / (self._setting("SECRETS_DIR") or f".secrets/{self.environment}")

    def _setting(self, name: str) -> str:
        """Return a setting from the environment or from `.env`, as compose reads it."""
        return os.environ.get(name) or _dotenv(self.root / ".env").get(name, "")

    @property
    def has_mail_server(self) -> bool:
        """Whether the sender of mails has a mail server to reach, so that a network must lead it outside."""
        senders = [entry.name for entry in self.catalog.values() if "SMTP_URL" in entry.settings]
        try:
            urls = [(self.secrets_directory / name / "smtp_url").read_text(encoding="utf-8") for name in senders]
        except OSError:
            # Not made yet, or not for this user to read, who cannot start anything either.
            return False
        return any(map(str.strip, urls))

    @property
    def journals(self) -> JournalFile:
        return JournalFile(self.secrets_directory)

    @property
    def down_command(self) -> str:
        return "make prod-down" if self.environment == "production" else "make down"

    def write_secrets(self) -> Written:
        """Make the missing secrets, and show how many."""
        written = write_secrets(self.secrets_directory, self.environment, self._everything)
        for text, names in (("made", written.made), ("changed", written.changed)):
            if names:
                self.console.say(f"{len(names)} secret files {text} in {self.secrets_directory}")
        if not written.made and not written.changed:
            self.console.say(f"no secret is missing in {self.secrets_directory}")
        return written

    @contextmanager
    def locked(self, action: str) -> Iterator[None]:
        """Keep other tools from changing this deployment. Raises `Refused` while one does."""
        self.secrets_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with operator_lock(
            self.secrets_directory / ".release.lock", action, LEFTOVER_COMMAND_SECONDS, self.console.say
        ):
            yield


def _refuse_other_checkout(project: ComposeProject, root: Path) -> None:
    """Raise `Refused` when the project's containers are those of another checkout.

    A checkout that was moved goes on with its containers: nothing is left at the former place.
    """
    for directory in project.directories():
        other = Path(directory)
        if other.resolve() != root.resolve() and (other / "deploy" / "services.toml").exists():
            raise Refused(
                f"the containers of {project.configuration['name']} belong to the checkout {other}; work there, or "
                "give this one a name and a port of its own, best in .env: COMPOSE_PROJECT_NAME=… GATEWAY_PORT=…"
            )


@contextmanager
def operator_lock(path: Path, action: str, patience: float, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of an operator's tool, together with the docker commands that it starts.

    Raises `Refused` while another tool runs. A docker command may outlive a tool that was killed; wait for it up to
    `patience` seconds.
    """
    with ExitStack() as stack:
        descriptor = _acquire(stack, path, patience, say)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {action}".encode(), 0)
        # A command that outlives this tool still holds the inherited lock, by which the next tool notices it.
        os.set_inheritable(descriptor, True)
        yield


def _acquire(stack: ExitStack, path: Path, patience: float, say: Callable[[str], None]) -> int:
    end = time.monotonic() + patience
    told = False
    while True:
        try:
            return stack.enter_context(file_lock(path, wait=False))
        except AlreadyLockedError:
            pid, _, action = path.read_text(encoding="utf-8").partition(" ")
        if not pid or _is_alive(int(pid)):
            raise Refused(f"another command is running ({action or 'just starting'}, pid {pid or '?'}); wait for it")
        if time.monotonic() > end:
            raise Refused(f"a docker command that pid {pid} ({action}) started does not end; stop it first")
        if not told:
            say(f"waiting for the last docker command of an interrupted run ({action})")
            told = True
        time.sleep(POLL_SECONDS)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended but is still listed, because its parent has not waited for it."""
    try:
        # The second field, the name in parentheses, may hold spaces and parentheses itself.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        # There is no /proc on this host.
        return False


def _dotenv(path: Path) -> Mapping[str, str]:
    """Return the plain `NAME=value` lines of a file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    pairs = [line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#")]
    return {name.strip(): value.strip().strip("'\"") for name, _, value in pairs}
