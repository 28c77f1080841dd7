"""What a release keeps in the cluster: its journal, and the lock that admits one operator at a time.

The lock is a Lease. Its holder renews it; a holder that was killed loses it after `EXPIRY_SECONDS`.
"""

import contextlib
import getpass
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from release_tool.cluster import Cluster
from release_tool.errors import CommandFailed, Refused
from release_tool.journal import Journal, journal_of, journal_text

JOURNAL = "release-journal"
LOCK = "release-lock"
EXPIRY_SECONDS = 30
RENEWAL_SECONDS = 8.0
POLL_SECONDS = 1.0


class ClusterJournal:
    """The journal in a ConfigMap."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def read(self) -> Journal | None:
        found = self._cluster.find("configmap", JOURNAL)
        if found is None:
            return None
        try:
            return journal_of(found["data"]["journal"])
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(
                f"the ConfigMap {JOURNAL} cannot be read ({error}); remove it, then: make cluster-rollback SERVICE=…"
            ) from error

    def write(self, journal: Journal) -> None:
        self._cluster.put(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": JOURNAL, "labels": self._cluster.labels},
                "data": {"journal": journal_text(journal)},
            }
        )

    def remove(self) -> None:
        self._cluster.kubectl("delete", "configmap", JOURNAL, "--ignore-not-found")


@contextmanager
def cluster_lock(cluster: Cluster, action: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of an operator's tool. Raises `Refused` while another tool renews it."""
    lease = _acquire(cluster, action, say)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(cluster, lease, ended), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        _release(cluster, lease["spec"]["holderIdentity"])


def _acquire(cluster: Cluster, action: str, say: Callable[[str], None]) -> dict[str, Any]:
    holder = f"{getpass.getuser()}@{socket.gethostname()} {os.getpid()}: {action}"
    if (found := cluster.find("lease", LOCK)) is not None and found["spec"].get("holderIdentity"):
        found = _wait_for_expiry(cluster, found, say)
    lease: dict[str, Any] = found or {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": LOCK, "labels": dict(cluster.labels)},
    }
    lease["spec"] = {"holderIdentity": holder, "leaseDurationSeconds": EXPIRY_SECONDS, "renewTime": _now()}
    try:
        # The API server refuses to create what exists, and to replace what has changed since it was read.
        text = cluster.kubectl(
            "replace" if found else "create", "--filename=-", "--output=json", given=json.dumps(lease)
        )
    except CommandFailed as error:
        raise Refused(f"another command has just begun; wait for it ({error.summary})") from error
    acquired: dict[str, Any] = json.loads(text)
    return acquired


def _wait_for_expiry(cluster: Cluster, lease: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the lease once it has expired, by this host's clock. Raises `Refused` when it is renewed."""
    holder = lease["spec"]["holderIdentity"]
    say(f"waiting for up to {EXPIRY_SECONDS} s whether another command still runs ({holder})")
    end = time.monotonic() + EXPIRY_SECONDS
    while time.monotonic() < end:
        found = cluster.find("lease", LOCK)
        if found is None or not found["spec"].get("holderIdentity"):
            return found
        if found["spec"] != lease["spec"]:
            raise Refused(f"another command is running ({holder}); wait for it")
        time.sleep(POLL_SECONDS)
    return lease


def _renew(cluster: Cluster, lease: dict[str, Any], ended: threading.Event) -> None:
    """Renew the lease until the command has ended; interrupt the command when another one has the lease."""
    renewed = time.monotonic()
    while not ended.wait(RENEWAL_SECONDS):
        try:
            lease["spec"]["renewTime"] = _now()
            lease = json.loads(cluster.kubectl("replace", "--filename=-", "--output=json", given=json.dumps(lease)))
            renewed = time.monotonic()
        except CommandFailed:
            # The cluster may be unreachable for a moment.
            if time.monotonic() - renewed > EXPIRY_SECONDS - RENEWAL_SECONDS:
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _release(cluster: Cluster, holder: str) -> None:
    # A lock that is not released expires.
    with contextlib.suppress(CommandFailed):
        found = cluster.find("lease", LOCK)
        if found is not None and found["spec"].get("holderIdentity") == holder:
            found["spec"]["holderIdentity"] = ""
            cluster.kubectl("replace", "--filename=-", given=json.dumps(found))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
