"""The tour of `make demo`, through the running platform."""

import asyncio
import re
import subprocess
import sys
from typing import Any

import httpx2
import pytest


@pytest.mark.needs("analytics", "notes", "assets")
async def test_the_tour_finds_everything_as_claimed_as_often_as_it_is_taken(running: Any) -> None:
    command = [sys.executable, "-m", "local_platform", "demo", "--data-dir", str(running.data_dir)]
    for _ in range(2):
        tour = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True, text=True)
        assert tour.returncode == 0, tour.stdout + tour.stderr
        assert "7 steps, everything as claimed." in tour.stdout
        links = re.findall(r"https?://\S+", tour.stdout)
        assert links
        async with httpx2.AsyncClient(trust_env=False, timeout=20) as browser:
            assert {(await browser.get(link)).status_code for link in links} == {200}


async def test_the_tour_finds_out_when_a_claim_does_not_hold(running: Any, tmp_path: Any) -> None:
    """Services that are asked in the gateway's place see every forged token."""
    run_file = (running.data_dir / "run.json").read_text()
    (tmp_path / "run.json").write_text(run_file.replace(running.gateway_url, running.urls("user")[0]))
    (tmp_path / "secrets").symlink_to(running.data_dir / "secrets")
    program = f"""
import pathlib
from local_platform.cli.demo import Tour, take_tour
steps = {{Tour.a_new_account: "user", Tour.a_forged_token: "user"}}
raise SystemExit(take_tour(pathlib.Path({str(tmp_path)!r}), steps))
"""
    command = [sys.executable, "-c", program]
    tour = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True, text=True)
    assert tour.returncode == 1, tour.stdout + tour.stderr
    assert "✗ by the gateway: no replica of the user service has seen it" in tour.stdout
