"""Routing: which request reaches which service, by which path."""

import pytest

from gateway_config.testing.harness import GatewayHarness, Platform

pytestmark = pytest.mark.servers

ROUTED = [
    ("GET", "/api/v1/users/profile", "user", "/api/v1/users/profile"),
    ("GET", "/api/v1/users", "user", "/api/v1/users"),
    ("GET", "/api/v1/users?cursor=a%20b&limit=2", "user", "/api/v1/users?cursor=a%20b&limit=2"),
    ("POST", "/api/v1/users/login", "user", "/api/v1/users/login"),
    ("POST", "/api/v1/users/register", "user", "/api/v1/users/register"),
    ("POST", "/api/v1/users/password", "user", "/api/v1/users/password"),
    ("POST", "/api/v1/users/password/forgot", "user", "/api/v1/users/password/forgot"),
    ("POST", "/api/users/invitations", "user", "/api/v1/users/invitations"),
    ("PATCH", "/api/v1/users/profile", "user", "/api/v1/users/profile"),
    ("GET", "/api/v1/users/stats/count", "user", "/api/v1/users/stats/count"),
    ("PUT", "/api/v1/users/1/role", "user", "/api/v1/users/1/role"),
    ("OPTIONS", "/api/v1/users/profile", "user", "/api/v1/users/profile"),
    ("POST", "/api/v1/analytics/events", "analytics", "/api/v1/analytics/events"),
    ("GET", "/api/v1/analytics/stats/series?type=a", "analytics", "/api/v1/analytics/stats/series?type=a"),
    ("POST", "/api/v1/notes", "notes", "/api/v1/notes"),
    ("DELETE", "/api/v1/notes/1", "notes", "/api/v1/notes/1"),
    ("GET", "/api/v1/notes/public/a-slug", "notes", "/api/v1/notes/public/a-slug"),
    ("POST", "/api/v1/assets", "assets", "/api/v1/assets"),
    ("GET", "/api/v1/assets/1/content", "assets", "/api/v1/assets/1/content"),
    # Without a version.
    ("GET", "/api/users/profile", "user", "/api/v1/users/profile"),
    ("POST", "/api/users/login?a=b", "user", "/api/v1/users/login?a=b"),
    ("GET", "/api/analytics/stats", "analytics", "/api/v1/analytics/stats"),
    ("GET", "/api/notes", "notes", "/api/v1/notes"),
    # The path that was matched is the one that is sent.
    ("GET", "/api/v1//users///profile", "user", "/api/v1/users/profile"),
    ("GET", "/api/v1/./users/x/../profile", "user", "/api/v1/users/profile"),
    ("GET", "/api/v1/%75sers/pr%6Ffile", "user", "/api/v1/users/profile"),
    ("GET", "/api/v1/notes/%2e%2e/users/profile", "user", "/api/v1/users/profile"),
    ("GET", "/api/v1/notes/..%2fusers%2Fprofile", "user", "/api/v1/users/profile"),
    ("GET", "/api/v1/users/a%252e%252e%252fb", "user", "/api/v1/users/a%252e%252e%252fb"),
    ("GET", "/api/v1/users/a%3Fb%23c%20d%25", "user", "/api/v1/users/a%3Fb%23c%20d%25"),
    ("GET", "/api/v1/users/%22%3C%C3%A9", "user", "/api/v1/users/%22%3C%C3%A9"),
    ("GET", "http://gateway.test/api/v1/users/profile", "user", "/api/v1/users/profile"),
]


@pytest.mark.parametrize(("method", "path", "service", "target"), ROUTED)
async def test_a_path_leads_to_its_service(
    platform: Platform, method: str, path: str, service: str, target: str
) -> None:
    response = await platform.gateway.send(method, path)

    assert (response.status, response.body.decode()) == (200, service)
    request = getattr(platform, service).only()
    assert (request.method, request.target) == (method, target)
    assert platform.reached() == []


async def test_the_key_set_comes_from_the_user_service(platform: Platform) -> None:
    response = await platform.gateway.get("/.well-known/jwks.json")

    assert response.json() == platform.issuer.jwks()


async def test_head_is_answered_without_a_body(platform: Platform) -> None:
    response = await platform.gateway.send("HEAD", "/api/v1/users/profile")

    assert response.status == 200
    assert platform.user.only().method == "HEAD"


