"""What every OpenAPI document has: names of operations, and the error responses of each.

A client generator makes a function of each operation's id: `notes_create_note` is the route `create_note` below
`/api/v1/notes`.

Most errors follow from the parts of an operation: a body can be too large, a path can match nothing, a token can have
expired. A route declares the rest itself:

    @router.get("", responses=problems(RoleRequired))

Each error of an operation has an example by its code. `default` remains for errors that no client can prepare for,
such as a 500.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from fastapi import APIRouter
from fastapi.routing import APIRoute

from servicekit.core.errors import MAX_ERRORS, TYPE_PREFIX, ServiceError
from servicekit.core.problems import PROBLEM_JSON, title

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
_SCHEMA: Final[Mapping[str, Any]] = {"$ref": "#/components/schemas/Problem"}
ANY_PROBLEM: Final[dict[str, Any]] = {"description": "Another error", "content": {PROBLEM_JSON: {"schema": _SCHEMA}}}
_RETRY_AFTER: Final[Mapping[str, Any]] = {
    "Retry-After": {"description": "In seconds.", "schema": {"type": "integer", "minimum": 1}}
}
_WITH_RETRY_AFTER: Final = frozenset({409, 429, 503})
_PUBLIC_PATH: Final = re.compile(r"/api/v1/([a-z0-9-]+)")
# The member of a route's responses that names the codes of its own errors, until the document is complete.
_CODES: Final = "x-problem-codes"
# What no client can prepare for.
_UNEXPECTED: Final = ("internal-error", "deadline-exceeded")


def problems(*errors: type[ServiceError] | int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that can fail with these errors. A status stands for the kit's error of it."""
    codes = defaultdict(list)
    general = {
        error.status: error for error in ServiceError.__subclasses__() if error.__module__ == ServiceError.__module__
    }
    for error in (general[error] if isinstance(error, int) else error for error in errors):
        codes[error.status].append(_code(error))
    return {status: {**_problem(status), _CODES: names} for status, names in codes.items()}


def operation_ids(service: str, routers: Sequence[APIRouter]) -> Callable[[APIRoute], str]:
    """Return a function that names a route's operation: the service's public prefix, or its name, and the function."""
    paths = (getattr(route, "path", "") for router in routers for route in router.routes)
    prefix = next((found[1] for path in paths if (found := _PUBLIC_PATH.match(path))), service).replace("-", "_")
    return lambda route: f"{prefix}_{route.name}"


def declaring_errors(generate: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Return a function that adds to the document of `generate` what each operation's parts imply."""

    # The framework returns the same document each time.
    @cache
    def document() -> dict[str, Any]:
        schema = generate()
        classes = {_code(error): error for error in _error_classes()}
        components = schema.setdefault("components", {})
        components.setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
        components["examples"] = {code: _example(classes[code]) for code in sorted(classes)}
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                _require_if_match(method, operation)
                _declare(operation["responses"], [classes[code] for code in implied_errors(path, operation)])
                operation["responses"] = dict(sorted(operation["responses"].items()))
        return schema

    return document


def _declare(responses: dict[str, Any], implied: Sequence[type[ServiceError]]) -> None:
    """Add responses for the implied errors of an operation, and the examples of these and of its own errors."""
    codes = {status: list(response.pop(_CODES, [])) for status, response in responses.items()}
    codes.setdefault("default", []).extend(_UNEXPECTED)
    for error in implied:
        codes.setdefault(str(error.status), []).append(_code(error))
        responses.setdefault(str(error.status), _problem(error.status))
    for status, names in codes.items():
        if names and status in responses:
            examples = {name: {"$ref": f"#/components/examples/{name}"} for name in dict.fromkeys(names)}
            responses[status]["content"] = {PROBLEM_JSON: {"schema": _SCHEMA, "examples": examples}}


def _require_if_match(method: str, operation: Mapping[str, Any]) -> None:
    """Mark If-Match of a change as required. The route takes it as optional, to respond with 428 instead of 422."""
    for parameter in operation.get("parameters", ()):
        if parameter["name"] == "If-Match" and method != "get":
            parameter["required"] = True


def implied_errors(path: str, operation: Mapping[str, Any]) -> list[str]:
    """Return the codes of the errors that follow from an operation's path, body, parameters and security."""
    parameters = {(parameter["in"], parameter["name"]) for parameter in operation.get("parameters", ())}
    places = {place for place, _ in parameters}
    codes: list[str] = []
    if body := operation.get("requestBody"):
        is_json = "application/json" in body["content"]
        codes += ["invalid-json" if is_json else "malformed-request", "too-large", "unsupported-media-type"]
    if "requestBody" in operation or places & {"path", "query"}:
        codes.append("validation")
    if "path" in places:
        codes.append("not-found")
    if ("header", "Idempotency-Key") in parameters:
        codes += ["key-in-flight", "key-reused"]
    if ("header", "If-Match") in parameters:
        codes += ["malformed-condition", "stale-version", "version-required"]
    if ("header", "If-None-Match") in parameters:
        codes.append("malformed-condition")
    if "security" in operation:
        # No valid token; the token of an API key that lacks the scope.
        codes += ["token-missing", "token-invalid", "token-expired", "session-ended", "insufficient-scope"]
    if path.startswith("/api/"):
        # The rate limits of the gateway and of the signed-in user; an unavailable store.
        codes += ["rate-limited", "service-unavailable"]
    if path.startswith("/internal/"):
        # No valid sealed message; a service that is not allowed to call this.
        codes += ["message-refused", "caller-not-allowed", "service-unavailable"]
    if path == "/ready":
        codes.append("service-unavailable")
    return codes


def _problem(status: int) -> dict[str, Any]:
    described = {"description": title(status), "content": {PROBLEM_JSON: {"schema": _SCHEMA}}}
    return {**described, "headers": _RETRY_AFTER} if status in _WITH_RETRY_AFTER else described


def _code(error: type[ServiceError]) -> str:
    return error.type.removeprefix(TYPE_PREFIX)


def _example(error: type[ServiceError]) -> dict[str, Any]:
    """Return the problem document of an error as an example of the description."""
    value = {
        "type": error.type,
        "title": title(error.status),
        "status": error.status,
        "detail": error.detail,
        "instance": "/api/v1/notes",
        "request_id": "0197f2c8-5d3e-7a41-9c6b-2f8e1d4a7b90",
        **{name: value for name, value in error.example.items() if name in error.extensions},
    }
    return {"summary": f"{error.status} {_code(error)}", "value": value}


def _error_classes(base: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    """Yield the classes that declare a type. Of several with the same, the most general one comes last."""
    found = [error for error in _subclasses(base) if "type" in vars(error) and error.type.startswith(TYPE_PREFIX)]
    yield from sorted(found, key=lambda error: (error.__module__ == base.__module__, -len(error.__mro__)))


def _subclasses(base: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield base
    for error in base.__subclasses__():
        yield from _subclasses(error)
