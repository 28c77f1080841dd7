"""Which services may call a route, declared in one place: on the route.

    @router.post("/events", dependencies=[sealed("user")])              # only `user`, only sealed
    @router.get("/stats/count", dependencies=[optional("analytics")])   # anyone plain; sealed, only `analytics`
    @router.get("/profile")                                             # public: plain requests only

`servicekit.sealing.middleware` enforces the declaration before the route reads the body. In the OpenAPI document it is
`x-service-policy`. A route without one is public, so that forgetting it never opens a route to a service, and a plain
request never reaches a `sealed` one.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, FastAPI, Request, params
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import BaseRoute, Mount
from starlette.types import Scope

from servicekit.core.errors import Forbidden, Unauthorized

# Where the receiver notes the caller of an opened request. A client has no way to set a scope's entries.
CALLER_KEY: Final = "servicekit.caller"
_GROUP = re.compile(r"\(\?P<\w+>")

Mode = Literal["sealed", "optional", "public"]


class MessageRefused(Unauthorized):
    """The request is not sealed, or its seal is not accepted. The text is the same for every reason."""

    detail = "This needs a valid sealed message."

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "ServiceEnvelope"})


class CallerNotAllowed(Forbidden):
    detail = "This route is not open to the calling service."


class PolicyError(TypeError):
    """A route declares its policy more than once."""


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """Who may call a route by sealed messages. No names with `optional` means every service that has a key."""

    mode: Mode
    callers: tuple[str, ...] = ()

    def admit(self, caller: str | None) -> None:
        """Accept a request; `caller` is None for a plain one. Raises `MessageRefused` or `CallerNotAllowed`."""
        if caller is None:
            if self.mode == "sealed":
                raise MessageRefused
        elif self.mode == "public" or (self.callers and caller not in self.callers):
            raise CallerNotAllowed

    async def __call__(self, request: Request) -> str | None:
        """Check once more, as a dependency of the very route that runs, and return the caller."""
        caller = caller_of(request.scope)
        self.admit(caller)
        return caller

    def document(self) -> dict[str, Any]:
        """Return the value of `x-service-policy`."""
        return {"mode": self.mode, "callers": list(self.callers)} if self.callers else {"mode": self.mode}


PUBLIC: Final = RoutePolicy("public")


def sealed(caller: str, *callers: str) -> params.Depends:
    """Declare a route for sealed requests of these services only."""
    return params.Depends(RoutePolicy("sealed", (caller, *callers)))


def optional(*callers: str) -> params.Depends:
    """Declare a route for plain requests and for sealed ones of these services (of every known one without names)."""
    return params.Depends(RoutePolicy("optional", callers))


def caller_of(scope: Scope) -> str | None:
    """Return the service that sealed this request, or None for a plain one."""
    return scope.get(CALLER_KEY)


async def _caller(request: Request) -> str:
    caller = caller_of(request.scope)
    if caller is None:
        raise MessageRefused
    return caller


async def _optional_caller(request: Request) -> str | None:
    return caller_of(request.scope)


# The calling service, for handlers: of a `sealed` route, and of an `optional` one.
CallerService = Annotated[str, Depends(_caller)]
OptionalCallerService = Annotated[str | None, Depends(_optional_caller)]


class PolicyTable:
    """Finds the policy of the route that a request will reach, by the framework's own rule: the first full match."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        """Raises `PolicyError` for a route with several policies."""
        contexts = [context for context in iter_route_contexts(routes) if _takes_requests(context)]
        self._policies = [_declared(context) for context in contexts]
        # One expression per method; the group that matched tells the route. The route's own groups are not needed,
        # and two routes may use one name. A mounted application has no methods: it takes all of them.
        patterns = [f"(?P<r{i}>{_GROUP.sub('(?:', context.path_regex.pattern)})" for i, context in enumerate(contexts)]
        named = list(zip(patterns, contexts, strict=True))
        methods = {method for context in contexts for method in context.methods or ()}
        self._of_any_method = _first_of(pattern for pattern, context in named if context.methods is None)
        self._of_method = {
            method: _first_of(pattern for pattern, context in named if method in (context.methods or {method}))
            for method in methods
        }

    def find(self, scope: Scope) -> RoutePolicy | None:
        """Return the policy, or None where no route matches: then nothing is executed, whoever asks."""
        found = self._match(scope["method"], scope["path"])
        if found is None and scope["method"] == "HEAD":
            # Without a route of its own, HEAD is run as GET (servicekit.web.head).
            found = self._match("GET", scope["path"])
        return found

    def _match(self, method: str, path: str) -> RoutePolicy | None:
        match = self._of_method.get(method, self._of_any_method).match(path)
        return self._policies[int(match.lastgroup[1:])] if match and match.lastgroup else None


def _first_of(patterns: Iterable[str]) -> re.Pattern[str]:
    # An empty alternation would match everything, `(?!)` matches nothing.
    return re.compile("|".join(patterns) or "(?!)")


def install_policies(app: FastAPI) -> None:
    """Make the policies of all routes known to the receiver and to the OpenAPI document. Call it after the last route.

    Raises `PolicyError` for a route with several policies.
    """
    app.state.service_policies = PolicyTable(app.routes)
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        for context in iter_route_contexts(app.routes):
            operations = schema.get("paths", {}).get(context.path_format, {})
            for method in context.methods or ():
                if method.lower() in operations:
                    operations[method.lower()]["x-service-policy"] = _declared(context).document()
        return schema

    # The documented way to extend the schema (https://fastapi.tiangolo.com/how-to/extending-openapi/).
    app.openapi = openapi  # type: ignore[method-assign]


def admit(scope: Scope) -> None:
    """Accept a request whose route admits it. Raises `MessageRefused` or `CallerNotAllowed`.

    The application must have been through `install_policies`.
    """
    table: PolicyTable = scope["app"].state.service_policies
    if policy := table.find(scope):
        policy.admit(caller_of(scope))


def _takes_requests(context: RouteContext) -> bool:
    """Whether it is a route for HTTP requests or a mounted application, in contrast to one for WebSockets."""
    return context.methods is not None or isinstance(context.original_route, Mount)


def _declared(context: RouteContext) -> RoutePolicy:
    policies = set(_policies_in(getattr(context, "dependant", None)))
    if len(policies) > 1:
        raise PolicyError(f"{context.path} declares {len(policies)} policies; a route has one")
    return policies.pop() if policies else PUBLIC


def _policies_in(dependant: Dependant | None) -> Iterator[RoutePolicy]:
    if dependant is None:
        return
    if isinstance(dependant.call, RoutePolicy):
        yield dependant.call
    for inner in dependant.dependencies:
        yield from _policies_in(inner)