UNREACHABLE = [
    "/home.html",
    "/metrics",
    "/ready",
    "/health",
    "/internal/anything",
    "/api",
    "/api/",
    "/api/v1",
    "/api/v1/",
    "/api/v1/metrics",
    "/api/v1/usersx/profile",
    "/api/v1/USERS/profile",
    "/api/v1/unknown/profile",
    "/api/v2/users/profile",
    "/api/v10/users/profile",
    "/api/v1/v1/users/profile",
    "/users/profile",
    "/.well-known/openid-configuration",
    "/.well-known/",
    # Ways around the prefix.
    "/api/v1/users/../../../metrics",
    "/api/v1/users/..%2f..%2f..%2fmetrics",
    "/api/v1/users/%2e%2e/%2e%2e/%2e%2e/ready",
    "/api/v1/users/%2e%2e%2f%2e%2e%2f%2e%2e%2finternal/x",
    "//metrics",
    "/%6detrics",
    "/./metrics",
    "/api/../metrics",
    # The gateway's own internal locations.
    "/-/read/api/v1/users/profile",
    "/-/write/metrics",
    "/-/public/internal/x",
    "/-/token",
    "/-/problem",
    "/-/probe/user_v1",
    "/-/preflight/x",
    "/api/../-/token",
    "/%2d/public/metrics",
    "//-//public/metrics",
]


@pytest.mark.parametrize("path", UNREACHABLE)
async def test_no_other_path_reaches_a_service(platform: Platform, path: str) -> None:
    for method in ("GET", "POST"):
        response = await platform.gateway.send(method, path)
        assert response.status == 404
        response.problem()
    assert platform.reached() == []


WITH_A_SLASH = [
    "/api/v1/users/profile/",
    "/api/v1/notes/",
    "/api/notes/",
    "/api/v1/assets/",
    "/api/v1/assets//",
    "/api/v1/assets/%2f",
    "/api/v1/assets/x/..",
    "/api/v1/notes/public/slug/",
    "/.well-known/jwks.json/",
    "/docs/",
    "/openapi.json/",
    "/gateway-health/",
    "http://evil.example/api/v1/notes/",
    "//evil.example/",
    "/%2fevil.example/",
    # Folders and internal locations, which NGINX may complete by a slash.
    "/docs/static",
    "/docs/swagger-ui",
    "/-/read",
    "/-/upload",
    "/-/files",
    "/-/probe",
    "/-",
]


@pytest.mark.parametrize("path", WITH_A_SLASH)
async def test_no_redirect_adds_or_removes_a_slash(platform: Platform, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT"):
        for host in ("gateway.test", "evil.example"):
            response = await platform.gateway.send(method, path, headers={"Host": host, "Idempotency-Key": "1"})
            assert (response.status, response.get("Location")) == (404, None)
    assert platform.reached() == []


@pytest.mark.parametrize("path", ["/api/v1/assets/", "/api/assets/", "/api/v1/users/login/", "/nowhere"])
async def test_a_large_body_to_an_unknown_path_is_not_too_large(platform: Platform, path: str) -> None:
    response = await platform.gateway.post(path, body=bytes(2 * 1024 * 1024))

    assert response.status == 404
    response.problem()
    assert platform.reached() == []


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/users/a%0d%0aX-Service-Name:%20analytics",
        "/api/v1/users/login%0a",
        "/api/v1/users/%00",
        "/api/v1/users/a%7f",
        "/../metrics",
        "/api/v1/users/../../../../metrics",
        "/api/v1/users/%zz",
    ],
)
async def test_a_malformed_path_is_refused(platform: Platform, path: str) -> None:
    response = await platform.gateway.get(path)

    assert response.status == 400
    response.problem()
    assert platform.reached() == []


async def test_a_backslash_does_not_separate_segments(platform: Platform) -> None:
    response = await platform.gateway.get("/api/v1/users/..%5c..%5cmetrics")

    assert response.status == 200
    assert platform.user.only().target == "/api/v1/users/..%5C..%5Cmetrics"


async def test_an_unlisted_service_has_no_routes(harness: GatewayHarness) -> None:
    user = await harness.backend("user")
    gateway = await harness.gateway({"user": [user.address]})

    for method, path in (("POST", "/api/v1/notes"), ("GET", "/api/v1/analytics/stats"), ("POST", "/api/v1/assets")):
        response = await gateway.send(method, path, headers={"Idempotency-Key": "1"})
        assert response.status == 404
        response.problem()
