"""Every worker reports the keys that it holds, before and after a change, through any other worker too."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from servicekit.auth.access_tokens import RemoteKeys
from servicekit.observability import metrics
from servicekit.observability.key_metrics import KeyState
from servicekit.ops.rotation.workers import WorkerKeys, worker_reports
from servicekit.sealing import keyring as keyring_module
from servicekit.sealing.key_files import ensure_keys, new_key, pair_document, read_entries
from servicekit.sealing.keyring import Keyring
from servicekit.testing.sealed import Pair

CATALOG = {"held-a": Pair("held-a", ("held-b",)), "held-b": Pair("held-b")}
NAME = "held-a--held-b"


def _reported() -> WorkerKeys:
    """Return what this process reports; without the directory for several workers there is one of them."""
    return worker_reports(metrics.render()[0].decode())[""]


def test_a_keyring_reports_its_keys_and_what_became_of_them(tmp_path: Path) -> None:
    ensure_keys(tmp_path, CATALOG)
    path = tmp_path / "held-a" / f"{NAME}.json"
    keyring = Keyring("held-a", tmp_path / "held-a")
    (old,) = read_entries(path)
    assert _reported()[NAME] == {old["id"]: KeyState.IN_USE}

    new = new_key(datetime.now(UTC))
    path.write_bytes(pair_document("held-a", "held-b", [new, old]))
    keyring.refresh()
    assert _reported()[NAME] == {old["id"]: KeyState.HELD, new["id"]: KeyState.IN_USE}

    path.write_bytes(pair_document("held-a", "held-b", [new]))
    keyring.refresh()
    assert _reported()[NAME] == {old["id"]: KeyState.DROPPED, new["id"]: KeyState.IN_USE}

    path.unlink()
    keyring.refresh()
    assert set(_reported()[NAME].values()) == {KeyState.DROPPED}


def test_a_damaged_file_leaves_the_report_at_the_keys_that_stay_in_use(tmp_path: Path) -> None:
    ensure_keys(tmp_path, CATALOG)
    path = tmp_path / "held-b" / f"{NAME}.json"
    keyring = Keyring("held-b", tmp_path / "held-b")
    before = dict(_reported()[NAME])
    path.write_bytes(b"{")
    keyring.refresh()
    assert _reported()[NAME] == before


def test_a_worker_announces_itself_before_it_reads_its_first_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise one that has read the old keys could stay unseen while everybody else has the new ones."""
    ensure_keys(tmp_path, CATALOG)
    steps: list[str] = []
    read = keyring_module.read_key_file
    monkeypatch.setattr(keyring_module, "announce_worker", lambda: steps.append("announced"))
    monkeypatch.setattr(keyring_module, "read_key_file", lambda path: steps.append("read") or read(path))
    Keyring("held-a", tmp_path / "held-a")
    assert steps == ["announced", "read"]


async def test_the_keys_of_access_tokens_are_reported_when_they_were_fetched() -> None:
    point = {"x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}

    async def fetch() -> dict[str, list[dict[str, str]]]:
        return {"keys": [{"kty": "EC", "crv": "P-256", "kid": "reported", **point}]}

    await RemoteKeys(fetch).key("reported")
    assert _reported()["access-tokens"]["reported"] == KeyState.HELD


WORKER = """
import sys
from servicekit.observability.key_metrics import KeyMetrics, announce_worker
announce_worker()
KeyMetrics("a--b").report(sys.argv[1:], in_use=sys.argv[1])
"""
ASK = "import sys; from servicekit.observability import metrics; sys.stdout.write(metrics.render()[0].decode())"


def test_one_worker_tells_of_all(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def run(code: str, *arguments: str) -> str:
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    run(WORKER, "new", "old")
    run(WORKER, "old")
    reports = worker_reports(run(ASK))
    assert len(reports) == 2
    assert {tuple(sorted(report["a--b"].items())) for report in reports.values()} == {
        (("new", 2), ("old", 1)),
        (("old", 2),),
    }
