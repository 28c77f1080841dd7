"""A script's way through the gateway, against two replicas of every service: a key, its tokens, its end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from opskit.catalog import read_catalog

pytestmark = pytest.mark.needs("analytics", "notes", "assets")

USERS = "/api/v1/users"
SignIn = Callable[[], Awaitable[Any]]


async def _create(gateway: httpx2.AsyncClient, user: Any, *scopes: str) -> dict[str, Any]:
    body = {"name": "export", "scopes": list(scopes)}
    created = await gateway.post(f"{USERS}/api-keys", json=body, headers=user.headers)
    assert created.status_code == 201, created.text
    key: dict[str, Any] = created.json()
    return key


async def _bearer(gateway: httpx2.AsyncClient, key: dict[str, Any]) -> dict[str, str]:
    """Exchange the key by HTTP Basic."""
    exchanged = await gateway.post(
        f"{USERS}/token", data={"grant_type": "client_credentials"}, auth=(key["id"], key["secret"])
    )
    assert exchanged.status_code == 200, exchanged.text
    return {"Authorization": f"Bearer {exchanged.json()['access_token']}"}


async def test_a_key_works_within_its_scopes_until_it_is_deleted(gateway: httpx2.AsyncClient, sign_in: SignIn) -> None:
    user = await sign_in()
    key = await _create(gateway, user, "notes:read", "notes:write", "assets:write")
    bearer = await _bearer(gateway, key)

    file = {"X-Filename": "report.txt", "Content-Type": "text/plain"}
    asset = await gateway.post("/api/v1/assets", content=b"a report", headers={**bearer, **file})
    assert asset.status_code == 201
    note = await gateway.post(
        "/api/v1/notes", json={"title": "Report", "body": "", "attachments": [asset.json()["id"]]}, headers=bearer
    )
    assert note.status_code == 201
    owned = await gateway.get(note.headers["location"], headers=user.headers)
    assert owned.json()["title"] == "Report"

    for path, needed in {
        f"/api/v1/assets/{asset.json()['id']}": "assets:read",
        "/api/v1/analytics/stats": "analytics:read",
        f"{USERS}/profile": "users:read",
        f"{USERS}/api-keys": None,
    }.items():
        refused = await gateway.get(path, headers=bearer)
        assert (refused.status_code, refused.json().get("scope")) == (403, needed)

    listed = (await gateway.get(f"{USERS}/api-keys", headers=user.headers)).json()["items"]
    assert [(each["id"], each["last_used_at"] is None) for each in listed] == [(key["id"], False)]
    assert (await gateway.delete(f"{USERS}/api-keys/{key['id']}", headers=user.headers)).status_code == 204
    async with asyncio.timeout(60):
        while await _statuses(gateway, "/api/v1/notes", bearer) != {401}:
            await asyncio.sleep(0.05)


async def _statuses(gateway: httpx2.AsyncClient, path: str, headers: dict[str, str]) -> set[int]:
    responses = await asyncio.gather(*(gateway.get(path, headers=headers) for _ in range(12)))
    return {response.status_code for response in responses}


async def test_each_listed_scope_opens_a_route_and_only_listed_ones_do(gateway: httpx2.AsyncClient) -> None:
    document = (await gateway.get("/openapi.json")).json()
    securities = [
        security
        for operations in document["paths"].values()
        for operation in operations.values()
        for security in operation.get("security", ())
    ]
    needed = {scope for security in securities for scopes in security.values() for scope in scopes}

    assert needed == {scope for entry in read_catalog().values() for scope in entry.scopes}
    (scheme,) = document["components"]["securitySchemes"].values()
    assert needed == scheme["flows"]["clientCredentials"]["scopes"].keys()
