"""A service's images: the one in service (`current`), a release's candidate (`next`), the one before (`previous`)."""

import re
import subprocess  # nosec B404
import time
from pathlib import Path

from release_tool.compose import Stack
from release_tool.console import Console
from release_tool.errors import CommandFailed, Refused

CURRENT = "current"
NEXT = "next"
PREVIOUS = "previous"
RESERVED = (CURRENT, NEXT)

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# An attestation holds the time of the build, so that building the same again would make another image.
_REPRODUCIBLE = {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}


class Images:
    """The images of one service of a stack; their name is that of the compose file."""

    def __init__(self, stack: Stack, service: str, root: Path) -> None:
        self._stack = stack
        self._service = service
        self._root = root
        self.name = str(stack.configuration["services"][service]["image"]).rpartition(":")[0]

    def id(self, tag: str) -> str | None:
        """Return the id of a tagged image, or None."""
        try:
            return self._stack.docker("image", "inspect", "--format", "{{.Id}}", f"{self.name}:{tag}").strip()
        except CommandFailed:
            return None

    def tag(self, image: str, tag: str) -> None:
        """Give an image, by its id or reference, another tag."""
        self._stack.docker("tag", image, f"{self.name}:{tag}")

    def prepare(self, tag: str | None, console: Console) -> tuple[str, str]:
        """Return tag and id of the image to release: an existing one if it is named, otherwise one built now."""
        if tag is None:
            tag = tag_of(revision(self._root))
        elif not _TAG.fullmatch(tag) or tag in RESERVED:
            raise Refused(f"TAG={tag} cannot be: letters, digits, `_`, `.`, `-`, and none of {', '.join(RESERVED)}")
        elif image := self.id(tag):
            built = self._stack.docker("image", "inspect", "--format", "{{.Created}}", image).strip()
            console.say(f"{self.name}:{tag} exists, built {built[:19]} UTC")
            return tag, image
        console.say(f"building {self.name}:{tag} from {self._root}")
        self._build(tag)
        return tag, self.id(tag) or ""

    def _build(self, tag: str) -> None:
        arguments = {"SERVICE": self._service, "VERSION": tag, "REVISION": revision(self._root) or "unknown"}
        words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        dockerfile = self._root / "deploy" / "service.Dockerfile"
        self._stack.docker(
            *("build", "--file", str(dockerfile), *words, "--tag", f"{self.name}:{tag}", str(self._root)),
            environment=_REPRODUCIBLE,
        )


def revision(root: Path) -> str | None:
    """Return what git calls the working tree, such as `v1.2-3-gabc1234-dirty`, or None outside of a repository."""
    command = ["git", "-C", str(root), "describe", "--always", "--tags", "--dirty"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return described.stdout.strip() or None


def tag_of(revision: str | None) -> str:
    """Return an image tag for a working tree: its revision, or the time when there is none."""
    return (
        re.sub(r"[^A-Za-z0-9_.-]", "-", revision)[:128] if revision else time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    )
