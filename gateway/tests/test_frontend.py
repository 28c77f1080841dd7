"""What stands at `/`: a page of the gateway, or the files of a built frontend."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway_config.testing.harness import UNLIMITED, GatewayHarness, Platform
from gateway_config.testing.running import RunningGateway

pytestmark = pytest.mark.servers

PAGE = b"<!doctype html><title>App</title>"
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FILES = {
    "index.html": PAGE,
    "robots.txt": b"User-agent: *",
    "assets/index-DiwrgTda.js": b"export {};" * 100,
    "assets/index-BcD3fGh1.css": b"body {}",
    "assets/Inter-8chars0_.woff2": b"font",
    "assets/precomposed-icon-monochrome.svg": b"<svg/>",
    "assets/team-Monochrome.svg": b"<svg/>",
    "icon-1280x720.png": b"\x89PNG",
    ".env": b"SECRET=1",
    ".git/config": b"[core]",
    "metrics": b"a file of the frontend",
}
KEPT, ASKED = "public, max-age=31536000, immutable", "no-cache"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a built frontend")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    secret = folder.with_name("secret.txt")
    secret.write_text("outside of the folder")
    (folder / "link.txt").symlink_to(secret)
    return folder


@pytest.fixture(scope="module")
async def frontend(module_harness: GatewayHarness, folder: Path) -> RunningGateway:
    """A gateway with a frontend, in front of one service."""
    notes = await module_harness.backend("notes")
    return await module_harness.gateway({"notes": [notes.address]}, replace(UNLIMITED, static_dir=str(folder)))


async def test_without_a_frontend_a_page_says_where_to_look(platform: Platform) -> None:
    page = await platform.gateway.get("/")

    assert (page.status, page.get("Content-Type")) == (200, "text/html")
    text = page.body.decode()
    assert "http://" not in text
    assert "https://" not in text
    for path in ("/docs", "/openapi.json", "/lb-health", "/docs/static/home.css", "/docs/static/home.js"):
        assert f'"{path}"' in text
    for path, kind in {"/docs/static/home.css": "text/css", "/docs/static/home.js": "application/javascript"}.items():
        file = await platform.gateway.get(path)
        assert (file.status, file.get("Content-Type")) == (200, kind)
    policy = page.get("Content-Security-Policy") or ""
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", ["/", "/settings/profile", "/notes/1", "/docs2"])
async def test_a_browser_gets_the_application_at_each_of_its_routes(frontend: RunningGateway, path: str) -> None:
    response = await frontend.get(path, headers=BROWSER)

    assert (response.status, response.body) == (200, PAGE)
    assert response.get("Content-Type") == "text/html"
    assert response.all("Cache-Control") == [ASKED]
    assert response.get("X-Content-Type-Options") == "nosniff"


async def test_the_start_page_is_there_for_every_client(frontend: RunningGateway) -> None:
    assert (await frontend.get("/", headers={"Accept": "*/*"})).body == PAGE
    assert (await frontend.send("HEAD", "/")).status == 200


@pytest.mark.parametrize(
    "path", ["/assets/gone-12345678.js", "/settings/profile", "/index.html/", "/assets", "/assets/", "/none"]
)
async def test_a_missing_file_is_not_found_for_all_but_browsers(frontend: RunningGateway, path: str) -> None:
    response = await frontend.get(path, headers={"Accept": "*/*"})

    assert (response.status, response.get("Location"), response.get("Cache-Control")) == (404, None, "no-store")
    response.problem()


@pytest.mark.parametrize("path", ["/api", "/api/v1/unknown", "/api/nothing", "/metrics/x", "/ready", "/internal/x"])
async def test_paths_of_the_platform_never_show_the_application(frontend: RunningGateway, path: str) -> None:
    response = await frontend.get(path, headers=BROWSER)

    assert response.status == 404
    response.problem()


@pytest.mark.parametrize("path", ["/.env", "/.git/config", "/%2egit/config", "/assets/../.env", "/link.txt"])
async def test_hidden_files_and_links_are_not_found(frontend: RunningGateway, path: str) -> None:
    response = await frontend.get(path, headers={"Accept": "*/*"})

    assert response.status in (403, 404)
    assert b"SECRET" not in response.body
    assert b"outside" not in response.body


@pytest.mark.parametrize("path", ["/../secret.txt", "/assets/..%2f..%2fsecret.txt", "/-/read", "/-/files/x"])
async def test_no_path_leads_out_of_the_folder(frontend: RunningGateway, path: str) -> None:
    assert (await frontend.get(path, headers={"Accept": "*/*"})).status in (400, 404)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_a_frontend_is_only_read(frontend: RunningGateway, method: str) -> None:
    assert (await frontend.send(method, "/index.html", headers=BROWSER)).status == 404


@pytest.mark.parametrize(
    ("path", "caching"),
    [
        ("/assets/index-DiwrgTda.js", KEPT),
        ("/assets/index-BcD3fGh1.css", KEPT),
        ("/assets/Inter-8chars0_.woff2", KEPT),
        ("/assets/precomposed-icon-monochrome.svg", ASKED),
        ("/assets/team-Monochrome.svg", ASKED),
        ("/icon-1280x720.png", ASKED),
        ("/robots.txt", ASKED),
        ("/index.html", ASKED),
    ],
)
async def test_only_files_named_by_their_content_are_kept(frontend: RunningGateway, path: str, caching: str) -> None:
    response = await frontend.get(path)

    assert (response.status, response.all("Cache-Control")) == (200, [caching])
    tag = response.get("ETag")
    assert tag is not None
    again = await frontend.get(path, headers={"If-None-Match": tag})
    assert (again.status, again.all("Cache-Control")) == (304, [caching])


async def test_scripts_are_compressed(frontend: RunningGateway) -> None:
    response = await frontend.get("/assets/index-DiwrgTda.js", headers={"Accept-Encoding": "gzip"})

    assert (response.get("Content-Type"), response.get("Content-Encoding")) == ("text/javascript", "gzip")


async def test_a_frontend_has_its_own_policy_and_other_responses_keep_theirs(
    harness: GatewayHarness, folder: Path
) -> None:
    notes = await harness.backend("notes")
    policy = "default-src 'self' https://cdn.example; report-to x"
    settings = replace(UNLIMITED, static_dir=f"{folder}/", static_csp=policy)
    gateway = await harness.gateway({"notes": [notes.address]}, settings)

    assert (await gateway.get("/", headers=BROWSER)).all("Content-Security-Policy") == [policy]
    assert (await gateway.get("/assets/index-DiwrgTda.js")).all("Content-Security-Policy") == [policy]
    for path in ("/api/v1/notes", "/docs", "/gateway-health", "/nowhere"):
        (other,) = (await gateway.get(path)).all("Content-Security-Policy")
        assert "cdn.example" not in other


async def test_the_platform_is_reached_beside_a_frontend(frontend: RunningGateway) -> None:
    assert (await frontend.get("/api/v1/notes", headers=BROWSER)).body == b"notes"
    assert (await frontend.get("/docs", headers=BROWSER)).status == 200
    assert (await frontend.get("/gateway-health")).status == 200


async def test_requests_for_files_count_against_the_general_limit(harness: GatewayHarness, folder: Path) -> None:
    notes = await harness.backend("notes")
    settings = replace(UNLIMITED, rate_general=1, static_dir=str(folder))
    gateway = await harness.gateway({"notes": [notes.address]}, settings)

    assert 429 in {(await gateway.get("/robots.txt")).status for _ in range(10)}
