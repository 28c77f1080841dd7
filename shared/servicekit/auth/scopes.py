"""Scopes: what the access token of an API key may do. A route names the one that it needs:

    @router.get("/{note_id}", dependencies=[requires_scope("notes:read")])

A route that names none refuses every API key, so a forgotten scope opens nothing. The token of a login has no scopes
and may do all that its user may. `deploy/services.toml` lists the scopes that a key can have.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from fastapi import FastAPI, params
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from starlette.types import Scope

from opskit.catalog import read_catalog
from servicekit.core.errors import Forbidden

TOKEN_PATH: Final = "/api/v1/users/token"


class InsufficientScope(Forbidden):
    """The access token belongs to an API key that may not do this. Without `scope`, no API key may."""

    type = "urn:baseplate:problem:insufficient-scope"
    extensions: ClassVar[dict[str, str]] = {"scope": "the scope that the route needs"}
    example: ClassVar[dict[str, str]] = {"scope": "notes:read"}
    detail = "The API key may not do this."

    def __init__(self, required: str | None) -> None:
        # RFC 6750, section 3.1.
        challenge = 'Bearer error="insufficient_scope"'
        if required is None:
            super().__init__(headers={"WWW-Authenticate": challenge})
        else:
            super().__init__(headers={"WWW-Authenticate": f'{challenge}, scope="{required}"'}, scope=required)


@dataclass(frozen=True, slots=True)
class RequiredScope:
    """The scope that a route needs. `authorize` checks it, for every route that authenticates."""

    name: str

    async def __call__(self) -> None:
        """Do nothing, as a dependency."""


def requires_scope(name: str) -> params.Depends:
    """Declare that API keys with this scope may use a route."""
    return params.Depends(RequiredScope(name))


def authorize(scope: Scope, granted: frozenset[str]) -> None:
    """Check what a key's token grants against the route of the request. Raises `InsufficientScope`."""
    required = _declared(getattr(scope.get("route"), "dependant", None))
    if required is None or required not in granted:
        raise InsufficientScope(required)


def listed_scopes() -> tuple[str, ...]:
    """Return all scopes, in the order of the services."""
    return tuple(name for entry in read_catalog().values() for name in entry.scopes)


def describe_scopes(app: FastAPI) -> None:
    """Make the OpenAPI document say which scope a route needs. Call it after the last route is added.

    Raises `TypeError` for a route with several scopes, or with one that is not listed.
    """
    listed = listed_scopes()
    needed: dict[tuple[Any, str], str] = {}
    for context in iter_route_contexts(app.routes):
        if name := _declared(getattr(context, "dependant", None)):
            if name not in listed:
                raise TypeError(f"{context.path} needs the scope {name!r}, which deploy/services.toml does not list")
            needed |= {(context.path_format, method.lower()): name for method in context.methods or ()}
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        for scheme in schema.get("components", {}).get("securitySchemes", {}).values():
            flow = {"tokenUrl": TOKEN_PATH, "scopes": {name: _meaning(name) for name in listed}}
            scheme["flows"]["clientCredentials"] = flow
        for (path, method), name in needed.items():
            operation = schema["paths"].get(path, {}).get(method, {})
            operation["security"] = [{key: [name] for key in each} for each in operation.get("security", ())]
        return schema

    # The documented way to extend the schema (https://fastapi.tiangolo.com/how-to/extending-openapi/).
    app.openapi = openapi  # type: ignore[method-assign]


def _meaning(name: str) -> str:
    what, _, action = name.partition(":")
    return f"{action.capitalize()} {what}"


def _declared(dependant: Dependant | None) -> str | None:
    names = set(_scopes_in(dependant))
    if len(names) > 1:
        raise TypeError(f"a route needs one scope, not {', '.join(sorted(names))}")
    return names.pop() if names else None


def _scopes_in(dependant: Dependant | None) -> Iterator[str]:
    if dependant is None:
        return
    if isinstance(dependant.call, RequiredScope):
        yield dependant.call.name
    for inner in dependant.dependencies:
        yield from _scopes_in(inner)
