"""Builds the images of services and gateway, and pushes them to a registry."""

import re
from collections.abc import Iterable
from pathlib import Path

from release_tool.compose_orchestrator import REPRODUCIBLE, git_revision, tag_of
from release_tool.console import Console
from release_tool.errors import Refused
from release_tool.programs import Client

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


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
        if not _TAG.fullmatch(tag):
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
        revision = git_revision(self._root) or "unknown"
        arguments = {"VERSION": self.tag, "REVISION": revision}
        dockerfile = self._root / "gateway" / "Dockerfile"
        if name != "gateway":
            arguments["SERVICE"] = name
            dockerfile = self._root / "deploy" / "service.Dockerfile"
        words = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        self._docker.run(
            "build", "--file", str(dockerfile), *words, "--tag", image, str(self._root), environment=REPRODUCIBLE
        )

    def _push(self, image: str) -> None:
        self._console.say(f"pushing {image}")
        self._docker.run("push", "--quiet", image)
