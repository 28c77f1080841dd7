"""`traffic`: the share of a service's requests that its next version gets, while the gateway runs."""

import argparse
import http.client
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway_config.commands import check_command
from gateway_config.container.installation import Installation, InstallationError, parsed_weights, weights_json
from gateway_config.container.nginx import ReloadFailed, get_status, reload, wait_for_earlier_workers
from opskit.file_lock import file_lock

REACHED_SECONDS = 5.0
POLL_SECONDS = 0.05
SMOKE_TEST_SECONDS = 5.0

_DESCRIPTION = """\
traffic                 print the state of releases as JSON
traffic SERVICE 25      let SERVICE's next version (SERVICE-v2) answer 25 of a hundred requests; 0: only those that ask
                        for it by the header `X-Release: v2`; 100: all
traffic SERVICE off     end the release: everything goes to the stable version
traffic apply 18 JSON   replace the whole state, unless one with this serial number or a later one was applied before
traffic drain           wait, for 30 s at most, until requests that were begun by an earlier state are finished
traffic check SERVICE   ask every server of the next version whether it is ready, and whether its readable paths work
"""
_EPILOG = """\
A change is checked before it counts. When it fails, everything stays as it was. The command returns when no worker
accepts requests by the earlier state; requests that they have begun are finished.
Exit status: 0 done, 1 failed (the reason is on stderr), 2 called wrongly.
"""


class ChangeFailed(Exception):
    """NGINX refuses the change, or the canary does not answer; the message says which."""


def main(arguments: Sequence[str] | None = None, installation: Installation | None = None) -> int:
    """Run one of the forms of `traffic` and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="traffic",
        usage="traffic [--help] [SERVICE 0..100 | SERVICE off | apply SERIAL JSON | check SERVICE | drain]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    words = parser.parse_args(arguments).words
    installation = installation or Installation()
    try:
        match words:
            case []:
                print(weights_json(installation.read_weights()))  # noqa: T201 - this is the command's interface
            case ["drain"]:
                wait_for_earlier_workers(installation.target)
            case ["check", service] if service in installation.catalog:
                return _print_smoke_test(installation.canary_of(service))
            case ["apply", serial, state] if re.fullmatch("[1-9][0-9]{0,15}", serial):
                weights = apply_state(installation, int(serial), parsed_weights(state, "the argument"))
                print(weights_json(weights))  # noqa: T201
            case [service, weight] if service in installation.catalog and re.fullmatch("[0-9]{1,2}|100|off", weight):
                weights = set_weight(installation, service, None if weight == "off" else int(weight))
                print(weights_json(weights))  # noqa: T201
            case _:
                parser.error(
                    f"{' '.join(words)!r} is none of its forms; SERVICE is one of {', '.join(installation.catalog)}"
                )
    except (ChangeFailed, ReloadFailed, ValueError, OSError) as error:
        print(f"traffic: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


# Weights


def set_weight(installation: Installation, service: str, weight: int | None) -> Mapping[str, int]:
    """Give a service's canary this many of a hundred requests, or end its release with None; return all weights.

    When this returns, no worker that accepts requests uses the earlier weights. Raises `ChangeFailed`, `ReloadFailed`,
    `ValueError` or `OSError`; the earlier weights then stay in force.
    """
    with file_lock(installation.target / "release.lock"):
        before = installation.read_weights()
        after = {name: share for name, share in before.items() if name != service}
        if weight is not None:
            after[service] = weight
        if weight and service not in before:
            _add_pool(installation, service, before)
            before = {**before, service: 0}
        _change(installation, before, after)
        return after


def apply_state(installation: Installation, serial: int, after: Mapping[str, int]) -> Mapping[str, int]:
    """Replace all weights, unless a state with this serial number or a later one was applied; return those in force.

    Raises as `set_weight` does.
    """
    if unknown := sorted(after.keys() - installation.catalog.keys()):
        raise InstallationError(f"the state names {', '.join(unknown)}, which is no service")
    with file_lock(installation.target / "release.lock"):
        before = installation.read_weights()
        if serial <= installation.read_number(installation.serial_file):
            return before
        for service in after.keys() - before.keys():
            if after[service]:
                _add_pool(installation, service, before)
                before = {**before, service: 0}
        if before != after:
            _change(installation, before, after)
        installation.write_number(installation.serial_file, serial)
        return after


def share_limits(installation: Installation, gateways: int) -> None:
    """Divide the limits by this number of gateways. Raises as `set_weight` does."""
    with file_lock(installation.target / "release.lock"):
        before = installation.read_number(installation.gateways_file)
        installation.write_number(installation.gateways_file, gateways)
        weights = installation.read_weights()
        try:
            _change(installation, weights, weights)
        except BaseException:
            installation.write_number(installation.gateways_file, before)
            raise


def _add_pool(installation: Installation, service: str, before: Mapping[str, int]) -> None:
    """Add the canary's pool with weight 0, because it is empty until NGINX has resolved its name."""
    added = {**before, service: 0}
    _change(installation, before, added)
    try:
        _wait_for_canary(installation, service)
    except ChangeFailed:
        _change(installation, added, before)
        raise


