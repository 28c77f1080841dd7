"""Builds the images of services and gateway, and pushes them to a registry."""

import re
import subprocess  # nosec B404
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from release_tool.console import Console
from release_tool.errors import Refused
from release_tool.programs import Client

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# An attestation holds the time of the build, so that the same code would make another image each time.
REPRODUCIBLE = {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}


class ImageBuilder:
    """Builds images from the repository's root. `registry` is empty where none is used."""

    def __init__(self, docker: Client, root: Path, registry: str, tag: str | None, console: Console) -> None:
        self._docker = docker
        self._root = root
        self.registry = registry
        self._console = console
        self.tag = tag or tag_of(git_revision(root))

    def require_tag(self, tag: str) -> None:
        """Raise `Refused` for what is no tag."""
        if not TAG.fullmatch(tag):
            raise Refused(f"TAG={tag} is not possible: use letters, digits, `_`, `.`, `-`")

    def image(self, name: str) -> str:
        """Return the reference of a service's or the gateway's image."""
        return f"{self.registry}/baseplate/{name}:{self.tag}".lstrip("/")

    def build_all(self, names: Iterable[str]) -> None:
        """Build the images of these services and of the gateway, and push them if there is a registry."""
        for name in names:
            self._build(name, self.image(name))
            if self.registry:
                self._push(self.image(name))

    def build_and_push(self, name: str, image: str) -> None:
        """Build the image of a service for a cluster. Raises `Refused` without a registry."""
        if not self.registry:
            raise Refused("name an image that the cluster can pull (TAG=…), or a registry for a new one (REGISTRY=…)")
        self._build(name, image)
        self._push(image)

    def _build(self, name: str, image: str) -> None:
        self._console.say(f"building {image}")
        build_image(self._docker.run, self._root, name, image, self.tag)

    def _push(self, image: str) -> None:
        self._console.say(f"pushing {image}")
        self._docker.run("push", "--quiet", image)


def build_image(docker: Callable[..., str], root: Path, name: str, image: str, tag: str) -> None:
    """Build the image of a service or of the gateway. `docker` runs the program with the words that it gets."""
    arguments = {"VERSION": tag, "REVISION": git_revision(root) or "unknown"}
    dockerfile = root / "gateway" / "Dockerfile"
    if name != "gateway":
        arguments["SERVICE"] = name
        dockerfile = root / "deploy" / "service.Dockerfile"
    words = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
    docker("build", "--file", str(dockerfile), *words, "--tag", image, str(root), environment=REPRODUCIBLE)


def git_revision(root: Path) -> str | None:
    """Return what git calls the working tree, such as `v1.2-3-gabc1234-dirty`, or None outside of a repository."""
    command = ["git", "-C", str(root), "describe", "--always", "--tags", "--dirty"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return described.stdout.strip() or None


def tag_of(revision: str | None) -> str:
    """Return an image tag for a revision, or for the present time without one."""
    if revision is None:
        return time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return re.sub(r"[^A-Za-z0-9_.-]", "-", revision)[:128]
