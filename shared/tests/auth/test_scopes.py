"""What the access token of an API key may do."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from servicekit.auth.access_tokens import CurrentAdmin, CurrentUser, OptionalUser, UncheckedUser
from servicekit.auth.revoked_sessions import AccountSessions
from servicekit.auth.scopes import requires_scope
from servicekit.kit import ServiceKit
from servicekit.testing.serving import nothing_to_do
from servicekit.testing.settings import unconnected_settings
from servicekit.testing.tokens import TestIssuer
from servicekit.web.body_limit import route_with_body_limit

pytestmark = pytest.mark.needs("notes")

READ, WRITE = requires_scope("notes:read"), requires_scope("notes:write")
router = APIRouter(prefix="/api/v1/parcels", route_class=route_with_body_limit())


class Parcel(BaseModel):
    weight: int


@router.get("/read", dependencies=[READ])
async def read(user: CurrentUser, limit: int = 1) -> str:
    return str(user.id)


@router.post("/write", dependencies=[WRITE])
async def write(_parcel: Parcel, _user: CurrentUser) -> None: ...


@router.get("/undeclared")
async def undeclared(_user: CurrentUser) -> None: ...


@router.get("/optional")
async def optional(_user: OptionalUser) -> None: ...


@router.get("/unchecked")
async def unchecked(user: UncheckedUser) -> None:
    user.require()


@router.get("/administration", dependencies=[READ])
async def administration(_admin: CurrentAdmin) -> None: ...


def _kit(tmp_path: Path, issuer_url: str = "http://127.0.0.1:9") -> ServiceKit:
    settings = unconnected_settings("parcels", service_keys_dir=tmp_path, peer_urls={"user": [issuer_url]}, user_rate=0)
    return ServiceKit(settings)


def _build(kit: ServiceKit, *routers: APIRouter) -> FastAPI:
    return kit.build(
        title="Parcels", lifespan=nothing_to_do, routers=routers, checks={}, is_unavailable=lambda _: False
    )


class Client:
    """Sends requests with the token of a key that has these scopes."""

    def __init__(self, http: httpx2.AsyncClient, issuer: TestIssuer, kit: ServiceKit) -> None:
        self._http = http
        self.issuer = issuer
        self.kit = kit
        self.user, self.key = uuid4(), uuid4()

    async def send(self, method: str, path: str, scope: str, **options: Any) -> httpx2.Response:
        headers = self.issuer.key_headers(self.user, scope, session_id=self.key, roles=["user"])
        return await self._http.request(method, f"/api/v1/parcels/{path}", headers=headers, **options)

    async def send_as_user(self, path: str) -> httpx2.Response:
        return await self._http.get(f"/api/v1/parcels/{path}", headers=self.issuer.headers(self.user))


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    issuer = TestIssuer()
    async with issuer.publishing() as url:
        kit = _kit(tmp_path, url)
        transport = httpx2.ASGITransport(_build(kit, router))
        async with kit.dispatcher, httpx2.AsyncClient(transport=transport, base_url="http://parcels") as http:
            yield Client(http, issuer, kit)


async def test_a_key_may_do_what_its_scopes_name_and_a_user_may_do_all(client: Client) -> None:
    assert (await client.send("GET", "read", "notes:read")).json() == str(client.user)
    assert (await client.send("POST", "write", "notes:read notes:write", json={"weight": 1})).status_code == 200
    for path in ("read", "undeclared", "optional", "unchecked"):
        assert (await client.send_as_user(path)).status_code == 200


async def test_a_missing_scope_is_named(client: Client) -> None:
    # The framework serves the second one, because its parameter is not valid.
    for path in ("read", "read?limit=x"):
        refused = await client.send("GET", path, "notes:write notes:reading")
        assert refused.status_code == 403
        assert refused.json()["type"] == "urn:baseplate:problem:insufficient-scope"
        assert refused.json()["scope"] == "notes:read"
        assert refused.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="notes:read"'


async def test_a_scope_is_checked_before_the_body_is_read(client: Client) -> None:
    refused = await client.send("POST", "write", "notes:read", content=b"{")
    assert refused.status_code == 403


@pytest.mark.parametrize("path", ["undeclared", "optional", "unchecked"])
async def test_a_route_without_a_scope_refuses_every_key(client: Client, path: str) -> None:
    refused = await client.send("GET", path, "notes:read notes:write users:read")

    assert refused.status_code == 403
    assert refused.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'


async def test_a_key_without_scopes_may_do_nothing(client: Client) -> None:
    assert (await client.send("GET", "read", "")).status_code == 403


async def test_a_scope_is_no_role(client: Client) -> None:
    refused = await client.send("GET", "administration", "notes:read")

    assert refused.json()["type"] == "urn:baseplate:problem:role-required"


async def test_a_key_ends_by_its_id_and_not_with_the_sessions_of_its_account(client: Client) -> None:
    far = 2**40
    client.kit.revoked_sessions.add(AccountSessions(client.user, far * 1000), far)
    assert (await client.send_as_user("read")).status_code == 401
    assert (await client.send("GET", "read", "notes:read")).status_code == 200

    client.kit.revoked_sessions.add(client.key, far)
    ended = await client.send("GET", "read", "notes:read")
    assert (ended.status_code, ended.json()["type"]) == (401, "urn:baseplate:problem:session-ended")


@pytest.mark.needs("analytics", "assets")
async def test_the_document_lists_the_scopes_and_names_that_of_each_route(tmp_path: Path) -> None:
    document = _build(_kit(tmp_path), router).openapi()

    (scheme,) = document["components"]["securitySchemes"].values()
    flow = scheme["flows"]["clientCredentials"]
    assert flow["tokenUrl"] == scheme["flows"]["password"]["tokenUrl"]
    assert {"notes:read", "notes:write", "assets:read", "analytics:write", "users:read"} <= flow["scopes"].keys()
    assert "users:write" not in flow["scopes"]
    (security,) = document["paths"]["/api/v1/parcels/read"]["get"]["security"]
    assert list(security.values()) == [["notes:read"]]
    (security,) = document["paths"]["/api/v1/parcels/undeclared"]["get"]["security"]
    assert list(security.values()) == [[]]


@pytest.mark.parametrize(
    "dependencies", [[requires_scope("notes:raed")], [READ, WRITE]], ids=["a misspelt scope", "two scopes"]
)
async def test_a_wrong_declaration_stops_the_service(tmp_path: Path, dependencies: list[Any]) -> None:
    wrong = APIRouter(prefix="/api/v1/parcels")
    wrong.add_api_route("/wrong", undeclared, dependencies=dependencies)

    with pytest.raises(TypeError, match="notes:r"):
        _build(_kit(tmp_path), wrong)
