"""Files that NGINX sends for the assets service: only on its request, and only from the published folder."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway_config.testing.harness import UNLIMITED, Backend, GatewayHarness
from gateway_config.testing.running import RunningGateway
from servicekit.testing.wire_server import reply, responding

pytestmark = pytest.mark.servers

CONTENT = b"0123456789" * 100_000
PATH = "/api/v1/assets/0190/content"
TAG = '"the-service-says-so"'


@dataclass(frozen=True, slots=True)
class Files:
    """A gateway that has a folder, a gateway without one, and the service behind both."""

    sending: RunningGateway
    passing: RunningGateway
    assets: Backend

    def redirect(self, location: str, **headers: str) -> None:
        """Let the service respond with the name of a file."""
        self.assets.respond = responding(reply(x_accel_redirect=location, etag=TAG, **headers))


@pytest.fixture(scope="module")
async def shared_files(module_harness: GatewayHarness, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder: Path = tmp_path_factory.mktemp("files")
    (folder / "published" / "ab").mkdir(parents=True)
    (folder / "published" / "ab" / "file").write_bytes(CONTENT)
    (folder / "secret").write_text("secret")
    assets = await module_harness.backend("assets")
    servers = {"assets": [assets.address]}
    sending = await module_harness.gateway(servers, replace(UNLIMITED, files_dir=str(folder / "published")))
    return Files(sending, await module_harness.gateway(servers), assets)


@pytest.fixture
def files(shared_files: Files) -> Files:
    shared_files.assets.reset()
    return shared_files


async def test_only_the_gateway_tells_the_service_that_files_can_be_sent(files: Files) -> None:
    files.assets.respond = responding(reply(body=b"own"))
    forged = {"X-Sendfile-Type": "forged"}

    for path, header in ((PATH, "X-Accel-Redirect"), ("/api/v1/assets/0190", None), ("/api/v1/assets", None)):
        await files.sending.get(path, headers=forged)
        assert files.assets.only().headers.get("x-sendfile-type") == header
        await files.passing.get(path, headers=forged)
        assert "x-sendfile-type" not in files.assets.only().headers


async def test_a_file_is_sent_with_the_headers_of_the_service(files: Files) -> None:
    files.redirect(
        "/-/files/ab/file",
        content_type="image/png",
        content_disposition='attachment; filename="a.png"',
        cache_control="private, no-cache",
        content_security_policy="sandbox",
    )

    response = await files.sending.get(PATH)

    assert (response.status, response.body) == (200, CONTENT)
    expected = {
        "Content-Type": "image/png",
        "Content-Disposition": 'attachment; filename="a.png"',
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": "sandbox",
        "ETag": TAG,
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
        "Last-Modified": None,
        "X-Accel-Redirect": None,
    }
    assert {name: response.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({"Range": "bytes=10-19"}, 206, CONTENT[10:20]),
        ({"Range": "bytes=-3"}, 206, CONTENT[-3:]),
        ({"Range": "bytes=10-9223372036854775806"}, 206, CONTENT[10:]),
        ({"Range": "bytes=10-9223372036854775807"}, 206, CONTENT[10:]),
        ({"Range": "bytes=10-19", "If-Range": TAG}, 206, CONTENT[10:20]),
        ({"Range": "bytes=10-19", "If-Range": '"other"'}, 200, CONTENT),
        ({"Range": "bytes=" + ",".join(["0-0"] * 17)}, 200, CONTENT),
        ({"If-Modified-Since": "Sat, 21 Nov 2099 07:00:00 GMT"}, 200, CONTENT),
        ({"Accept-Encoding": "gzip"}, 200, CONTENT),
    ],
)
async def test_nginx_sends_ranges_by_the_tag_of_the_service(
    files: Files, headers: dict[str, str], status: int, body: bytes
) -> None:
    files.redirect("/-/files/ab/file", content_type="text/plain")

    response = await files.sending.get(PATH, headers=headers)

    assert (response.status, response.body) == (status, body)
    assert response.get("ETag") == TAG


@pytest.mark.parametrize("location", ["/-/files/../secret", "/-/files/ab/../../secret", "/-/files/no", "/-/files/"])
async def test_only_published_files_are_sent(files: Files, location: str) -> None:
    files.redirect(location)

    response = await files.sending.get(PATH)

    assert response.status in (403, 404)
    assert b"secret" not in response.body


async def test_without_a_folder_nothing_is_sent(files: Files) -> None:
    files.redirect("/-/files/ab/file")
    assert (await files.passing.get(PATH)).status == 404


@pytest.mark.parametrize("path", ["/api/v1/assets/0190", "/api/v1/assets", "/api/v1/assets/0190/content/more"])
async def test_no_other_route_can_make_nginx_send_a_file(files: Files, path: str) -> None:
    files.redirect("/-/files/ab/file")

    response = await files.sending.get(path)

    assert (response.status, response.body) == (200, b"")


async def test_no_client_can_request_the_folder(files: Files) -> None:
    for path in ("/-/files/ab/file", "/-/content/-/files/ab/file", "/%2D/files/ab/file"):
        assert (await files.sending.get(path)).status == 404
