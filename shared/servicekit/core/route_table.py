"""Finds the route of a request by one look-up, instead of asking each route in turn as the framework does."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import BaseRoute, Mount
from starlette.types import Scope

_GROUP = re.compile(r"\(\?P<\w+>")


@dataclass(frozen=True, slots=True)
class RouteTable:
    """The routes of an application for HTTP. A request reaches the first one that matches its path and its method."""

    contexts: Sequence[RouteContext]
    _fixed: dict[tuple[str, str], int]
    _of_method: dict[str, re.Pattern[str]]
    _of_any_method: re.Pattern[str]

    @classmethod
    def of(cls, routes: Sequence[BaseRoute]) -> "RouteTable":
        """Return the table of these routes, and of the routers and mounted applications among them."""
        contexts = [context for context in iter_route_contexts(routes) if _accepts_http(context)]
        # One expression per method; the group that matched tells the route. The route's own groups become unnamed,
        # because two routes may use one name. A mounted application names no methods and gets all of them.
        patterns = [f"(?P<r{i}>{_GROUP.sub('(?:', context.path_regex.pattern)})" for i, context in enumerate(contexts)]
        named = list(zip(patterns, contexts, strict=True))
        methods = {method for context in contexts for method in context.methods or ()}
        table = cls(
            contexts,
            {},
            {
                method: _first_of(pattern for pattern, context in named if method in (context.methods or {method}))
                for method in methods
            },
            _first_of(pattern for pattern, context in named if context.methods is None),
        )
        # A path without parameters is looked up, once it is known that no route before it matches the same path.
        for context in contexts:
            if context.methods is not None and context.path is not None and "{" not in context.path:
                for method in context.methods:
                    number = table._match(method, context.path)
                    if number is not None:
                        table._fixed[method, context.path] = number
        return table

    def find(self, scope: Scope) -> int | None:
        """Return the position in `contexts` of the route that a request will reach, or None."""
        number = self._match(scope["method"], scope["path"])
        if number is None and scope["method"] == "HEAD":
            # HEAD without a route of its own is run as GET (servicekit.web.head).
            return self._match("GET", scope["path"])
        return number

    def _match(self, method: str, path: str) -> int | None:
        if (number := self._fixed.get((method, path))) is not None:
            return number
        match = self._of_method.get(method, self._of_any_method).match(path)
        return int(match.lastgroup[1:]) if match and match.lastgroup else None


def _first_of(patterns: Iterable[str]) -> re.Pattern[str]:
    # An empty expression would match everything; `(?!)` matches nothing.
    return re.compile("|".join(patterns) or "(?!)")


def _accepts_http(context: RouteContext) -> Any:
    """Whether this is a route for HTTP requests or a mounted application, not a route for WebSockets."""
    return context.methods is not None or isinstance(context.original_route, Mount)