def _change(installation: Installation, before: Mapping[str, int], after: Mapping[str, int]) -> None:
    reloading = False
    try:
        installation.render(after)
        _check(installation)
        installation.write_weights(after)
        reloading = True
        reload(installation.target)
    except BaseException:
        installation.write_weights(before)
        installation.render(before)
        if reloading:
            # NGINX may have loaded the change in the meantime.
            reload(installation.target)
        raise


def _check(installation: Installation) -> None:
    command = check_command(installation.nginx, installation.target)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ChangeFailed(f"NGINX refuses the configuration: {result.stderr.strip() or result.returncode}")


def _wait_for_canary(installation: Installation, service: str) -> None:
    """Wait until the canary responds to a request for it, other than with a server error or a rate limit."""
    path = f"/api/v1/{installation.catalog[service].prefix}"
    end = time.monotonic() + REACHED_SECONDS
    while not 200 <= (status := _canary_status(installation, path)) < 500 or status == 429:
        if time.monotonic() > end:
            raise ChangeFailed(f"{installation.canary_of(service)} does not answer through the gateway ({status})")
        time.sleep(POLL_SECONDS)


def _canary_status(installation: Installation, path: str) -> int:
    try:
        return get_status(installation.target, path, {"X-Release": "v2", "Host": "gateway"})
    except OSError:
        return 0


# The smoke test


@dataclass(frozen=True, slots=True)
class SmokeTestResult:
    """What the smoke test of one server found."""

    address: str
    problems: tuple[str, ...]
    paths: int

    def __str__(self) -> str:
        if self.problems:
            return f"{self.address} fails: {'; '.join(self.problems)}"
        return f"{self.address} is ready, and its {self.paths} readable paths answer"


def smoke_test(server: str) -> list[SmokeTestResult]:
    """Test every address of a server (host:port) directly. Raises `OSError` if the name has none."""
    host, _, port = server.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(f"{host} has no address: nothing of it runs ({error})") from error
    addresses = sorted({(str(entry[4][0]), int(entry[4][1])) for entry in found})
    return [_test_address(address, number) for address, number in addresses]


def _print_smoke_test(server: str) -> int:
    results = smoke_test(server)
    for result in results:
        print(result, file=sys.stderr if result.problems else sys.stdout)
    return 1 if any(result.problems for result in results) else 0


def _test_address(host: str, port: int) -> SmokeTestResult:
    problems: list[str] = []
    paths: list[str] = []
    try:
        status, body = _get(host, port, "/ready")
        if status != 200:
            problems.append(f"/ready answers {status}: {body[:200].decode(errors='replace')}")
        status, body = _get(host, port, "/openapi.json")
        paths = list(_readable_paths(body)) if status == 200 else []
        if not paths:
            problems.append(f"/openapi.json answers {status} and names no path")
        for path in paths:
            # Without a token most routes answer 401, and without parameters some answer 422: both work.
            if (status := _get(host, port, path)[0]) >= 500:
                problems.append(f"{path} answers {status}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        problems.append(str(error) or repr(error))
    return SmokeTestResult(f"{host}:{port}", tuple(problems), len(paths))


def _readable_paths(document: bytes) -> Iterator[str]:
    for path, operations in json.loads(document).get("paths", {}).items():
        if "get" in operations and "{" not in path:
            yield path


def _get(host: str, port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=SMOKE_TEST_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except OSError as error:
        raise OSError(f"{path}: {error}") from error
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
