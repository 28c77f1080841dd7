"""Runs routes without the framework's machinery for a request: the same arguments, responses and errors, at less cost.

The framework matches a request against each route in turn, twice within a router, opens three exit stacks, and walks
through the whole tree of dependencies, parsing parameters that do not exist. What a route needs never changes, so here
it is found out once, at start: its dependencies in the order in which they are called, each with its arguments.

The framework's routes stay as they are. They serve what is not taken here: dependencies with `yield`, forms, streams,
requests that match no route, and invalid parameters, whose errors only the framework describes. `/health` is left to it
as well: probes need no speed.

This depends on `Dependant`, `ModelField` and `request_params_to_args` of the framework. Its version is locked, and
shared/tests/web/test_direct_routes.py compares the responses of both.
"""

import inspect
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from fastapi import FastAPI
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.routing import APIRoute, RouteContext
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servicekit.core.route_table import RouteTable
from servicekit.web.body_limit import BodyRoute
from servicekit.web.error_handlers import HANDLERS

_WITHOUT_BODY: Final = frozenset({204, 205, 304})


class DirectRoutes:
    """ASGI middleware in front of the framework's router. It serves routes once `installed` has them."""

    def __init__(self, app: ASGIApp, *, installed: "InstalledRoutes") -> None:
        self._app = app
        self._installed = installed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._installed.find(scope) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
        else:
            await route.serve(scope, receive, send, self._app)


class InstalledRoutes:
    """The routes of an application that are served directly."""

    def __init__(self) -> None:
        self._table = RouteTable.of([])
        self._routes: list[_DirectRoute | None] = []

    def install(self, app: FastAPI, *, except_at: Collection[str]) -> None:
        """Take all routes that the application has now, except those at the paths `except_at`."""
        self._table = RouteTable.of(app.routes)
        self._routes = [None if each.path in except_at else _direct(each) for each in self._table.contexts]

    def find(self, scope: Scope) -> "_DirectRoute | None":
        """Return the route of a request, or None to leave it to the framework. The scope gets the path's parameters."""
        number = self._table.find(scope)
        route = None if number is None else self._routes[number]
        # A request of HEAD comes as GET, unless a route has HEAD.
        if route is None or scope["method"] not in route.methods or scope.get("root_path"):
            return None
        return route


@dataclass(frozen=True, slots=True)
class _Step:
    """One call: of a dependency or, in the end, of the route's own function."""

    call: Callable[..., Awaitable[Any]]
    # The names of arguments, and the numbers of the steps that return them.
    results: Sequence[tuple[str, int]]
    # Fields of the path, the query, the headers and the cookies, and where they are taken from.
    parameters: Sequence[tuple[Sequence[Any], Callable[[Request], Any]]]
    requests: Sequence[str]
    response: str | None


class _InvalidParameter(Exception):
    pass


class _DirectRoute:
    """One route, with what is known of it at start."""

    def __init__(self, context: RouteContext, steps: Sequence[_Step]) -> None:
        self.methods: Collection[str] = context.methods or ()
        self._entries = {"endpoint": context.endpoint, "route": context.original_route}
        self._pattern = context.path_regex
        self._converters = {name: each.convert for name, each in context.param_convertors.items()}
        self._dependencies = steps[:-1]
        self._function = steps[-1]
        self._has_response = any(step.response for step in steps)
        self._body_field = context.body_field
        self._read = None if context.body_field is None else context.original_route.reader()  # type: ignore[attr-defined]
        self._status = context.status_code
        self._field = context.response_field
        self._response_class = _response_class(context)
        self._options = {
            name: getattr(context, f"response_model_{name}")
            for name in ("include", "exclude", "by_alias", "exclude_unset", "exclude_defaults", "exclude_none")
        }

    async def serve(self, scope: Scope, receive: Receive, send: Send, framework: ASGIApp) -> None:
        """Serve a request, or have it served by the framework if a parameter is invalid."""
        scope.update(self._entries)
        scope["path_params"] = self._path_parameters(scope["path"])
        request = Request(scope, receive, send)
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            if self._read is not None:
                request = await self._read(request)
            response = await self._respond(request)
            await response(scope, request.receive, watch)
        except _InvalidParameter:
            await framework(scope, request.receive, send)
        except tuple(HANDLERS) as error:
            if started:
                raise
            handle = next(HANDLERS[kind] for kind in type(error).__mro__ if kind in HANDLERS)
            await (await handle(request, error))(scope, receive, send)

    def _path_parameters(self, path: str) -> dict[str, Any]:
        if not self._converters:
            return {}
        match = self._pattern.match(path)
        return {name: self._converters[name](text) for name, text in match.groupdict().items()}

    async def _respond(self, request: Request) -> Response:
        blank = _blank_response() if self._has_response else None
        results: list[Any] = []
        for step in self._dependencies:
            results.append(await step.call(**_arguments(step, request, results, blank)))
        arguments = _arguments(self._function, request, results, blank)
        if self._body_field is not None:
            arguments[self._body_field.name] = self._body_of(request)
        result = await self._function.call(**arguments)
        return result if isinstance(result, Response) else self._rendered(result, blank)

    def _body_of(self, request: Any) -> Any:
        if not request.content:
            # Whether there is a default is for the framework to say.
            raise _InvalidParameter
        value, errors = self._body_field.validate(request.value, {}, loc=("body",))
        if errors:
            raise RequestValidationError(errors, body=request.value)
        return value

    def _rendered(self, result: Any, blank: Response | None) -> Response:
        status = (blank.status_code if blank else None) or self._status or 200
        if self._field is None:
            response = self._response_class(jsonable_encoder(result), status_code=status)
        else:
            value, errors = self._field.validate(result, {}, loc=("response",))
            if errors:
                raise ResponseValidationError(errors, body=result)
            content = self._field.serialize_json(value, **self._options)
            response = Response(content, status_code=status, media_type="application/json")
        if status in _WITHOUT_BODY:
            response.body = b""
        if blank:
            response.raw_headers.extend(blank.raw_headers)
        return response


