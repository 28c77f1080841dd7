"""A sealed call by hand: what is on the wire, and what is inside of it."""

from pathlib import Path

import pytest
from fastapi import FastAPI

from servicekit.ops.call import call, main
from servicekit.sealing.route_policy import install_policies, sealed
from servicekit.testing.sealed import make_keyrings
from servicekit.testing.serving import listening, sealed_app
from servicekit.testing.settings import as_environment, unconnected_settings


def _peer(keys: Path) -> FastAPI:
    keyrings = make_keyrings(keys, {"analytics": ["user"], "user": []})
    app = sealed_app("user", keyrings["user"])

    @app.get("/count", dependencies=[sealed("analytics")])
    async def count(of: str = "") -> dict[str, str]:
        return {"secret": "inside", "of": of}

    @app.post("/double", dependencies=[sealed("analytics")])
    async def double(numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]

    install_policies(app)
    return app


@pytest.mark.servers
async def test_both_sides_of_a_sealed_call_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with listening(_peer(tmp_path)) as url:
        settings = unconnected_settings("analytics", service_keys_dir=tmp_path / "analytics", peer_urls={"user": [url]})
        assert await call(settings, "user", "/count?of=all", "GET", None) == 0
        request, response, opened = _parts(capsys)
        assert request.startswith(f"sealed request: GET {url}/count?of=all\n")
        assert "x-service-name: analytics" in request.lower()
        assert response.startswith("sealed response: 200, ")
        assert "inside" not in request + response
        assert opened.startswith("opened response: 200\n")
        assert '{"secret":"inside","of":"all"}' in opened

        assert await call(settings, "user", "/double", "POST", b"[1,2]") == 0
        assert _parts(capsys)[2].endswith("[2,4]")

        assert await call(settings, "user", "/nowhere", "GET", None) == 1
        assert "opened response: 404" in capsys.readouterr().out


async def test_a_peer_that_is_not_called_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = unconnected_settings("analytics", service_keys_dir=tmp_path, peer_urls={"user": ["http://127.0.0.1:1"]})
    assert await call(settings, "notes", "/", "GET", None) == 1
    assert capsys.readouterr().err == "error: no peer 'notes' is configured (analytics calls user)\n"


def test_the_settings_are_those_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_keyrings(tmp_path, {"analytics": ["user"], "user": []})
    # No server listens on port 1.
    settings = unconnected_settings(
        "analytics", service_keys_dir=tmp_path / "analytics", peer_urls={"user": ["http://127.0.0.1:1"]}
    )
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert main(["user", "/count"]) == 1
    assert capsys.readouterr().out.startswith("sealed request: GET http://127.0.0.1:1/count\n")


def _parts(capsys: pytest.CaptureFixture[str]) -> list[str]:
    parts = capsys.readouterr().out.strip().split("\n\n")
    # A body stands apart from its headers.
    joined: list[str] = []
    for part in parts:
        if part.startswith(("sealed", "opened")):
            joined.append(part)
        else:
            joined[-1] += f"\n{part}"
    return joined
