"""The command `traffic` without NGINX: wrong calls, damaged weights, and the smoke test."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway_config.container.installation import Installation
from gateway_config.container.traffic import main
from gateway_config.testing.harness import CATALOG
from servicekit.testing.wire_server import Received, WireServer, reply, responding

Traffic = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(target=tmp_path, catalog={name: CATALOG[name] for name in ("notes", "assets")}, environ={})


@pytest.fixture
def traffic(installation: Installation, capsys: pytest.CaptureFixture[str]) -> Traffic:
    """Return what runs the command and gives its exit status, stdout and stderr."""

    async def run(*words: str, **changes: Any) -> tuple[int, str, str]:
        status = await asyncio.to_thread(main, words, replace(installation, **changes))
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize("text", ["", "{}"])
async def test_an_empty_file_means_no_release(installation: Installation, traffic: Traffic, text: str) -> None:
    installation.release_file.write_text(text)

    assert await traffic() == (0, "{}\n", "")


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"notes": 5}', '{"notes": {}}', '{"notes": {"weight": 101}}', '{"notes": {"weight": true}}']
)
async def test_a_damaged_file_of_weights_is_reported_and_kept(
    installation: Installation, traffic: Traffic, text: str
) -> None:
    installation.release_file.write_text(text)

    for words in ((), ("notes", "5")):
        status, _, reason = await traffic(*words)
        assert (status, str(installation.release_file) in reason) == (1, True)
    assert installation.release_file.read_text() == text


@pytest.mark.parametrize(
    "words",
    [
        ["notes"],
        ["nowhere", "5"],
        ["notes", "101"],
        ["notes", "5.5"],
        ["notes", "on"],
        ["check"],
        ["check", "nowhere"],
        ["notes", "5", "now"],
    ],
)
def test_a_wrong_call_is_explained(
    installation: Installation, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words, installation)

    assert ended.value.code == 2
    assert "notes, assets" in capsys.readouterr().err
    assert not installation.release_file.exists()


# The smoke test


class Canary(WireServer):
    """A canary. `statuses` maps paths to their status, which is 200 by default."""

    def __init__(self) -> None:
        super().__init__(self._behave)
        paths = {"/api/v1/notes": {"get": {}}, "/api/v1/notes/{id}": {"get": {}}, "/api/v1/write": {"post": {}}}
        self.document = json.dumps({"paths": paths}).encode()
        self.statuses = {"/api/v1/notes": 401, "/api/v1/notes/{id}": 500, "/api/v1/write": 500}

    async def _behave(self, request: Received, writer: asyncio.StreamWriter) -> None:
        body = self.document if request.target == "/openapi.json" else b"reasons"
        status = self.statuses.get(request.target, 200)
        await responding(reply(status, body, content_type="application/json"))(request, writer)

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    async with Canary() as canary:
        yield canary


async def test_a_canary_whose_paths_work_passes(canary: Canary, traffic: Traffic) -> None:
    status, output, _ = await traffic("check", "notes", canary_server=canary.address)

    assert (status, output) == (0, f"{canary.address} is ready, and its 1 readable paths answer\n")
    assert [request.target for request in canary.requests] == ["/ready", "/openapi.json", "/api/v1/notes"]


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/ready", 503, "/ready answers 503: reasons"),
        ("/openapi.json", 500, "/openapi.json answers 500 and names no path"),
        ("/api/v1/notes", 500, "/api/v1/notes answers 500"),
    ],
)
async def test_a_failing_canary_is_reported_with_a_reason(
    canary: Canary, traffic: Traffic, path: str, status: int, reason: str
) -> None:
    canary.statuses[path] = status

    result = await traffic("check", "notes", canary_server=canary.address)

    assert result == (1, "", f"{canary.address} fails: {reason}\n")


async def test_a_malformed_api_document_fails_the_smoke_test(canary: Canary, traffic: Traffic) -> None:
    canary.document = b"<html>"

    assert (await traffic("check", "notes", canary_server=canary.address))[0] == 1


async def test_an_unreachable_canary_fails_the_smoke_test(traffic: Traffic) -> None:
    assert (await traffic("check", "notes", canary_server="127.0.0.1:1"))[0] == 1
    status, _, reason = await traffic("check", "notes", canary_server="{service}-v2.invalid:8000")
    assert (status, "notes-v2.invalid has no address" in reason) == (1, True)
