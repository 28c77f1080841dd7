"""The user for a server that refuses to run as root."""

import contextlib
import os
import pwd
import shutil
import stat
import subprocess  # nosec B404
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
        return Identity(_name_for_unknown_uid(), os.geteuid(), os.getegid())
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


def _name_for_unknown_uid() -> Sequence[str]:
    """Return the wrapper under which this user has a name, empty where it has one: initdb asks for it.

    A container may run as any uid. A user namespace shows it as one that /etc/passwd lists; files stay the user's.
    """
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        pass
    else:
        return ()
    unshare = shutil.which("unshare")
    with contextlib.suppress(KeyError):
        user = pwd.getpwnam(UNPRIVILEGED)
        wrapper = [str(unshare), "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}", "--"]
        if unshare and subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode == 0:
            return wrapper
    raise ServerMissing(
        f"the user id {os.geteuid()} has no entry in /etc/passwd, and PostgreSQL refuses to run without a user name; "
        "run as a user that is listed there, or add an entry (useradd --uid …)"
    )


def _open_to_others(path: Path) -> bool:
    """Whether every user may pass through all directories above this path."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)
