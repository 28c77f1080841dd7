"""Moving the traffic of a release: one change at a time, checked before it counts, undone when it fails."""

import fcntl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gateway_config.commands import check_command
from gateway_config.container.installation import Installation
from gateway_config.container.master import ReloadFailed, reload
from gateway_config.container.own_listener import ask
from gateway_config.container.release_state import read_weights, write_weights

REACHED_SECONDS = 5.0
POLL_SECONDS = 0.05


class ChangeFailed(Exception):
    """The traffic goes where it went before; the message says why."""


def set_share(installation: Installation, service: str, weight: int | None) -> Mapping[str, int]:
    """Give a service's candidate this many of a hundred requests, or with None end its release; return all weights.

    It returns when no worker that accepts requests goes by the earlier weights. Raises `ChangeFailed`.
    """
    with _alone(installation):
        before = read_weights(installation.release_file)
        after = {name: share for name, share in before.items() if name != service}
        if weight is not None:
            after[service] = weight
        if weight and service not in before:
            # A pool that NGINX has only just heard of is empty for the moment in which it asks for the addresses.
            _change(installation, before, {**after, service: 0})
            try:
                _wait_for_candidate(installation, service)
            except ChangeFailed:
                _change(installation, after, before)
                raise
        _change(installation, before, after)
        return after


@contextmanager
def _alone(installation: Installation) -> Iterator[None]:
    """Wait until nobody else is changing anything. The lock of a process that is killed goes with it."""
    with (installation.target / "release.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _change(installation: Installation, before: Mapping[str, int], after: Mapping[str, int]) -> None:
    try:
        installation.render(after)
        _check(installation)
        write_weights(installation.release_file, after)
        reload(installation.target)
    except (ChangeFailed, ReloadFailed, ValueError, OSError) as error:
        _restore(installation, before)
        raise ChangeFailed(str(error)) from error
    except BaseException:
        _restore(installation, before)
        raise


def _restore(installation: Installation, weights: Mapping[str, int]) -> None:
    write_weights(installation.release_file, weights)
    try:
        installation.render(weights)
        reload(installation.target)
    except (ReloadFailed, ValueError, OSError):
        # The reason of the failure is on its way to the caller. NGINX runs on what it had, and the next change renders
        # anew from the weights that were just restored.
        return


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
