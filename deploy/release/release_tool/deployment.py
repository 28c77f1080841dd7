"""One deployment: which compose file, where its secrets are, and who may change it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from opskit.catalog import ServiceEntry, read_catalog
from release_tool.compose import Stack
from release_tool.console import Console
from release_tool.errors import CommandFailed, Refused
from release_tool.files import sole_operator
from release_tool.journal import JournalFile
from release_tool.runner import DockerRunner, Runner
from release_tool.secret_files import ACL_FILE, Environment, Written, write_secrets

ROOT = Path(__file__).resolve().parents[3]
FILES: Mapping[Environment, str] = {"production": "docker-compose.prod.yml", "development": "docker-compose.yml"}
# How long the last command of a killed run may take to end, such as a migration.
PATIENCE_SECONDS = 120.0


class Deployment:
    """The production or the development project of a repository."""

    def __init__(
        self, environment: Environment, console: Console, root: Path = ROOT, runner: Runner | None = None
    ) -> None:
        self.environment = environment
        self.console = console
        self.root = root
        self._runner = runner or DockerRunner(root)

    @cached_property
    def stack(self) -> Stack:
        """The project's containers. Raises `Refused` when docker cannot be used."""
        try:
            self._runner.docker("version", "--format", "{{.Server.Version}}")
        except CommandFailed as error:
            raise Refused(f"the docker engine does not answer; is it running, and may you use it?\n{error}") from error
        try:
            self._runner.docker("compose", "version", "--short")
        except CommandFailed as error:
            raise Refused(f"docker compose is missing: https://docs.docker.com/compose/install/\n{error}") from error
        return Stack(self._runner, self.root, FILES[self.environment])

    @cached_property
    def catalog(self) -> Mapping[str, ServiceEntry]:
        return read_catalog(self.root / "deploy" / "services.toml")

    @cached_property
    def secrets_directory(self) -> Path:
        """SECRETS_DIR from the environment or from `.env`, which compose reads, too; below the root unless absolute."""
        chosen = os.environ.get("SECRETS_DIR") or _dotenv(self.root / ".env").get("SECRETS_DIR")
        return self.root / (chosen or f".secrets/{self.environment}")

    @property
    def journal_file(self) -> JournalFile:
        return JournalFile(self.secrets_directory)

    def write_secrets(self) -> Written:
        """Make the secrets that are missing, and say which."""
        written = write_secrets(self.secrets_directory, self.environment, self.catalog)
        for text, names in (("made", written.made), ("changed", written.changed)):
            if names:
                self.console.say(f"{len(names)} files of secrets {text} in {self.secrets_directory}")
        if not written.made and not written.changed:
            self.console.say(f"no secret is missing in {self.secrets_directory}")
        return written

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Be the only tool that changes this deployment. Raises `Refused` while another does."""
        self.secrets_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with sole_operator(self.secrets_directory / ".release.lock", what, PATIENCE_SECONDS, self.console.say):
            yield

    def service(self, name: str) -> ServiceEntry:
        """Return a service. Raises `Refused` for one that is not listed."""
        if name not in self.catalog:
            raise Refused(f"there is no service {name!r}; deploy/services.toml lists {', '.join(self.catalog)}")
        return self.catalog[name]

    def refuse_during_release(self, instead: str) -> None:
        """Raise `Refused` while a release is unfinished."""
        if journal := self.journal_file.read():
            raise Refused(
                f"the release of {journal.service} is unfinished ({journal.phase}); first finish it "
                f"({journal.command}) or undo it "
                f"(make rollback SERVICE={journal.service}), then {instead}"
            )


def acl_changed(written: Written) -> bool:
    """Whether a server that runs has to read its users anew."""
    return ACL_FILE in written.changed


def _dotenv(path: Path) -> Mapping[str, str]:
    """Return the plain `NAME=value` lines of a file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    pairs = [line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#")]
    return {name.strip(): value.strip().strip("'\"") for name, _, value in pairs}
