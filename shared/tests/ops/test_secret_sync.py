"""Commands on the Secrets of a cluster: their changes are written back, and two of them never overwrite each other."""

import base64
import json
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from servicekit.ops.secret_sync import ChangedMeanwhile, SecretsApi, SyncedSecret, SyncError, run

LABELS = {"app.kubernetes.io/instance": "baseplate"}


class Cluster(BaseHTTPRequestHandler):
    """The API server's Secrets: names are unique, and only the version that was read can be replaced."""

    secrets: ClassVar[dict[str, dict[str, Any]]] = {}
    broken: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        secret = self.secrets.get(self.path.rpartition("/")[2])
        self._respond(200 if secret else 404, secret or {})

    def do_POST(self) -> None:
        secret = self._body()
        taken = secret["metadata"]["name"] in self.secrets
        self._respond(409, {}) if taken else self._store(secret, 1)

    def do_PUT(self) -> None:
        secret = self._body()
        version = self.secrets[secret["metadata"]["name"]]["metadata"]["resourceVersion"]
        if version != secret["metadata"]["resourceVersion"]:
            self._respond(409, {})
        else:
            self._store(secret, int(version) + 1)

    def _body(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return document

    def _store(self, secret: dict[str, Any], version: int) -> None:
        if self.broken:
            self._respond(self.broken.pop(), {"reason": "Forbidden"})
            return
        secret["metadata"]["resourceVersion"] = str(version)
        self.secrets[secret["metadata"]["name"]] = secret
        self._respond(201, secret)

    def _respond(self, status: int, document: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def api() -> Iterator[SecretsApi]:
    Cluster.secrets, Cluster.broken = {}, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Cluster) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield SecretsApi(lambda: HTTPConnection("127.0.0.1", server.server_port), "baseplate")
        server.shutdown()


def synced(directory: Path, name: str = "user-keys") -> SyncedSecret:
    return SyncedSecret(name, directory / name, LABELS)


def stored(name: str = "user-keys") -> dict[str, bytes]:
    return {key: base64.b64decode(text) for key, text in Cluster.secrets[name]["data"].items()}


def shell(script: str) -> list[str]:
    return ["sh", "-ceu", script]


def test_files_that_a_command_makes_become_secrets_with_the_release_s_labels(api: SecretsApi, tmp_path: Path) -> None:
    status = run(api, [synced(tmp_path), synced(tmp_path, "unused")], shell(f"echo new > {tmp_path}/user-keys/a.json"))

    assert (status, stored()) == (0, {"a.json": b"new\n"})
    assert Cluster.secrets["user-keys"]["metadata"]["labels"] == LABELS
    assert "unused" not in Cluster.secrets


def test_a_command_finds_the_files_and_what_it_removes_is_removed(api: SecretsApi, tmp_path: Path) -> None:
    run(api, [synced(tmp_path)], shell(f"cd {tmp_path}/user-keys; echo 1 > a.json; echo plan > .rotation.json"))
    script = (
        f"cd {tmp_path}/again/user-keys; test $(cat a.json) = 1; rm .rotation.json; touch .lock x.tmp; echo 2 > a.json"
    )

    assert run(api, [synced(tmp_path / "again")], shell(script)) == 0
    assert stored() == {"a.json": b"2\n"}


def test_services_see_a_change_while_the_command_goes_on(api: SecretsApi, tmp_path: Path) -> None:
    connection: HTTPConnection = api._connect()
    url = f"http://127.0.0.1:{connection.port}/api/v1/namespaces/baseplate/secrets/user-keys"
    script = f"""
import pathlib, time, urllib.request
pathlib.Path({str(tmp_path)!r}, "user-keys", "a.json").write_text("step 1")
while b"a.json" not in urllib.request.urlopen({url!r}).read():
    time.sleep(0.05)
"""
    Cluster.secrets["user-keys"] = {"metadata": {"name": "user-keys", "resourceVersion": "1"}}

    assert run(api, [synced(tmp_path)], [sys.executable, "-c", script]) == 0


def test_the_exit_status_is_the_command_s(api: SecretsApi, tmp_path: Path) -> None:
    assert run(api, [synced(tmp_path)], shell("exit 3")) == 3


def test_a_command_is_stopped_when_another_one_changes_its_secret(api: SecretsApi, tmp_path: Path) -> None:
    run(api, [synced(tmp_path)], shell(f"echo 1 > {tmp_path}/user-keys/a.json"))
    late = synced(tmp_path / "late")
    late.pull(api)
    run(api, [synced(tmp_path / "other")], shell(f"echo 2 > {tmp_path}/other/user-keys/a.json"))
    (late.directory / "a.json").write_text("3")

    with pytest.raises(ChangedMeanwhile, match="user-keys was changed"):
        late.push(api)
    assert stored() == {"a.json": b"2\n"}


def test_a_refusal_is_tried_again_and_named(
    api: SecretsApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Cluster.broken = [403]

    assert run(api, [synced(tmp_path)], shell(f"echo 1 > {tmp_path}/user-keys/a.json")) == 0
    assert "user-keys cannot be written: 403 Forbidden" in capsys.readouterr().err
    assert stored() == {"a.json": b"1\n"}


def test_outside_of_a_cluster_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(SyncError, match="this is no pod"):
        SecretsApi.of_pod()
