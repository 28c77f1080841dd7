"""Which services may call a route, declared on the route.

    @router.post("/events", dependencies=[sealed("user")])              # only `user`, only sealed
    @router.get("/stats/count", dependencies=[optional("analytics")])   # anyone plain; sealed, only `analytics`
    @router.get("/profile")                                             # public: plain requests only

`servicekit.sealing.middleware` enforces the policy before the route reads the body. The OpenAPI document shows it as
`x-service-policy`. A route without a policy is public, so a forgotten policy never opens a route to a service. A plain
request never reaches a `sealed` route.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, FastAPI, Request, params
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import BaseRoute
from starlette.types import Scope

from servicekit.core.errors import Forbidden, Unauthorized
from servicekit.core.route_table import RouteTable

# The entry of the scope that holds the caller of an opened request. No client can set an entry of the scope.
CALLER_KEY: Final = "servicekit.caller"

Mode = Literal["sealed", "optional", "public"]


class MessageRefused(Unauthorized):
    """The request is not sealed, or its seal is not accepted. One text serves for all reasons."""

    type = "urn:baseplate:problem:message-refused"
    detail = "This needs a valid sealed message."

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "ServiceEnvelope"})


class CallerNotAllowed(Forbidden):
    """The policy of the route does not name the service that sealed the request."""

    type = "urn:baseplate:problem:caller-not-allowed"
    detail = "This route is not open to the calling service."


class PolicyError(TypeError):
    """A route declares its policy more than once."""


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """Which services may call a route. `optional` without callers allows every service that has a key."""

    mode: Mode
    callers: tuple[str, ...] = ()

    def authorize(self, caller: str | None) -> None:
        """Check the caller, None for a plain request. Raises `MessageRefused` or `CallerNotAllowed`."""
        if caller is None:
            if self.mode == "sealed":
                raise MessageRefused
        elif self.mode == "public" or (self.callers and caller not in self.callers):
            raise CallerNotAllowed

    async def __call__(self, request: Request) -> str | None:
        """Check again, as a dependency of the route that runs, and return the caller."""
        caller = caller_of(request.scope)
        self.authorize(caller)
        return caller

    def document(self) -> dict[str, Any]:
        """Return the value of `x-service-policy`."""
        return {"mode": self.mode, "callers": list(self.callers)} if self.callers else {"mode": self.mode}


PUBLIC: Final = RoutePolicy("public")


def sealed(caller: str, *callers: str) -> params.Depends:
    """Declare a route for sealed requests of these services only."""
    return params.Depends(RoutePolicy("sealed", (caller, *callers)))


def optional(*callers: str) -> params.Depends:
    """Declare a route for plain requests and for sealed ones of these services. No callers means all known services."""
    return params.Depends(RoutePolicy("optional", callers))


def caller_of(scope: Scope) -> str | None:
    """Return the service that sealed this request, or None for a plain one."""
    return scope.get(CALLER_KEY)


async def _optional_caller(request: Request) -> str | None:
    return caller_of(request.scope)


# A parameter of a handler: the calling service, or None for a plain request.
OptionalCallerService = Annotated[str | None, Depends(_optional_caller)]


class PolicyTable:
    """Finds the policy of the route that a request will reach."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        """Raises `PolicyError` for a route with several policies."""
        self._table = RouteTable.of(routes)
        self._policies = [_declared(context) for context in self._table.contexts]

    def find(self, scope: Scope) -> RoutePolicy | None:
        """Return the policy, or None if no route matches, so that nothing will be executed."""
        number = self._table.find(scope)
        return None if number is None else self._policies[number]


def install_policies(app: FastAPI) -> None:
    """Tell the receiver and the OpenAPI document the policies of all routes. Call it after the last route is added.

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


def authorize(scope: Scope) -> None:
    """Check a request against the policy of its route. Raises `MessageRefused` or `CallerNotAllowed`.

    The application must have been through `install_policies`.
    """
    table: PolicyTable = scope["app"].state.service_policies
    if policy := table.find(scope):
        policy.authorize(caller_of(scope))


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