def _arguments(step: _Step, request: Request, results: Sequence[Any], blank: Response | None) -> dict[str, Any]:
    arguments = {name: results[number] for name, number in step.results}
    for fields, received in step.parameters:
        values, errors = request_params_to_args(fields, received(request))
        if errors:
            raise _InvalidParameter
        arguments.update(values)
    for name in step.requests:
        arguments[name] = request
    if step.response is not None:
        arguments[step.response] = blank
    return arguments


def _blank_response() -> Response:
    """Return the response that a route takes as a parameter, for its status and headers."""
    response = Response()
    response.raw_headers.clear()
    response.status_code = None  # type: ignore[assignment]
    return response


def _direct(context: RouteContext) -> _DirectRoute | None:
    """Return a route as it is served directly, or None for one that only the framework can serve."""
    route = context.original_route
    if not isinstance(route, APIRoute) or context.max_body_size is not None:
        return None
    if context.response_field is not None and _response_class(context) is not JSONResponse:
        return None
    body = context.dependant.body_params
    if body and (body != [context.body_field] or not isinstance(route, BodyRoute)):
        return None
    steps: list[_Step] = []
    if not _add_steps(context.dependant, steps, {}):
        return None
    return _DirectRoute(context, steps)


def _response_class(context: RouteContext) -> type[Response]:
    declared = context.response_class
    response_class: type[Response] = declared.value if isinstance(declared, DefaultPlaceholder) else declared
    return response_class


def _add_steps(dependant: Dependant, steps: list[_Step], known: dict[Any, int]) -> bool:
    """Add the calls of a dependency, the inner ones first. Return whether it needs nothing that is not taken here."""
    results = []
    for inner in dependant.dependencies:
        if not (inner.use_cache and inner.call in known):
            if inner.body_params or not _add_steps(inner, steps, known):
                return False
            known.setdefault(inner.call, len(steps) - 1)
        number = known[inner.call] if inner.use_cache else len(steps) - 1
        if inner.name is not None:
            results.append((inner.name, number))
    call = dependant.call
    needs_more = (
        dependant.websocket_param_name,
        dependant.background_tasks_param_name,
        dependant.security_scopes_param_name,
        dependant.own_oauth_scopes,
        dependant.concurrency,
    )
    # A dependency may be an object that is called.
    functions = (call, getattr(call, "__call__", None))  # noqa: B004
    if any(needs_more) or call is None or not any(map(inspect.iscoroutinefunction, functions)):
        return False
    sources: list[tuple[Sequence[Any], Callable[[Request], Any]]] = [
        (dependant.path_params, attrgetter("path_params")),
        (dependant.query_params, attrgetter("query_params")),
        (dependant.header_params, attrgetter("headers")),
        (dependant.cookie_params, attrgetter("cookies")),
    ]
    requests = [name for name in (dependant.request_param_name, dependant.http_connection_param_name) if name]
    parameters = [(fields, received) for fields, received in sources if fields]
    steps.append(_Step(call, results, parameters, requests, dependant.response_param_name))
    return True
