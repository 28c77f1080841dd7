"""The user for a server that refuses to run as root."""

import os
import pwd
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local_platform.errors import ServerMissing

UNPRIVILEGED = "nobody"


@dataclass(frozen=True, slots=True)
class Identity:
    """A user: the wrapper that runs a command as this user, and the owner that files need for it."""

    wrapper: Sequence[str]
    uid: int
    gid: int

    def take_ownership(self, directory: Path) -> None:
        """Give this user a directory with all its content, which an earlier start may have given to another user."""
        if directory.stat().st_uid == self.uid:
            return
        for path in [directory, *directory.rglob("*")]:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def unprivileged_identity(*reached: Path) -> Identity:
    """Return a user other than root that can reach these paths.

    An ordinary user stays the same. Root becomes `nobody` where that user can reach all paths. Below a directory that
    is closed to others, such as /root, a user namespace maps root to `nobody`: the server sees an ordinary uid while
    its files stay root's.
    """
    if os.geteuid() != 0:
        return Identity((), os.geteuid(), os.getegid())
    setpriv, unshare = shutil.which("setpriv"), shutil.which("unshare")
    user = pwd.getpwnam(UNPRIVILEGED)
    if setpriv is not None and all(_open_to_others(path) for path in reached):
        wrapper = [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
        return Identity(wrapper, user.pw_uid, user.pw_gid)
    if unshare is not None:
        wrapper = [unshare, "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}", "--"]
        return Identity(wrapper, os.geteuid(), os.getegid())
    raise ServerMissing(
        "PostgreSQL refuses to run as root: start as an ordinary user, or install the package util-linux"
    )


def _open_to_others(path: Path) -> bool:
    """Whether every user may pass through all directories above this path."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)
