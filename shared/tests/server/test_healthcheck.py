"""A container's health check: healthy is 200, and everything else is one line and a failure."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from servicekit.server import healthcheck as probe
from servicekit.testing.wire_server import Behaviour, WireServer, closing, hanging, reply, responding

SHARED = Path(probe.__file__).parents[2]


async def run(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "servicekit.server.healthcheck",
        *arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_a_200_is_healthy_and_prints_nothing() -> None:
    async with WireServer(responding(reply(200, b'{"status": "ready"}'))) as server:
        assert await run(f"{server.url}/ready") == (0, "")

        assert [(request.method, request.target) for request in server.requests] == [("GET", "/ready")]


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (reply(503, b'{"status": 503,\n "reasons": ["postgres does not answer"]}'), "postgres does not answer"),
        (reply(404), "responded with 404"),
        # A probe that followed it would report another server's health.
        (reply(307, location="/health"), "responded with 307"),
        (b"220 mail.example ESMTP\r\n\r\n", "BadStatusLine"),
    ],
    ids=["not ready", "no such path", "redirect", "no HTTP"],
)
async def test_any_other_response_is_unhealthy_and_is_reported_in_one_line(response: bytes, said: str) -> None:
    async with WireServer(responding(response)) as server:
        status, output = await run(f"{server.url}/ready")

    assert status == 1
    assert said in output
    assert output.count("\n") == 1


@pytest.mark.parametrize("behaviour", [closing, hanging])
async def test_a_server_that_does_not_respond_is_unhealthy(behaviour: Behaviour) -> None:
    async with WireServer(behaviour) as server:
        assert await asyncio.to_thread(probe.failure, server.url, timeout=0.1) is not None


@pytest.mark.parametrize(
    "arguments",
    [(), ("http://127.0.0.1:1/ready",), ("https://127.0.0.1/",), ("127.0.0.1:8000",), ("http://127.0.0.1:x/",)],
)
async def test_what_cannot_be_asked_is_unhealthy(arguments: tuple[str, ...]) -> None:
    status, output = await run(*arguments)

    assert status == 1
    assert output.count("\n") == 1
    assert "Traceback" not in output


def test_it_needs_nothing_that_is_installed() -> None:
    """The check runs all the time: it must not import the kit, let alone a framework."""
    code = f"import sys; sys.path.append({str(SHARED)!r}); import servicekit.server.healthcheck"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
