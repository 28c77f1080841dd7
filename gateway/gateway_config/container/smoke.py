"""The smoke test of a release's servers: each of them is asked directly, before it gets any client's request."""

import http.client
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass

SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one server showed."""

    address: str
    problems: tuple[str, ...]
    paths: int

    def __str__(self) -> str:
        if self.problems:
            return f"{self.address} fails: {'; '.join(self.problems)}"
        return f"{self.address} is ready, and its {self.paths} readable paths answer"


def examine(server: str) -> list[Finding]:
    """Examine every address of a server (host:port). Raises `OSError` when the name has none."""
    host, _, port = server.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(f"{host} has no address: nothing of it runs ({error})") from error
    addresses = sorted({(str(entry[4][0]), int(entry[4][1])) for entry in found})
    return [_finding(address, number) for address, number in addresses]


def _finding(host: str, port: int) -> Finding:
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
    return Finding(f"{host}:{port}", tuple(problems), len(paths))


def _readable_paths(document: bytes) -> Iterator[str]:
    for path, operations in json.loads(document).get("paths", {}).items():
        if "get" in operations and "{" not in path:
            yield path


def _get(host: str, port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError as error:
        raise OSError(f"{path}: {error}") from error
    finally:
        connection.close()
