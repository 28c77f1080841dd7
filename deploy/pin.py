"""Pin base images and GitHub actions to what their tags mean now: images by digest, actions by commit.

    python deploy/pin.py

Run it where the registries and GitHub can be reached, read the change, and commit it; run it again to take over
updates. A tag stays beside its digest, so that a reader sees the version. When a tag cannot be resolved, nothing is
written and the exit status is 1.
"""

import re
import subprocess  # nosec B404
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
DOCKERFILES: Final = ("deploy/*.Dockerfile", "*/Dockerfile")
COMPOSE_FILES: Final = ("docker-compose*.yml",)
WORKFLOWS: Final = (".github/workflows/*.yml",)

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
# Each has the groups `before`, `name` (with its tag) and, where it is pinned already, a digest to replace. Names below
# baseplate are images of this repository, and a name without a tag is an earlier stage.
_FROM: Final = re.compile(
    r"^(?P<before>FROM (?:--platform=\S+ )?|# syntax=)(?P<name>[\w./-]+:[\w.${}-]+)(?:@sha256:\w+)?", re.M
)
_ARGUMENT: Final = re.compile(r"^ARG (\w+)=(\S+)$", re.M)
_IMAGE: Final = re.compile(r"^(?P<before> *image: )(?P<name>(?!baseplate)[\w./-]+:[\w.-]+)(?:@sha256:\w+)?", re.M)
_USES: Final = re.compile(
    r"^(?P<before> *-? *uses: )(?P<name>[\w.-]+/[\w./-]+)@(?:[0-9a-f]{40} # )?(?P<tag>v[\w.]+)", re.M
)


class Unresolved(Exception):
    """A tag cannot be resolved; the message names it and why."""


def digest_of(image: str) -> str:
    """Return the digest of an image's list of platforms. Raises Unresolved."""
    command = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"]
    return _asked(image, command, _DIGEST)


def commit_of(action: str) -> str:
    """Return the commit of `owner/action@tag`. Raises Unresolved."""
    name, _, tag = action.partition("@")
    url = f"https://github.com/{'/'.join(name.split('/')[:2])}"
    # An annotated tag is an object of its own; `^{}` is the commit that it names, and is listed last.
    listed = ["git", "ls-remote", "--exit-code", url, f"refs/tags/{tag}", f"refs/tags/{tag}^{{}}"]
    return _asked(action, listed, _COMMIT)


def _asked(name: str, command: list[str], pattern: re.Pattern[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)  # nosec B603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unresolved(f"{name}: {error}") from error
    found = pattern.findall(done.stdout)
    if done.returncode or not found:
        reason = (done.stderr.strip().splitlines() or ["no digest was returned"])[-1]
        raise Unresolved(f"{name}: {reason}")
    return str(found[-1])


def pinned(text: str, pattern: re.Pattern[str], resolve: Callable[[str], str], known: dict[str, str]) -> str:
    """Return a file's text with each name pinned. `known` holds what was resolved before. Raises Unresolved."""

    # A digest belongs to one version, so it takes the place of a version that a build argument could change.
    defaults = dict(_ARGUMENT.findall(text))

    def pin(match: re.Match[str]) -> str:
        tag = match.groupdict().get("tag")
        name = match["name"] if tag is None else f"{match['name']}@{tag}"
        for variable, value in defaults.items():
            name = name.replace(f"${{{variable}}}", value)
        if name not in known:
            known[name] = resolve(name)
        if tag is None:
            return f"{match['before']}{name}@{known[name]}"
        return f"{match['before']}{match['name']}@{known[name]} # {tag}"

    return pattern.sub(pin, text)


def main(root: Path = ROOT) -> int:
    kinds: Mapping[tuple[str, ...], tuple[re.Pattern[str], Callable[[str], str]]] = {
        DOCKERFILES: (_FROM, digest_of),
        COMPOSE_FILES: (_IMAGE, digest_of),
        WORKFLOWS: (_USES, commit_of),
    }
    known: dict[str, str] = {}
    written: dict[Path, str] = {}
    try:
        for globs, (pattern, resolve) in kinds.items():
            for path in sorted(path for glob in globs for path in root.glob(glob)):
                written[path] = pinned(path.read_text(encoding="utf-8"), pattern, resolve, known)
    except Unresolved as error:
        sys.stderr.write(f"error: NOT PINNED: {error}; nothing was changed\n")
        return 1
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    sys.stdout.write("".join(f"{name}  {digest}\n" for name, digest in known.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
