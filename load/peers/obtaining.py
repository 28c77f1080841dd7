"""What the peers are made of: Go programs from their modules, and an environment of Python packages.

Everything lands in `.tools/peers/`, once for each version. Git ignores the folder, and it may be removed at any time.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local_platform.layout import REPOSITORY

FOLDER = REPOSITORY / ".tools" / "peers"
UV = REPOSITORY / ".tools" / "bin" / "uv"


class CannotObtain(Exception):
    """A peer cannot be had on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class GoProgram:
    """Commands of one version of a Go module. `added` are source files, in place of its own of these names."""

    name: str
    module: str
    version: str
    commands: Sequence[str]
    # CPU minutes of the first build, without any cache.
    minutes: int
    added: Mapping[str, str] = field(default_factory=dict)

    def obtain(self, folder: Path = FOLDER) -> Path:
        """Return the folder of the built commands; build them first where they are missing. Raises CannotObtain."""
        content = repr((self.module, self.commands, sorted(self.added.items())))
        built = folder / f"{self.name}-{self.version}-{_digest(content.encode())}"
        if built.is_dir():
            return built
        go = shutil.which("go")
        if go is None:
            raise CannotObtain("it is built from its Go module, and there is no `go` on PATH: https://go.dev/dl")
        print(
            f"building {self.name} {self.version} from {self.module}, once: about {self.minutes} min of CPU",
            flush=True,
        )
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            source, commands = Path(temporary, "source"), Path(temporary, "commands")
            commands.mkdir()
            # The module cache is read-only, and its files must not be replaced.
            shutil.copytree(self._download(go), source, copy_function=shutil.copyfile)
            for directory in (source, *source.rglob("*/")):
                directory.chmod(0o755)
            for name, text in self.added.items():
                file = source / name
                file.parent.mkdir(exist_ok=True)
                file.write_text(text, encoding="utf-8")
            _run([go, "build", "-C", str(source), "-trimpath", "-o", f"{commands}/", *self.commands])
            commands.rename(built)
        print(f"built {self.name} in {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
        return built

    def _download(self, go: str) -> str:
        downloaded = json.loads(_run([go, "mod", "download", "-json", f"{self.module}@{self.version}"]))
        return str(downloaded["Dir"])


def python_environment(name: str, requirements: Path, folder: Path = FOLDER) -> Path:
    """Return the interpreter of an environment with exactly these packages. Raises CannotObtain."""
    content = requirements.read_bytes()
    environment = folder / f"{name}-{_digest(content)}"
    interpreter, complete = environment / "bin" / "python", environment / ".complete"
    if complete.exists():
        return interpreter
    if not UV.exists():
        raise CannotObtain("its packages are installed by uv, which `make install` fetches")
    print(f"installing the packages of {name}, once: some seconds", flush=True)
    _run([str(UV), "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)])
    _run([str(UV), "pip", "install", "--quiet", "--python", str(interpreter), "-r", str(requirements)])
    complete.touch()
    return interpreter


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def _run(command: Sequence[str]) -> str:
    """Run a command that obtains something; return its output. Raises CannotObtain with the end of its complaint."""
    # A module may need a newer Go than the installed one; `auto` lets it fetch that.
    environment = {**os.environ, "GOTOOLCHAIN": "auto"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr.strip() or error.stdout.strip()).splitlines()
        raise CannotObtain(f"`{' '.join(command[:3])} …` failed: {' / '.join(lines[-3:])}") from error
    except OSError as error:
        raise CannotObtain(f"{command[0]} cannot be run: {error.strerror}") from error
    return done.stdout
