"""The gateway's start in its container: what it renders from, what it refuses, and how it is probed."""

import asyncio
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway_config import SettingError
from gateway_config.container.installation import Installation, InstallationError
from gateway_config.container.nginx import reload
from gateway_config.container.own_listener import ask
from opskit.catalog import DEFAULT_PATH

FOLDERS = [str(DEFAULT_PATH.parents[1] / folder) for folder in ("gateway", "shared")]


def start(installation: Installation) -> subprocess.Popen[str]:
    """Run the entry point with this installation, as the interpreter of the image would: without installed packages."""
    program = f"""
import sys; sys.path += {FOLDERS!r}
from pathlib import Path, PosixPath
from opskit.catalog import ServiceEntry
from gateway_config.container.installation import Installation
from gateway_config.container.__main__ import main
main({installation!r})
"""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program], stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def refused(installation: Installation) -> str:
    process = start(installation)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.count("\n") == 1
    return errors


async def test_the_entry_point_becomes_nginx_and_goes_on_with_the_release(contained: Any) -> None:
    await contained.gateway.finish()
    installation = contained.installation
    installation.release_file.write_text('{"notes": {"weight": 100}}')
    leftover = installation.target / "temp" / "body" / "0000000001"
    leftover.write_text("of a request that was killed")

    process = start(installation)
    try:
        async with asyncio.timeout(60):
            while not await contained.gateway.listens():
                assert process.poll() is None
                await asyncio.sleep(0.02)
        assert (installation.target / "nginx.pid").read_text().strip() == str(process.pid)
        assert (await contained.gateway.get("/api/v1/notes")).body == b"candidate"
        assert not leftover.exists()
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize("module", ["__main__", "healthcheck", "traffic"])
def test_no_command_needs_an_installed_package(module: str) -> None:
    program = f"import sys; sys.path += {FOLDERS!r}; import gateway_config.container.{module}"

    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """An installation that nothing was made of yet."""
    return Installation(
        target=tmp_path / "run", tls=tmp_path / "tls", swagger_ui=tmp_path, environ={"GATEWAY_RESOLVER": "127.0.0.11"}
    )


def test_servers_are_found_by_name(installation: Installation) -> None:
    installation.render({"notes": 5})

    text = (installation.target / "rendered" / "http" / "upstreams.conf").read_text()
    for name in installation.catalog:
        assert f"server {name}:8000 max_fails=1 fail_timeout=1s resolve;" in text
        assert (f"server {name}-v2:8000 " in text) == (name == "notes")


def test_a_start_that_cannot_be_says_why_in_one_line(installation: Installation) -> None:
    wrong_setting = replace(installation, environ={**installation.environ, "GATEWAY_RATE_AUTH": "five"})
    assert "GATEWAY_RATE_AUTH" in refused(wrong_setting)

    installation.target.mkdir()
    installation.release_file.write_text('{"nowhere": {"weight": 5}}')
    assert "nowhere" in refused(installation)
    installation.release_file.write_text("nonsense")
    assert "release.json" in refused(installation)


def test_a_mounted_certificate_switches_tls_on(installation: Installation) -> None:
    assert installation.settings().tls_certificate == ""
    installation.tls.mkdir()
    assert installation.settings().tls_certificate == ""

    for name in ("certificate.pem", "key.pem"):
        (installation.tls / name).write_text("PEM")
    settings = installation.settings()

    assert settings.tls_certificate == str(installation.tls / "certificate.pem")
    assert settings.tls_certificate_key == str(installation.tls / "key.pem")


@pytest.mark.parametrize(("there", "missing"), [("certificate.pem", "key.pem"), ("key.pem", "certificate.pem")])
def test_half_a_certificate_is_an_error(installation: Installation, there: str, missing: str) -> None:
    installation.tls.mkdir()
    (installation.tls / there).write_text("PEM")

    with pytest.raises(InstallationError, match=f"holds {there} and no {missing}"):
        installation.settings()


def test_a_certificate_that_cannot_be_read_is_an_error_and_not_plain_http(installation: Installation) -> None:
    installation.tls.mkdir()
    for name in ("certificate.pem", "key.pem"):
        # A folder in its place cannot be read by anybody, not even by the root user of a test.
        (installation.tls / name).mkdir()

    with pytest.raises(InstallationError, match="cannot be read"):
        installation.settings()


def test_a_wrong_setting_is_named(installation: Installation) -> None:
    with pytest.raises(SettingError, match="GATEWAY_PORT"):
        replace(installation, environ={"GATEWAY_PORT": "none"}).settings()


async def test_the_gateway_is_probed_over_plain_http(contained: Any) -> None:
    assert await asyncio.to_thread(ask, contained.installation.target, "/gateway-health") == 200
    assert await asyncio.to_thread(ask, contained.installation.target, "/nowhere") == 404
    await contained.gateway.finish()

    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(ask, contained.installation.target, "/gateway-health")


async def test_the_gateway_is_probed_over_tls(contained: Any, certificate: tuple[Path, Path]) -> None:
    """The way in which NGINX was rendered decides, so a certificate that came later confuses no probe."""
    installation = contained.installation
    installation.tls.mkdir()
    for source, name in zip(certificate, ("certificate.pem", "key.pem"), strict=True):
        shutil.copy(source, installation.tls / name)
    assert await asyncio.to_thread(ask, installation.target, "/gateway-health") == 200

    installation.render({})
    await asyncio.to_thread(reload, installation.target)

    assert await asyncio.to_thread(ask, installation.target, "/gateway-health") == 200
