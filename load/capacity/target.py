"""The platform under load: one that the script starts, or one at a URL."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from local_platform.platform.launcher import Platform, running_platform

UNLIMITED: Mapping[str, str] = {
    **{"GATEWAY_RATE_GENERAL": "0", "GATEWAY_RATE_AUTH": "0", "GATEWAY_RATE_UPLOAD": "0", "USER_RATE": "0"},
    # Lines of requests that succeed cost the same in production, so they stay.
    "LOG_LEVEL": "INFO",
}
# The limits of the scenario that is about limits. Its setup registers two accounts.
LIMITED: Mapping[str, str] = {"GATEWAY_RATE_GENERAL": "100", "GATEWAY_RATE_AUTH": "5", "USER_RATE": "30"}


@dataclass(frozen=True)
class Target:
    """An address. `platform` is None for a platform that was there before."""

    url: str
    platform: Platform | None = None
    data_dir: Path = field(default_factory=Path)

    def pids(self) -> dict[str, list[int]]:
        """Return the processes of the platform by service; none for a platform at a URL."""
        if self.platform is None:
            return {}
        found: dict[str, list[int]] = {}
        for process in json.loads((self.data_dir / "run.json").read_text())["processes"]:
            if process["pid"]:
                found.setdefault(process["service"], []).append(process["pid"])
        return found


@asynccontextmanager
async def started(
    data_dir: Path, *, replicas: int = 1, settings: Mapping[str, str] = UNLIMITED
) -> AsyncIterator[Target]:
    """Start a platform on a free port, and stop it at the end. Raises `LaunchError`."""
    async with running_platform(data_dir, replicas=replicas, settings=settings) as platform:
        yield Target(platform.gateway_url, platform, data_dir)
