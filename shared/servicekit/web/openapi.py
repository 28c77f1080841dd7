"""What every OpenAPI document has: names of operations, and the error responses of each.

A client generator makes a function of each operation's id: `notes_create_note` is the route `create_note` below
`/api/v1/notes`.

Most errors follow from the parts of an operation: a body can be too large, a path can match nothing, a token can have
expired. A route declares the rest itself:

    @router.get("", responses=problems(403))

`default` remains for errors that no client can prepare for, such as a 500.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter
from fastapi.routing import APIRoute

from servicekit.core.errors import MAX_ERRORS
from servicekit.core.problems import PROBLEM_JSON

PROBLEM_SCHEMA: Final[Mapping[str, Any]] = {
    "title": "Problem",
    "description": "An error (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:baseplate:problem:not-found"]},
        "title": {"type": "string", "examples": ["Not Found"]},
        "status": {"type": "integer", "examples": [404]},
        "detail": {"type": "string", "examples": ["There is no such resource."]},
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
        "limit_bytes": {"description": "With `too-large`: the largest body.", "type": "integer"},
        "field": {"description": "With `conflict`: the field whose value is taken.", "type": "string"},
        "errors": {
            "description": "What is not accepted.",
            "type": "array",
            "maxItems": MAX_ERRORS,
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
_CONTENT: Final[Mapping[str, Any]] = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
ANY_PROBLEM: Final[dict[str, Any]] = {"description": "Another error", "content": _CONTENT}
_RETRY_AFTER: Final[Mapping[str, Any]] = {
    "Retry-After": {"description": "In seconds.", "schema": {"type": "integer", "minimum": 1}}
}
_WITH_RETRY_AFTER: Final = frozenset({409, 429, 503})
_PUBLIC_PATH: Final = re.compile(r"/api/v1/([a-z0-9-]+)")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that can fail with these statuses."""
    return {status: _problem(status) for status in statuses}


def operation_ids(service: str, routers: Sequence[APIRouter]) -> Callable[[APIRoute], str]:
    """Return a function that names a route's operation: the service's public prefix, or its name, and the function."""
    paths = (getattr(route, "path", "") for router in routers for route in router.routes)
    prefix = next((found[1] for path in paths if (found := _PUBLIC_PATH.match(path))), service).replace("-", "_")
    return lambda route: f"{prefix}_{route.name}"


def declaring_errors(generate: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Return a function that adds to the document of `generate` what each operation's parts imply."""

    def document() -> dict[str, Any]:
        schema = generate()
        schema.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                _require_if_match(method, operation)
                for status in implied_errors(path, operation):
                    operation["responses"].setdefault(str(status), _problem(status))
                operation["responses"] = dict(sorted(operation["responses"].items()))
        return schema

    return document


def _require_if_match(method: str, operation: Mapping[str, Any]) -> None:
    """Mark If-Match of a change as required. The route takes it as optional, to respond with 428 instead of 422."""
    for parameter in operation.get("parameters", ()):
        if parameter["name"] == "If-Match" and method != "get":
            parameter["required"] = True


def implied_errors(path: str, operation: Mapping[str, Any]) -> set[int]:
    """Return the error statuses that follow from an operation's path, body, parameters and security."""
    parameters = {(parameter["in"], parameter["name"]) for parameter in operation.get("parameters", ())}
    places = {place for place, _ in parameters}
    statuses: set[int] = set()
    if "requestBody" in operation:
        statuses |= {400, 413, 415, 422}
    if places & {"path", "query"}:
        statuses.add(422)
    if "path" in places:
        statuses.add(404)
    if ("header", "Idempotency-Key") in parameters:
        statuses |= {409, 422}
    if ("header", "If-Match") in parameters:
        statuses |= {400, 412, 428}
    if ("header", "If-None-Match") in parameters:
        statuses.add(400)
    if "security" in operation:
        # No valid token; the token of an API key that lacks the scope.
        statuses |= {401, 403}
    if path.startswith("/api/"):
        # The rate limits of the gateway and of the signed-in user; an unavailable store.
        statuses |= {429, 503}
    if path.startswith("/internal/"):
        # No valid sealed message; a service that is not allowed to call this.
        statuses |= {401, 403, 503}
    if path == "/ready":
        statuses.add(503)
    return statuses


def _problem(status: int) -> dict[str, Any]:
    described = {"description": HTTPStatus(status).phrase, "content": _CONTENT}
    return {**described, "headers": _RETRY_AFTER} if status in _WITH_RETRY_AFTER else described
