"""Makes this repository a platform of one's own: `make adopt NAME=acme`, docs/adopt.md.

With --to it writes a copy, by copier, which can take over later versions; without, it renames the files here.
`copier.yml` runs it with --only-rename, where only the standard library is installed.
"""

import argparse
import os
import re
import subprocess  # nosec B404
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[1]
OLD: Final = "baseplate"
COPIER: Final = "copier==9.19.1"
_NAME: Final = re.compile(r"[a-z](-?[a-z0-9]){1,19}")
# The licence names whose work this is. Sealed messages have a media type, and the recorded ones cannot change theirs.
_KEPT: Final = (
    *("LICENSE", "CHANGELOG.md", ".copier-answers.yml"),
    *("shared/servicekit/sealing/wire.py", "shared/tests/sealing/vectors/"),
)
# Git ignores what is in these.
_FOLDERS_LEFT_OUT: Final = {".git", ".venv", ".tools", ".data", "node_modules", "__pycache__"}


class CannotAdopt(Exception):
    """Nothing is changed; the message says why."""


def check_name(name: str, services: Iterable[str] = ()) -> None:
    """Check the name of a platform. Raises CannotAdopt."""
    if not _NAME.fullmatch(name):
        raise CannotAdopt(f"{name!r} cannot be a name; use 2 to 20 lower-case letters, digits and hyphens")
    if name == OLD or name in services:
        raise CannotAdopt(f"{name!r} is taken; choose another name")


def renamed(text: str, name: str) -> str:
    """Return a text with the new name in place of the old one: `Baseplate` becomes `Acme`.

    In a name of Python, such as `baseplate_client`, a hyphen of the new name becomes an underscore.
    """
    text = re.sub(f"{OLD}(?=_)", name.replace("-", "_"), text)
    return text.replace(OLD, name).replace(OLD.capitalize(), name.capitalize())


def rename_files(folder: Path, name: str) -> list[str]:
    """Rename the platform in the files below a folder and in their paths; return the former paths of what changed."""
    changed = []
    for path in list(_files(folder)):
        moved = renamed(path, name)
        if moved != path:
            _move(folder / path, folder / moved)
        if _rename_in(folder / moved, name, kept=path.startswith(_KEPT)) or moved != path:
            changed.append(path)
    return changed


def _rename_in(file: Path, name: str, *, kept: bool) -> bool:
    """Rename the platform in a text file; return whether that changed it."""
    try:
        before = file.read_bytes().decode()
    except (UnicodeDecodeError, OSError):
        return False
    after = before if kept else renamed(before, name)
    if after != before:
        file.write_bytes(after.encode())
    return after != before


def _move(file: Path, target: Path) -> None:
    """Move a file, and remove the folders that are empty then."""
    target.parent.mkdir(parents=True, exist_ok=True)
    file.rename(target)
    folder = file.parent
    while not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def adopt_here(name: str, without: list[str]) -> None:
    """Rename this repository's platform, and remove services. Raises CannotAdopt."""
    source = _output(REPOSITORY, "git", "remote", "get-url", "origin", check=False)
    commit = _output(REPOSITORY, "git", "describe", "--tags", "--always")
    changed = rename_files(REPOSITORY, name)
    if source:
        answers = f"_commit: {commit}\n_src_path: {source}\nname: {name}\n"
        (REPOSITORY / ".copier-answers.yml").write_text(answers, encoding="utf-8")
    for template in ("copier.yml", ".copier-answers.yml.jinja"):
        (REPOSITORY / template).unlink(missing_ok=True)
    print(f"renamed the platform to {name} in {len(changed)} files")
    _finish(REPOSITORY, without)


def adopt_to(target: Path, name: str, without: list[str]) -> None:
    """Write a copy of the committed state with the new name, as a git repository. Raises CannotAdopt."""
    if target.exists() and any(target.iterdir()):
        raise CannotAdopt(f"{target} is not empty; choose another folder")
    copier = [str(REPOSITORY / ".tools/bin/uv"), "tool", "run", "--quiet", "--from", COPIER, "copier"]
    _run(
        REPOSITORY,
        *(*copier, "copy", "--trust", "--defaults", "--quiet", "--vcs-ref", "HEAD"),
        *("--data", f"name={name}", str(REPOSITORY), str(target)),
    )
    _run(target, "git", "init", "--quiet")
    _finish(target, without)
    _run(target, "git", "add", "--all")
    print(f"wrote {target}; commit it, and later: uvx {COPIER} update --trust")


def _finish(folder: Path, without: list[str]) -> None:
    """Remove services, and sort imports and wrap lines anew, because the name has changed."""
    members = ["shared", "deploy/local", "deploy/release", "gateway", *_services(folder)]
    path = os.pathsep.join(str(folder / member) for member in members)
    for service in without:
        _run(folder, sys.executable, "-m", "local_platform", "remove-service", "--force", service, PYTHONPATH=path)
    _run(folder, sys.executable, "-m", "ruff", "check", "--select", "I", "--fix-only", "--quiet", ".")
    _run(folder, sys.executable, "-m", "ruff", "format", "--quiet", ".")
    if without:
        print("writing the clients of the services that are left (a minute or two)", flush=True)
        _run(folder, "make", "--no-print-directory", "clients")


def _services(folder: Path) -> list[str]:
    return list(_catalog(folder))


def _catalog(folder: Path) -> dict[str, dict[str, object]]:
    return tomllib.loads((folder / "deploy" / "services.toml").read_text(encoding="utf-8"))


def _files(folder: Path) -> Iterator[str]:
    """Yield the paths of all files that are not ignored, relative to the folder."""
    if (folder / ".git").exists():
        listed = _output(folder, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        yield from sorted(path for path in listed.split("\0") if path and (folder / path).is_file())
        return
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - _FOLDERS_LEFT_OUT)
        yield from (str(Path(directory, file).relative_to(folder)) for file in sorted(files))


def _run(folder: Path, *command: str, **variables: str) -> None:
    if subprocess.run(command, cwd=folder, env={**os.environ, **variables}, check=False).returncode:  # nosec B603
        raise CannotAdopt(f"{' '.join(command)} failed in {folder}")


def _output(folder: Path, *command: str, check: bool = True) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # nosec B603
    if check and done.returncode:
        raise CannotAdopt(done.stderr.strip())
    return done.stdout.strip() if not done.returncode else ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make this repository a platform of one's own.")
    parser.add_argument("name", help="the platform's name, such as acme")
    parser.add_argument("--to", type=Path, help="write a copy there, and leave this repository as it is")
    parser.add_argument("--without", default="", help="services to remove, such as 'notes analytics'")
    parser.add_argument("--only-rename", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    without = options.without.replace(",", " ").split()
    try:
        if options.only_rename:
            check_name(options.name)
            rename_files(Path.cwd(), options.name)
            return 0
        services = _services(REPOSITORY)
        check_name(options.name, services)
        removable = [
            name for name, entry in _catalog(REPOSITORY).items() if name != "user" and not entry.get("operators")
        ]
        if unknown := [service for service in without if service not in removable]:
            raise CannotAdopt(f"{', '.join(unknown)} cannot be left out; WITHOUT takes some of: {' '.join(removable)}")
        if _output(REPOSITORY, "git", "status", "--porcelain"):
            raise CannotAdopt("there are uncommitted changes; commit them first")
        if options.to is not None:
            adopt_to(options.to.expanduser().absolute(), options.name, without)
        else:
            adopt_here(options.name, without)
    except CannotAdopt as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
