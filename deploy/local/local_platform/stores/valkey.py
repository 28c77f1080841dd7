"""The local Valkey server: its process and its readiness."""

from collections.abc import Mapping
from pathlib import Path

from local_platform.binaries import VALKEY
from local_platform.layout import Layout
from local_platform.secret_files import SecretFiles
from local_platform.stores.valkey_access import ValkeyAccess
from local_platform.supervision.managed_process import ProcessSpec
from local_platform.supervision.ports import HOST
from local_platform.supervision.process import Command
from opskit.valkey_acl import acl

NAME = "valkey"


class LocalValkey:
    """A Valkey server that keeps nothing on disk: all of its content can be rebuilt."""

    def __init__(self, layout: Layout, port: int, secrets: SecretFiles) -> None:
        self._layout = layout
        self._secrets = secrets
        self._binary = VALKEY.find()
        self.access = ValkeyAccess(HOST, port, secrets.value("valkey.password"))

    def process_spec(self, passwords: Mapping[str, str], issuers: frozenset[str]) -> ProcessSpec:
        """Return the server's process; its ACL admits these services."""
        acl_file = self._secrets.store("valkey.acl", acl(self.access.password, passwords, issuers))
        directory = self._layout.work(NAME)
        options = {
            "--bind": HOST,
            "--port": str(self.access.port),
            "--dir": str(directory),
            "--aclfile": str(acl_file),
            "--save": "",
            "--appendonly": "no",
        }
        return ProcessSpec(
            name=NAME,
            service=NAME,
            url=f"redis://{HOST}:{self.access.port}",
            command=Command(
                argv=[str(self._binary), *(word for pair in options.items() for word in pair)],
                directory=directory,
                log=self._layout.log(NAME),
            ),
            probe=self.access.probe,
            before_start=lambda: _remove_snapshots(directory),
        )


def _remove_snapshots(directory: Path) -> None:
    """Remove what an operator has saved: the server would load it, and would not start on a damaged one."""
    for snapshot in directory.glob("*.rdb"):
        snapshot.unlink()
