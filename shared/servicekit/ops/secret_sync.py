"""`python -m servicekit.ops.secret_sync --secret NAME=DIRECTORY… -- COMMAND…`: run a command on Kubernetes Secrets.

Commands that make and rotate keys work on directories. This writes each Secret's keys as files into its directory, runs
the command, and writes each changed file back into its Secret within half a second, so that services see the steps of a
rotation. If another job changes one of the Secrets meanwhile, the command is stopped.
"""

import argparse
import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final

# Mounted into every pod that may use the API (https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/).
ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CHECK_SECONDS: Final = 0.5
# After the command has ended, changes that could not be written yet are tried for this long.
LAST_TRIES_SECONDS: Final = 60.0
REQUEST_SECONDS: Final = 10.0

Files = Mapping[str, bytes]


class SyncError(Exception):
    """The Secrets cannot be read or written; the message holds no secret."""


class ChangedMeanwhile(SyncError):
    """Somebody else has written the Secret since it was read."""


class SecretsApi:
    """The Secrets of a namespace, over the API server's HTTP interface."""

    def __init__(self, connect: Any, namespace: str, token: Path | None = None) -> None:
        """Take a function that opens a connection, and the file of the token, which the kubelet renews."""
        self._connect = connect
        self._path = f"/api/v1/namespaces/{namespace}/secrets"
        self._token = token

    @classmethod
    def of_pod(cls) -> "SecretsApi":
        """Return the API that the pod of this process may use. Raises `SyncError` outside of a cluster."""
        try:
            host, port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
            context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
            namespace = (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
        except (KeyError, ValueError, OSError) as error:
            raise SyncError(f"this is no pod that may use the cluster's API: {error}") from error
        return cls(
            lambda: HTTPSConnection(host, port, timeout=REQUEST_SECONDS, context=context), namespace, ACCOUNT / "token"
        )

    def read(self, name: str) -> Mapping[str, Any] | None:
        """Return a Secret, or None. Raises `SyncError`."""
        status, document = self._request("GET", f"{self._path}/{name}")
        if status == 404:
            return None
        return self._checked("read", name, status, document)

    def write(self, secret: Mapping[str, Any]) -> Mapping[str, Any]:
        """Create a Secret, or replace the version that was read, and return it. Raises `SyncError`."""
        metadata = secret["metadata"]
        if "resourceVersion" in metadata:
            status, document = self._request("PUT", f"{self._path}/{metadata['name']}", secret)
        else:
            status, document = self._request("POST", self._path, secret)
        if status == 409:
            raise ChangedMeanwhile(f"the Secret {metadata['name']} was changed by somebody else; run this again")
        return self._checked("written", metadata["name"], status, document)

    def _checked(self, verb: str, name: str, status: int, document: Mapping[str, Any]) -> Mapping[str, Any]:
        if status >= 300:
            raise SyncError(f"the Secret {name} cannot be {verb}: {status} {document.get('reason', '')}".rstrip())
        return document

    def _request(self, method: str, path: str, body: Any = None) -> tuple[int, Mapping[str, Any]]:
        connection: HTTPConnection = self._connect()
        try:
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            if self._token:
                headers["Authorization"] = f"Bearer {self._token.read_text(encoding='utf-8').strip()}"
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"{}")
        except (OSError, HTTPException, ValueError) as error:
            raise SyncError(f"the cluster's API does not respond: {error!r}") from error
        finally:
            connection.close()


@dataclass(slots=True)
class SyncedSecret:
    """One Secret and its directory."""

    name: str
    directory: Path
    labels: Mapping[str, str]
    _written: Files = field(default_factory=dict)
    _object: Mapping[str, Any] = field(default_factory=dict)

    def pull(self, api: SecretsApi) -> None:
        """Write the Secret's keys as files. Raises `SyncError` and OSError."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._object = api.read(self.name) or {"metadata": {"name": self.name, "labels": dict(self.labels)}}
        self._written = {key: base64.b64decode(text) for key, text in self._object.get("data", {}).items()}
        for key, content in self._written.items():
            path = self.directory / key
            path.touch(mode=0o600)
            path.write_bytes(content)

    def push(self, api: SecretsApi) -> bool:
        """Write the files into the Secret if one has changed, and say whether. Raises `SyncError` and OSError."""
        files = _files(self.directory)
        if files == self._written:
            return False
        data = {key: base64.b64encode(content).decode() for key, content in files.items()}
        self._object = api.write({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", **self._object, "data": data})
        self._written = files
        return True


def run(api: SecretsApi, secrets: Sequence[SyncedSecret], command: Sequence[str]) -> int:
    """Run the command on the Secrets' directories and return its exit status. Raises `SyncError`."""
    for secret in secrets:
        secret.pull(api)
    with subprocess.Popen(command) as process:
        # As the first process of a container this one gets the signal, and the command does not.
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(CHECK_SECONDS)
                _push_what_works(api, secrets)
        except BaseException:
            process.terminate()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
    end = time.monotonic() + LAST_TRIES_SECONDS
    while not _push_what_works(api, secrets):
        if time.monotonic() > end:
            raise SyncError("the last changes could not be written")
        time.sleep(CHECK_SECONDS)
    return process.returncode


def _push_what_works(api: SecretsApi, secrets: Sequence[SyncedSecret]) -> bool:
    """Push all Secrets and say whether none failed. Raises `ChangedMeanwhile`."""
    complete = True
    for secret in secrets:
        try:
            if secret.push(api):
                sys.stdout.write(f"  wrote the Secret {secret.name}\n")
        except ChangedMeanwhile:
            raise
        except SyncError as error:
            sys.stderr.write(f"{error}\n")
            complete = False
    return complete


def _files(directory: Path) -> Files:
    """Return the files of a directory, without locks and unfinished ones."""
    files = {}
    for path in sorted(directory.iterdir()):
        if path.name != ".lock" and path.suffix != ".tmp" and path.is_file():
            files[path.name] = path.read_bytes()
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the command's exit status, or 1 after a message."""
    parser = argparse.ArgumentParser(prog="python -m servicekit.ops.secret_sync", description=__doc__)
    parser.add_argument("--secret", action="append", required=True, metavar="NAME=DIRECTORY")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="of Secrets that are made")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    labels = dict(label.split("=", 1) for label in options.label)
    secrets = [SyncedSecret(name, Path(path), labels) for name, path in (text.split("=", 1) for text in options.secret)]
    try:
        return run(SecretsApi.of_pod(), secrets, options.command)
    except (SyncError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
