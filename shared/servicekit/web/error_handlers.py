"""How errors that FastAPI catches become problem documents (RFC 9457)."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request

from servicekit.core import errors
from servicekit.core.problems import ProblemResponse
from servicekit.web.validation_errors import describe


def add_error_handlers(app: FastAPI) -> None:
    """Render the errors of services, of validation and of the framework."""
    for kind, handle in HANDLERS.items():
        app.add_exception_handler(kind, handle)


async def _service_error(request: Request, error: Any) -> Any:
    return ProblemResponse(error, instance=request.scope["path"])


async def _validation_error(request: Request, error: Any) -> Any:
    failure = errors.UnprocessableContent(
        "Some fields are invalid; `errors` lists them.", errors=describe(error.errors(), error.body)
    )
    return ProblemResponse(failure, instance=request.scope["path"])


async def _http_exception(request: Request, error: Any) -> Any:
    """Render what the framework itself raises: 404 and 405 of the router, 400 of the body parser."""
    type_ = errors.BadRequest.type if error.status_code == 400 else errors.BLANK
    kind = type("FrameworkError", (errors.ServiceError,), {"status": error.status_code, "type": type_})
    headers = {"Allow": _allowed_methods(request)} if error.status_code == 405 else error.headers
    return ProblemResponse(kind(str(error.detail), headers=headers), instance=request.scope["path"])


HANDLERS: Final[Mapping[type[Exception], Callable[[Request, Any], Awaitable[Any]]]] = {
    errors.ServiceError: _service_error,
    RequestValidationError: _validation_error,
    HTTPException: _http_exception,
}


def _allowed_methods(request: Request) -> str:
    """Return all methods of a path (RFC 9110, section 10.2.1). The framework names those of the first route only."""
    contexts = [route for route in iter_route_contexts(request.app.routes) if route.methods]
    first = next((route for route in contexts if route.path_regex.match(request.scope["path"])), None)
    methods = {method for route in contexts if first and route.path == first.path for method in route.methods or ()}
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))
