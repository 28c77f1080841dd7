"""The documentation page, and the API document that merges those of all services."""

import asyncio
import json

import pytest

from gateway_config.testing.harness import Backend, Platform
from servicekit.testing.wire_server import Received, reply, responding

pytestmark = pytest.mark.servers


def document(title: str, *paths: str) -> bytes:
    references = {"200": {"$ref": "#/components/schemas/Page"}, "404": {"$ref": "#/components/schemas/Problem"}}
    operation = {"tags": ["x"], "responses": references}
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": title},
            "paths": {path: {"get": operation} for path in paths},
            "components": {
                "schemas": {
                    "Page": {"title": title, "properties": {"item": {"$ref": "#/components/schemas/Item"}}},
                    "Item": {},
                    "Problem": {"title": "Problem"},
                    "Internal": {},
                },
                "securitySchemes": {"OAuth2PasswordBearer": {"type": "oauth2"}},
            },
        }
    ).encode()


def publish(backend: Backend, body: bytes) -> None:
    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        content = body if request.target == "/openapi.json" else b"{}"
        await responding(reply(body=content, content_type="application/json"))(request, writer)

    backend.respond = behave


@pytest.fixture
def documented(platform: Platform) -> Platform:
    """The platform, whose services publish their API documents."""
    publish(platform.user, document("User service", "/api/v1/users/profile", "/.well-known/jwks.json", "/metrics"))
    publish(platform.analytics, document("Analytics service", "/api/v1/analytics/stats"))
    publish(platform.notes, document("Notes service", "/api/v1/notes", "/internal/facts", "/health"))
    publish(platform.assets, document("Assets service", "/api/v1/assets"))
    return platform


async def test_the_merged_document_lists_only_what_clients_can_reach(documented: Platform) -> None:
    response = await documented.gateway.get("/openapi.json")
    merged = response.json()

    assert (response.status, response.get("Content-Type")) == (200, "application/json")
    assert set(merged["paths"]) == {
        "/api/v1/users/profile",
        "/.well-known/jwks.json",
        "/api/v1/analytics/stats",
        "/api/v1/notes",
        "/api/v1/assets",
    }
    assert merged["paths"]["/api/v1/notes"]["get"]["tags"] == ["notes"]
    assert "OAuth2PasswordBearer" in merged["components"]["securitySchemes"]


async def test_schemas_with_the_same_name_in_two_services_stay_apart(documented: Platform) -> None:
    merged = (await documented.gateway.get("/openapi.json")).json()

    schemas = merged["components"]["schemas"]
    assert (schemas["user.Page"]["title"], schemas["notes.Page"]["title"]) == ("User service", "Notes service")
    reference = merged["paths"]["/api/v1/notes"]["get"]["responses"]["200"]["$ref"]
    assert reference == "#/components/schemas/notes.Page"


async def test_all_services_share_one_problem_and_no_internal_schema_is_listed(documented: Platform) -> None:
    merged = (await documented.gateway.get("/openapi.json")).json()

    assert set(merged["components"]["schemas"]) == {
        "Problem",
        *(f"{service}.{name}" for service in ("user", "analytics", "notes", "assets") for name in ("Page", "Item")),
    }
    for operations in merged["paths"].values():
        assert operations["get"]["responses"]["404"]["$ref"] == "#/components/schemas/Problem"


async def test_an_unavailable_service_is_named_and_the_others_are_listed(documented: Platform) -> None:
    documented.notes.respond = responding(reply(503))

    response = await documented.gateway.get("/openapi.json")

    assert response.status == 200
    assert "/api/v1/users/profile" in response.json()["paths"]
    assert "notes" in response.json()["info"]["description"]


async def test_the_page_loads_files_from_the_gateway_only(platform: Platform) -> None:
    page = await platform.gateway.get("/docs")

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
        file = await platform.gateway.get(path)
        assert (file.status, file.get("Content-Type")) == (200, kind)


async def test_the_page_may_run_only_its_own_scripts(platform: Platform) -> None:
    policy = (await platform.gateway.get("/docs")).get("Content-Security-Policy")
    assert policy is not None
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
    other = (await platform.gateway.get("/gateway-health")).get("Content-Security-Policy")
    assert other is not None
    assert "script-src" not in other


@pytest.mark.parametrize(
    "path", ["/docs/static/../nginx.conf", "/docs/static..%2fnginx.conf", "/docs/swagger-ui/%2e%2e/nginx.pid"]
)
async def test_no_path_leads_out_of_the_folders_of_the_page(platform: Platform, path: str) -> None:
    assert (await platform.gateway.get(path)).status in (400, 404)


async def test_a_request_for_the_document_forwards_no_credentials(documented: Platform) -> None:
    await documented.gateway.get("/openapi.json", token="garbage")

    assert documented.user.requests
    assert all("authorization" not in request.headers for request in documented.user.requests)
