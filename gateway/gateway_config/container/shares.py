"""Moving the traffic of a release: one change at a time, checked before it counts, undone when it fails."""

import fcntl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gateway_config.commands import check_command
from gateway_config.container.installation import Installation
from gateway_config.container.nginx import reload
from gateway_config.container.own_listener import ask
from gateway_config.container.release_state import read_weights, write_weights

REACHED_SECONDS = 5.0
POLL_SECONDS = 0.05


class ChangeFailed(Exception):
    """NGINX refuses the change, or the candidate does not answer; the message says which."""


def set_share(installation: Installation, service: str, weight: int | None) -> Mapping[str, int]:
    """Give a service's candidate this many of a hundred requests, or with None end its release; return all weights.

    It returns when no worker that accepts requests goes by the earlier weights. Raises `ChangeFailed`, `ReloadFailed`,
    `ValueError` or `OSError`; the traffic then goes where it went before.
    """
    with _alone(installation):
        before = read_weights(installation.release_file)
        after = {name: share for name, share in before.items() if name != service}
        if weight is not None:
            after[service] = weight
        if weight and service not in before:
            _introduce(installation, service, before)
            before = {**before, service: 0}
        _change(installation, before, after)
        return after


def _introduce(installation: Installation, service: str, before: Mapping[str, int]) -> None:
    """Let NGINX know the candidate's pool before it gets traffic: it is empty until its addresses were asked for."""
    introduced = {**before, service: 0}
    _change(installation, before, introduced)
    try:
        _wait_for_candidate(installation, service)
    except ChangeFailed:
        _change(installation, introduced, before)
        raise


@contextmanager
def _alone(installation: Installation) -> Iterator[None]:
    """Wait until nobody else is changing anything. The lock of a process that is killed goes with it."""
    with (installation.target / "release.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _change(installation: Installation, before: Mapping[str, int], after: Mapping[str, int]) -> None:
    reloading = False
    try:
        installation.render(after)
        _check(installation)
        write_weights(installation.release_file, after)
        reloading = True
        reload(installation.target)
    except BaseException:
        write_weights(installation.release_file, before)
        installation.render(before)
        if reloading:
            # It may have taken the change in the meantime.
            reload(installation.target)
        raise


def _check(installation: Installation) -> None:
    command = check_command(installation.nginx, installation.target)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ChangeFailed(f"NGINX refuses the configuration: {result.stderr.strip() or result.returncode}")


def _wait_for_candidate(installation: Installation, service: str) -> None:
    """Return when a request that asks for the candidate gets an answer that is not a failure, whatever it says."""
    path = f"/api/v1/{installation.catalog[service].prefix}"
    end = time.monotonic() + REACHED_SECONDS
    while not 200 <= (status := _status(installation, path)) < 500 or status == 429:
        if time.monotonic() > end:
            raise ChangeFailed(f"{installation.candidate_of(service)} does not answer through the gateway ({status})")
        time.sleep(POLL_SECONDS)


def _status(installation: Installation, path: str) -> int:
    try:
        return ask(installation.target, path, {"X-Release": "v2", "Host": "gateway"})
    except OSError:
        return 0
