"""Nothing below DATA_DIR is open to other users of the machine, and no server needs it to be."""

import os
import stat
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local_platform.secret_files import withdraw_rights

# PostgreSQL's user passes through these when the platform is started as root.
PASSABLE = {Path(), Path("stores")} if os.geteuid() == 0 else set()


def _open_to_others(root: Path) -> list[str]:
    found = []
    for path in [root, *root.rglob("*")]:
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        allowed = 0o011 if path.relative_to(root) in PASSABLE else 0
        if not stat.S_ISLNK(status.st_mode) and stat.S_IMODE(status.st_mode) & 0o077 & ~allowed:
            found.append(f"{stat.filemode(status.st_mode)} {path.relative_to(root)}")
    return found


@pytest.mark.needs("assets")
async def test_no_file_of_a_running_platform_is_open_to_other_users(
    running: Any, gateway: httpx2.AsyncClient, sign_in: Any
) -> None:
    ada = await sign_in()
    files = {"file": ("a.txt", b"a text", "text/plain")}
    asset = await gateway.post("/api/v1/assets", files=files, headers=ada.headers)
    content = await gateway.get(f"/api/v1/assets/{asset.json()['id']}/content", headers=ada.headers)
    assert content.content == b"a text"

    assert (running.data_dir / "gateway" / "access.log").exists()
    assert list((running.data_dir / "assets").rglob("*"))
    # The mode of the directory itself stays as its owner set it.
    assert [line for line in _open_to_others(running.data_dir) if not line.endswith(" .")] == []


def test_what_an_earlier_version_left_open_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "assets" / "objects"
    folder.mkdir(parents=True)
    (folder / "a").write_bytes(b"")
    (folder / "a").chmod(0o644)
    (tmp_path / "assets" / "link").symlink_to("/etc/hostname")
    before = Path("/etc/hostname").stat().st_mode

    withdraw_rights(tmp_path / "assets")
    withdraw_rights(tmp_path / "missing")
    assert _open_to_others(tmp_path / "assets") == []
    assert Path("/etc/hostname").stat().st_mode == before
