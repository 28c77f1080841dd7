"""A route's policy decides which services may call it, and stands in the OpenAPI document."""

from typing import Annotated

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI

from servicekit.core.errors import ServiceError
from servicekit.sealing.route_policy import (
    PUBLIC,
    CallerNotAllowed,
    MessageRefused,
    PolicyError,
    PolicyTable,
    RoutePolicy,
    install_policies,
    optional,
    sealed,
)


async def _nothing() -> None:
    return None


@pytest.mark.parametrize(
    ("policy", "caller", "refusal"),
    [
        (RoutePolicy("sealed", ("user",)), None, MessageRefused),
        (RoutePolicy("sealed", ("user",)), "notes", CallerNotAllowed),
        (RoutePolicy("sealed", ("user",)), "user", None),
        (RoutePolicy("sealed", ("user", "notes")), "notes", None),
        (RoutePolicy("optional", ("user",)), None, None),
        (RoutePolicy("optional", ("user",)), "notes", CallerNotAllowed),
        (RoutePolicy("optional"), "notes", None),
        (PUBLIC, None, None),
        (PUBLIC, "user", CallerNotAllowed),
    ],
)
def test_a_policy_allows_the_callers_that_it_names(
    policy: RoutePolicy, caller: str | None, refusal: type[ServiceError] | None
) -> None:
    if refusal is None:
        policy.authorize(caller)
    else:
        with pytest.raises(refusal):
            policy.authorize(caller)


def _app() -> FastAPI:
    inner = APIRouter(prefix="/{group}/inner", dependencies=[sealed("inner")])
    inner.add_api_route("/{name}", _nothing, methods=["POST"])
    router = APIRouter(prefix="/api")
    router.add_api_route("/things/count", _nothing, methods=["GET"])
    router.add_api_route("/things/{name}", _nothing, methods=["GET"], dependencies=[optional("user")])
    router.add_api_route("/things/{name}", _nothing, methods=["PUT"], dependencies=[sealed("user")])
    router.add_api_route("/files/{path:path}", _nothing, methods=["GET"], dependencies=[sealed("files")])
    router.add_api_route("/n/{number:int}", _nothing, methods=["GET"], dependencies=[sealed("numbers")])
    router.include_router(inner)
    app = FastAPI()
    app.include_router(router, prefix="/v1")
    app.mount("/mounted", FastAPI())
    return app


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/api/things/count", PUBLIC),
        ("GET", "/v1/api/things/counts", RoutePolicy("optional", ("user",))),
        ("PUT", "/v1/api/things/count", RoutePolicy("sealed", ("user",))),
        ("POST", "/v1/api/things/count", None),
        ("GET", "/v1/api/files/a/b/c", RoutePolicy("sealed", ("files",))),
        ("GET", "/v1/api/n/12", RoutePolicy("sealed", ("numbers",))),
        ("GET", "/v1/api/n/x", None),
        ("POST", "/v1/api/g/inner/x", RoutePolicy("sealed", ("inner",))),
        ("GET", "/v1/api/things/a/b", None),
        ("GET", "/nowhere", None),
        ("BREW", "/v1/api/things/count", None),
        ("GET", "/mounted/api/things/x", PUBLIC),
        ("BREW", "/mounted/x", PUBLIC),
        ("GET", "/mountedx", None),
        ("GET", "/docs", PUBLIC),
    ],
)
def test_the_policy_is_that_of_the_first_route_that_matches(
    method: str, path: str, expected: RoutePolicy | None
) -> None:
    assert PolicyTable(_app().routes).find({"method": method, "path": path}) == expected


def test_a_route_with_two_policies_does_not_start() -> None:
    router = APIRouter(dependencies=[sealed("user")])
    router.add_api_route("/twice", _nothing, dependencies=[optional()])
    app = FastAPI()
    app.include_router(router)

    with pytest.raises(PolicyError, match="/twice"):
        install_policies(app)


def test_a_policy_inside_another_dependency_counts() -> None:
    async def needs_user(caller: Annotated[str, sealed("user")]) -> None:
        return None

    app = FastAPI()
    app.add_api_route("/deep", _nothing, dependencies=[Depends(needs_user)])

    assert PolicyTable(app.routes).find({"method": "GET", "path": "/deep"}) == RoutePolicy("sealed", ("user",))


def test_the_openapi_document_shows_the_policies() -> None:
    app = _app()
    install_policies(app)
    paths = app.openapi()["paths"]

    assert paths["/v1/api/things/count"]["get"]["x-service-policy"] == {"mode": "public"}
    assert paths["/v1/api/things/{name}"]["get"]["x-service-policy"] == {"mode": "optional", "callers": ["user"]}
    assert paths["/v1/api/{group}/inner/{name}"]["post"]["x-service-policy"] == {"mode": "sealed", "callers": ["inner"]}
    assert app.openapi()["paths"] == paths


async def test_without_a_receiver_a_sealed_route_refuses_all_requests() -> None:
    """The declaration itself is a dependency of the route, so nothing is open because of a missing middleware."""
    app = FastAPI()
    app.add_api_route("/sealed", _nothing, dependencies=[sealed("user")])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as http:
        with pytest.raises(MessageRefused):
            await http.get("/sealed", headers={"x-service-communication": "encrypted", "x-service-name": "user"})
