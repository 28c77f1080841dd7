"""Where everything lives: the repository, and the folders below DATA_DIR."""

import os
from dataclasses import dataclass
from pathlib import Path

from local_platform.errors import DataDirectoryUnusable
from local_platform.secret_files import SecretFiles, private_directory

REPOSITORY = Path(__file__).resolve().parents[3]
# The gateway's name: of its process, its service in run.json and its folder.
GATEWAY = "gateway"
GATEWAY_METRICS = "gateway-metrics"


def absolute(data_dir: Path) -> Path:
    """Return a DATA_DIR as an absolute path; raise DataDirectoryUnusable for the home of an unknown user."""
    try:
        return data_dir.expanduser().absolute()
    except RuntimeError as error:
        raise DataDirectoryUnusable(f"DATA_DIR={data_dir}: {error}; write the whole path") from error


def _refuse_source(root: Path) -> None:
    """Raise DataDirectoryUnusable where secrets would lie among source files."""
    resolved, repository = root.resolve(), REPOSITORY.resolve()
    # A start that ended early has left the lock alone.
    used = any((root / name).exists() for name in ("secrets", "launcher.lock"))
    inside = resolved.is_relative_to(repository) and root.is_dir() and not used
    if repository.is_relative_to(resolved) or (inside and any(root.iterdir())):
        raise DataDirectoryUnusable(
            f"DATA_DIR={root} holds source files; choose a directory of its own, such as DATA_DIR=.data"
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders below one DATA_DIR."""

    root: Path

    @classmethod
    def prepare(cls, data_dir: Path) -> "Layout":
        """Make DATA_DIR where it is missing; raise DataDirectoryUnusable when it cannot be written."""
        root = absolute(data_dir)
        _refuse_source(root)
        try:
            root.mkdir(mode=_passable(), parents=True, exist_ok=True)
            probe = root / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
            stores = root / "stores"
            stores.mkdir(exist_ok=True)
            stores.chmod(_passable())
        except OSError as error:
            raise DataDirectoryUnusable(
                f"DATA_DIR {root} cannot be written ({error.strerror}); make it writable, "
                "or choose another with DATA_DIR=…"
            ) from error
        return cls(root)

    @property
    def run_file(self) -> Path:
        return self.root / "run.json"

    @property
    def port_file(self) -> Path:
        return self.root / "ports.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "launcher.lock"

    @property
    def secrets(self) -> SecretFiles:
        return SecretFiles(self.root / "secrets")

    @property
    def logs(self) -> Path:
        return private_directory(self.root / "logs")

    @property
    def gateway(self) -> Path:
        """The folder in which NGINX runs: its configuration, buffers and access log."""
        return private_directory(self.root / GATEWAY)

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def store(self, name: str) -> Path:
        return self.root / "stores" / name

    def work(self, name: str) -> Path:
        """Return a process's working directory; stop_orphans recognises orphans by its place below DATA_DIR."""
        return private_directory(private_directory(self.root / "work") / name)


def _passable() -> int:
    """Return the mode of the folders above PostgreSQL's: it refuses to run as root, and gets another user."""
    return 0o711 if os.geteuid() == 0 else 0o700
