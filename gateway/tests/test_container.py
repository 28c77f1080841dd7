"""The gateway's container: its entry point and its health check."""

import asyncio
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gateway_config.container.installation import Installation
from gateway_config.container.nginx import get_status, healthcheck, reload
from gateway_config.testing.harness import InstalledGateway
from opskit.catalog import DEFAULT_PATH

pytestmark = pytest.mark.servers

FOLDERS = [str(DEFAULT_PATH.parents[1] / folder) for folder in ("gateway", "shared")]


def start(installation: Installation) -> subprocess.Popen[str]:
    """Run the entry point with this installation and without installed packages, as in the image."""
    program = f"""
import sys; sys.path += {FOLDERS!r}
from pathlib import Path, PosixPath
from opskit.catalog import ServiceEntry
from gateway_config.container.installation import Installation
from gateway_config.container.nginx import start
start({installation!r})
"""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program], stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def errors_of(installation: Installation) -> str:
    """Return what the entry point writes when it refuses to start."""
    process = start(installation)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.count("\n") == 1
    return errors


async def test_the_entry_point_becomes_nginx_and_continues_the_release(installed: InstalledGateway) -> None:
    await installed.gateway.finish()
    installation = installed.installation
    installation.release_file.write_text('{"notes": {"weight": 100}}')
    leftover = installation.target / "temp" / "body" / "0000000001"
    leftover.write_text("the body of a request that was killed")

    process = start(installation)
    try:
        async with asyncio.timeout(60):
            while not await installed.gateway.listens():
                assert process.poll() is None
                await asyncio.sleep(0.02)
        assert (await installed.gateway.get("/api/v1/notes")).body == b"canary"
        # NGINX writes it after it has begun to listen, and before a worker responds.
        assert (installation.target / "nginx.pid").read_text().strip() == str(process.pid)
        assert not leftover.exists()
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_a_start_that_fails_gives_its_reason_in_one_line(tmp_path: Path) -> None:
    installation = Installation(
        target=tmp_path, tls=tmp_path / "tls", swagger_ui=tmp_path, environ={"GATEWAY_RESOLVER": "127.0.0.11"}
    )
    invalid = replace(installation, environ={**installation.environ, "GATEWAY_RATE_AUTH": "five"})
    assert "GATEWAY_RATE_AUTH" in errors_of(invalid)

    installation.release_file.write_text('{"nowhere": {"weight": 5}}')
    assert "nowhere" in errors_of(installation)
    installation.release_file.write_text("nonsense")
    assert "release.json" in errors_of(installation)


async def test_the_health_check_asks_the_gateway(
    installed: InstalledGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asyncio.to_thread(healthcheck, installed.installation) == 0
    assert await asyncio.to_thread(get_status, installed.installation.target, "/nowhere") == 404
    await installed.gateway.finish()

    assert await asyncio.to_thread(healthcheck, installed.installation) == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "refused" in errors


async def test_the_health_check_uses_tls_once_nginx_does(
    installed: InstalledGateway, certificate: tuple[Path, Path]
) -> None:
    """The rendered configuration decides, so a certificate that is mounted later does not confuse the health check."""
    installation = installed.installation
    installation.tls.mkdir()
    for source, name in zip(certificate, ("certificate.pem", "key.pem"), strict=True):
        shutil.copy(source, installation.tls / name)
    assert await asyncio.to_thread(healthcheck, installation) == 0

    installation.render({})
    await asyncio.to_thread(reload, installation.target)

    assert await asyncio.to_thread(healthcheck, installation) == 0
