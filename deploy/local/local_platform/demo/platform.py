"""The platform that the tour goes through, as `DATA_DIR/run.json` describes it."""

import json
from pathlib import Path

from local_platform.cli.service_module import running_layout
from local_platform.platform.service_environment import keys_directory


class RunningPlatform:
    """Where everything is. What restarts keeps its address."""

    def __init__(self, data_dir: Path) -> None:
        """Raises InvalidOption when nothing runs there."""
        layout = running_layout(data_dir)
        document = json.loads(layout.run_file.read_text(encoding="utf-8"))
        self.gateway: str = document["gateway"]
        self._urls = [(process["service"], process["url"]) for process in document["processes"]]
        self._keys = keys_directory(layout)

    def urls(self, service: str) -> list[str]:
        """Return the base URL of each replica; none for a service that does not run."""
        return [url for name, url in self._urls if name == service]

    def keys(self, service: str) -> Path:
        """Return the directory that holds the keys of the pairs which this service is part of."""
        return self._keys / service
