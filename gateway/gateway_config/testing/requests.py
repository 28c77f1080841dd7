"""Requests of every rule set, as tests of releases send them, and the ways in which a candidate fails."""

from collections.abc import Mapping
from typing import Any

from servicekit.testing.wire_server import Behaviour, answering, closing, reply

KEY = {"Idempotency-Key": "once"}
BY_HAND = {"X-Release": "v2"}

REPEATABLE: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "/api/v1/users/profile", {}),
    ("HEAD", "/api/v1/notes/1", {}),
    ("GET", "/api/v1/users/stats/count", {}),
    ("GET", "/api/v1/notes/public/slug", {}),
    ("GET", "/api/v1/assets/1/content", {}),
    ("POST", "/api/v1/users/register", KEY),
    ("POST", "/api/v1/notes", KEY),
    ("POST", "/api/v1/assets", KEY),
    ("POST", "/api/analytics/events", KEY),
]

SENT_ONCE: list[tuple[str, str, dict[str, str]]] = [
    ("POST", "/api/v1/users/register", {}),
    ("POST", "/api/v1/users/login", KEY),
    ("POST", "/api/v1/users/password", KEY),
    ("POST", "/api/v1/notes", {}),
    ("POST", "/api/v1/assets", {}),
    ("POST", "/api/v1/notes/1/publish", KEY),
    ("PUT", "/api/v1/notes/1", KEY),
    ("PATCH", "/api/v1/notes/1", KEY),
    ("DELETE", "/api/v1/notes/1", KEY),
]

BROKEN: dict[str, Behaviour] = {
    **{str(status): answering(reply(status, b"broken", retry_after="9")) for status in (500, 502, 503, 504)},
    "closing": closing,
}


async def send(release: Any, request: tuple[str, str, Mapping[str, str]], **headers: str) -> Any:
    """Send one of these requests through a release's gateway, with a body if its method has one."""
    method, path, needed = request
    body = b"" if method in ("GET", "HEAD") else b"body"
    return await release.gateway.send(method, path, headers={**needed, **headers}, body=body)
