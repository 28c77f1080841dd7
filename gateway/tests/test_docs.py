"""The documentation page and the merged API document."""

import asyncio
import json
from typing import Any

from servicekit.testing.wire_server import Received, answering, reply


def _document(title: str, *paths: str) -> bytes:
    operation = {"tags": ["x"], "responses": {"200": {"$ref": "#/components/schemas/Page"}}}
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": title},
            "paths": {path: {"get": operation} for path in paths},
            "components": {
                "schemas": {"Page": {"title": title}},
                "securitySchemes": {"OAuth2PasswordBearer": {"type": "oauth2"}},
            },
        }
    ).encode()


def _documented(backend: Any, body: bytes) -> None:
    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        content = body if request.target == "/openapi.json" else b"{}"
        await answering(reply(body=content, content_type="application/json"))(request, writer)

    backend.answer = behave


async def _two_services(world: Any) -> tuple[Any, Any, Any]:
    user, notes = await world.backend("user"), await world.backend("notes")
    _documented(user, _document("User service", "/api/v1/users/profile", "/.well-known/jwks.json", "/metrics"))
    _documented(notes, _document("Notes service", "/api/v1/notes", "/internal/facts", "/health"))
    gateway = await world.gateway({"user": [user.address], "notes": [notes.address]})
    return gateway, user, notes


async def test_the_merged_document_lists_what_clients_can_reach_and_nothing_else(world: Any) -> None:
    gateway, _, _ = await _two_services(world)

    answer = await gateway.get("/openapi.json")
    document = answer.json()

    assert (answer.status, answer.get("Content-Type")) == (200, "application/json")
    assert set(document["paths"]) == {"/api/v1/users/profile", "/.well-known/jwks.json", "/api/v1/notes"}
    assert document["paths"]["/api/v1/notes"]["get"]["tags"] == ["notes"]
    assert "OAuth2PasswordBearer" in document["components"]["securitySchemes"]


async def test_schemas_of_one_name_in_two_services_stay_apart(world: Any) -> None:
    gateway, _, _ = await _two_services(world)

    document = (await gateway.get("/openapi.json")).json()

    schemas = document["components"]["schemas"]
    assert (schemas["user.Page"]["title"], schemas["notes.Page"]["title"]) == ("User service", "Notes service")
    reference = document["paths"]["/api/v1/notes"]["get"]["responses"]["200"]["$ref"]
    assert reference == "#/components/schemas/notes.Page"


async def test_a_service_that_is_away_is_named_and_the_others_are_listed(world: Any) -> None:
    gateway, _, notes = await _two_services(world)
    notes.answer = answering(reply(503))

    answer = await gateway.get("/openapi.json")

    assert answer.status == 200
    assert "/api/v1/users/profile" in answer.json()["paths"]
    assert "notes" in answer.json()["info"]["description"]


async def test_the_page_and_all_that_it_loads_come_from_the_gateway(world: Any) -> None:
    gateway, _, _ = await _two_services(world)

    page = await gateway.get("/docs")

    assert (page.status, page.get("Content-Type")) == (200, "text/html")
    text = page.body.decode()
    assert "http://" not in text
    assert "https://" not in text
    kinds = {
        "/docs/swagger-ui/swagger-ui.css": "text/css",
        "/docs/swagger-ui/swagger-ui-bundle.js": "application/javascript",
        "/docs/static/page.js": "application/javascript",
    }
    for path, kind in kinds.items():
        assert path in text
        file = await gateway.get(path)
        assert (file.status, file.get("Content-Type")) == (200, kind)


async def test_the_page_may_run_its_own_scripts_only(world: Any) -> None:
    gateway, _, _ = await _two_services(world)

    policy = (await gateway.get("/docs")).get("Content-Security-Policy")
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
    assert "script-src" not in (await gateway.get("/gateway-health")).get("Content-Security-Policy")


async def test_no_path_leads_out_of_the_folders_of_the_page(world: Any) -> None:
    gateway, _, _ = await _two_services(world)

    for path in ("/docs/static/../nginx.conf", "/docs/static..%2fnginx.conf", "/docs/swagger-ui/%2e%2e/nginx.pid"):
        assert (await gateway.get(path)).status in (400, 404)


async def test_a_request_for_the_document_passes_no_credentials_on(world: Any) -> None:
    gateway, user, _ = await _two_services(world)

    await gateway.get("/openapi.json", token="garbage")

    assert all("authorization" not in request.headers for request in user.requests)
