"""Requests of every route, and the ways in which a server fails."""

from collections.abc import Mapping

from gateway_config.testing.client import Response
from gateway_config.testing.running import RunningGateway
from servicekit.testing.wire_server import Behaviour, closing, reply, responding

Request = tuple[str, str, dict[str, str]]

KEY = {"Idempotency-Key": "once"}
ASK_FOR_CANARY = {"X-Release": "v2"}

RETRYABLE: list[Request] = [
    ("GET", "/api/v1/users/profile", {}),
    ("HEAD", "/api/v1/notes/1", {}),
    ("GET", "/api/v1/users/stats/count", {}),
    ("GET", "/api/v1/notes/public/slug", {}),
    ("GET", "/api/v1/assets/1/content", {}),
    ("POST", "/api/v1/users/register", KEY),
    ("POST", "/api/users/register", KEY),
    ("POST", "/api/v1/notes", KEY),
    ("POST", "/api/v1/assets", KEY),
    ("POST", "/api/analytics/events", KEY),
]

NOT_RETRYABLE: list[Request] = [
    ("POST", "/api/v1/users/register", {}),
    ("POST", "/api/v1/notes", {}),
    ("POST", "/api/v1/assets", {}),
    ("POST", "/api/v1/analytics/events", {}),
    # Services accept no such keys.
    ("POST", "/api/v1/notes", {"Idempotency-Key": ""}),
    ("POST", "/api/v1/notes", {"Idempotency-Key": "x" * 256}),
    ("POST", "/api/v1/notes", {"Idempotency-Key": "\xe9"}),
    # These routes take no keys.
    ("POST", "/api/v1/users/login", KEY),
    ("POST", "/api/v1/users/refresh", KEY),
    ("POST", "/api/v1/users/logout", KEY),
    ("POST", "/api/v1/users/password", KEY),
    ("POST", "/api/v1/notes/1/publish", KEY),
    ("PUT", "/api/v1/notes/1", KEY),
    ("PATCH", "/api/v1/notes/1", KEY),
    ("DELETE", "/api/v1/notes/1", KEY),
    ("OPTIONS", "/api/v1/notes", KEY),
]

FAILURES: dict[str, Behaviour] = {
    **{str(status): responding(reply(status, b"broken", retry_after="9")) for status in (500, 502, 503, 504)},
    "closing": closing,
}


async def send(gateway: RunningGateway, request: Request, headers: Mapping[str, str] | None = None) -> Response:
    """Send one of these requests with more headers, and with a body if its method has one."""
    method, path, needed = request
    body = b"" if method in ("GET", "HEAD") else b"body"
    return await gateway.send(method, path, headers={**needed, **(headers or {})}, body=body)
