"""Files that NGINX sends: only where the assets service says so, and only from the published folder."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateway_config import GatewaySettings
from servicekit.testing.wire_server import answering, reply

CONTENT = b"0123456789" * 100_000
PATH = "/api/v1/assets/0190/content"
UNLIMITED = GatewaySettings(rate_general=0, rate_auth=0, rate_upload=0)
TAG = '"the-service-says-so"'


@dataclass
class Files:
    """A gateway that has a folder, one that has none, and the service behind both."""

    sending: Any
    passing: Any
    assets: Any

    def tell(self, location: str, **headers: str) -> None:
        """Let the service answer with the name of a file."""
        self.assets.answer = answering(reply(x_accel_redirect=location, etag=TAG, **headers))


@pytest.fixture(scope="module")
async def shared_files(new_world: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Files]:
    folder: Path = tmp_path_factory.mktemp("files")
    (folder / "published" / "ab").mkdir(parents=True)
    (folder / "published" / "ab" / "file").write_bytes(CONTENT)
    (folder / "secret").write_text("secret")
    async with new_world(tmp_path_factory.mktemp("gateways")) as world:
        user, assets = await world.backend("user"), await world.backend("assets")
        servers = {"user": [user.address], "assets": [assets.address]}
        sending = await world.gateway(servers, replace(UNLIMITED, files_dir=str(folder / "published")))
        passing = await world.gateway(servers, UNLIMITED)
        yield Files(sending, passing, assets)


@pytest.fixture
def files(shared_files: Files) -> Files:
    shared_files.assets.requests.clear()
    return shared_files


async def test_the_service_is_told_that_files_can_be_sent_and_by_nobody_else(files: Files) -> None:
    files.assets.answer = answering(reply(body=b"own"))
    forged = {"X-Sendfile-Type": "forged"}

    for path, said in ((PATH, "X-Accel-Redirect"), ("/api/v1/assets/0190", None), ("/api/v1/assets", None)):
        await files.sending.get(path, headers=forged)
        assert files.assets.only().headers.get("x-sendfile-type") == said
        await files.passing.get(path, headers=forged)
        assert "x-sendfile-type" not in files.assets.only().headers


async def test_a_file_is_sent_with_what_the_service_says_of_it(files: Files) -> None:
    files.tell(
        "/-/files/ab/file",
        content_type="image/png",
        content_disposition='attachment; filename="a.png"',
        cache_control="private, no-cache",
        content_security_policy="sandbox",
    )

    answer = await files.sending.get(PATH)

    assert (answer.status, answer.body) == (200, CONTENT)
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
    assert {name: answer.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({"Range": "bytes=10-19"}, 206, CONTENT[10:20]),
        ({"Range": "bytes=-3"}, 206, CONTENT[-3:]),
        ({"Range": "bytes=10-19", "If-Range": TAG}, 206, CONTENT[10:20]),
        ({"Range": "bytes=10-19", "If-Range": '"other"'}, 200, CONTENT),
        ({"Range": "bytes=" + ",".join(["0-0"] * 17)}, 200, CONTENT),
        ({"If-Modified-Since": "Sat, 21 Nov 2099 07:00:00 GMT"}, 200, CONTENT),
        ({"Accept-Encoding": "gzip"}, 200, CONTENT),
    ],
)
async def test_nginx_cuts_out_ranges_by_the_services_tag(
    files: Files, headers: dict[str, str], status: int, body: bytes
) -> None:
    files.tell("/-/files/ab/file", content_type="text/plain")

    answer = await files.sending.get(PATH, headers=headers)

    assert (answer.status, answer.body) == (status, body)
    assert answer.get("ETag") == TAG


@pytest.mark.parametrize("location", ["/-/files/../secret", "/-/files/ab/../../secret", "/-/files/no", "/-/files/"])
async def test_nothing_but_published_files_is_sent(files: Files, location: str) -> None:
    files.tell(location)

    answer = await files.sending.get(PATH)

    assert answer.status in (403, 404)
    assert b"secret" not in answer.body


async def test_without_a_folder_nothing_is_sent(files: Files) -> None:
    files.tell("/-/files/ab/file")
    assert (await files.passing.get(PATH)).status == 404


@pytest.mark.parametrize("path", ["/api/v1/assets/0190", "/api/v1/assets", "/api/v1/assets/0190/content/more"])
async def test_no_other_route_can_make_nginx_send_a_file(files: Files, path: str) -> None:
    files.tell("/-/files/ab/file")

    answer = await files.sending.get(path)

    assert (answer.status, answer.body) == (200, b"")


async def test_no_client_names_the_folder(files: Files) -> None:
    for path in ("/-/files/ab/file", "/-/content/-/files/ab/file", "/%2D/files/ab/file"):
        assert (await files.sending.get(path)).status == 404
