"""What `build_app` demands of every route."""

import inspect
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts

from servicekit.web.body_limit import BodyRoute


def check_routes(app: FastAPI) -> None:
    """Raise `TypeError` for a route that reads a body without limits, or that would run in a thread."""
    for context in iter_route_contexts(app.routes):
        # Such a route would read any body, from anyone, and validate it.
        if getattr(context, "body_field", None) is not None and not isinstance(context.original_route, BodyRoute):
            raise TypeError(f"{context.path} reads a body: its router needs route_class=route_with_body_limit()")
        for call in _calls_of(context):
            if not _is_asynchronous(call):
                raise TypeError(f"{context.path} calls {call!r}, which must be asynchronous")


def _calls_of(context: RouteContext) -> Iterator[Any]:
    """Yield the functions of a route: its dependencies' and its own."""
    dependant: Dependant | None = getattr(context, "dependant", None)
    if dependant is None:
        yield context.endpoint
    else:
        yield from _calls_in(dependant)


def _calls_in(dependant: Dependant) -> Iterator[Any]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls_in(inner)


def _is_asynchronous(call: Any) -> bool:
    """Whether the framework awaits a call. It runs others in a thread, which costs more than most of them do."""
    # A dependency may be an object that is called.
    functions = (call, getattr(call, "__call__", None))  # noqa: B004
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in functions)
