"""The user that runs PostgreSQL."""

import os
import pwd

import pytest

from local_platform.errors import ServerMissing
from local_platform.stores.identity import unprivileged_identity

UNKNOWN = 4_000_123_456


@pytest.fixture
def unknown_uid(monkeypatch) -> None:
    """A process whose uid has no entry in /etc/passwd."""
    monkeypatch.setattr(os, "geteuid", lambda: UNKNOWN)
    with pytest.raises(KeyError):
        pwd.getpwuid(UNKNOWN)


def test_a_uid_without_a_name_gets_one_in_a_user_namespace(unknown_uid, monkeypatch, tmp_path):
    (tmp_path / "unshare").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    identity = unprivileged_identity(tmp_path)
    assert identity.wrapper[0] == str(tmp_path / "unshare")
    assert identity.uid == UNKNOWN


@pytest.mark.parametrize("script", ["", "#!/bin/sh\nexit 1\n"], ids=["no unshare", "no permission"])
def test_where_that_is_impossible_the_error_says_what_to_do(unknown_uid, monkeypatch, tmp_path, script):
    if script:
        (tmp_path / "unshare").write_text(script)
        (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerMissing, match=f"user id {UNKNOWN} has no entry in /etc/passwd.*useradd"):
        unprivileged_identity(tmp_path)
