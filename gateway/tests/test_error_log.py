"""NGINX's error log holds no query, and so no signature of a link."""

import asyncio
import subprocess
import sys

import pytest

from gateway_config.error_log import without_queries
from gateway_config.testing.harness import GatewayHarness

SIGNED = "/api/v1/assets/1/content?expires=9&signature=hidden"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            '1#1: *2 failed, client: ::1, request: "GET /a?signature=hidden HTTP/1.1", host: "h"',
            'GET /a HTTP/1.1", host',
        ),
        ('upstream: "http://127.0.0.1:1/a?hidden", host: "h"', '/a", host: "h"'),
        ('host: "h", referrer: "http://h/page?token=hidden"', 'referrer: "http://h/page"'),
        ('request: "GET /a?hidden b HTTP/1.1", host: "h"', '/a HTTP/1.1", host'),
        ('request: "GET /a?b"hidden", host: "h"', '/a", host'),
        ('request: "GET /a?hidden', 'request: "GET /a'),
        ('request: "GET /a?b?hidden HTTP/1.1", upstream: "http://u/a?hidden"', '/a HTTP/1.1", upstream: "http://u/a"'),
        ('subrequest: "/-/token", request: "GET /?hidden HTTP/2.0"', "GET / HTTP/2.0"),
        ("1#1: signal 17 (SIGCHLD) received from 3", "signal 17 (SIGCHLD) received from 3"),
    ],
    ids=["request", "upstream", "referrer", "space", "quote", "cut off", "twice", "subrequest", "no query"],
)
def test_queries_are_removed_and_the_rest_stays(line: str, expected: str) -> None:
    found = without_queries(line.encode()).decode()
    assert expected in found
    assert "hidden" not in found


async def test_the_errors_of_a_running_gateway_name_the_path_and_no_signature(harness: GatewayHarness) -> None:
    gateway = await harness.gateway({"assets": ["127.0.0.1:1"]}, wait_for_keys=False)
    refused = await gateway.get(SIGNED, headers={"Referer": "http://h/?token=hidden"})
    assert refused.status == 502
    async with asyncio.timeout(30):
        while "/api/v1/assets/1/content" not in gateway.errors():
            await asyncio.sleep(0.01)
    assert "hidden" not in gateway.errors()


def test_the_filter_ends_with_its_command_and_passes_on_its_status() -> None:
    command = [sys.executable, "-m", "gateway_config.error_log", "/bin/sh", "-c", "echo '/a?hidden' >&2; exit 3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (3, "/a\n")
