"""The whole platform: what `make run` promises."""

import asyncio
import contextlib
import json
import os
import re
import signal
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from local_platform.supervision.probes import NotReady, http_get
from opskit.catalog import read_catalog
from opskit.rotated_file import LIMIT_BYTES

pytestmark = pytest.mark.servers

STORES = ("postgres", "mongo", "valkey")


class Launcher:
    """`python -m local_platform` as a user runs it."""

    def __init__(self, process: asyncio.subprocess.Process, data_dir: Path) -> None:
        self.process = process
        self.data_dir = data_dir

    @classmethod
    async def start(cls, data_dir: Path, *arguments: str, **environment: str) -> "Launcher":
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "local_platform",
                "run",
                "--data-dir",
                str(data_dir),
                "--gateway-port",
                "0",
                *arguments,
            ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "CONSOLE": "off", **environment},
        )
        return cls(process, data_dir)

    async def ready(self) -> str:
        """Return the first line of standard output."""
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode()

    async def end(self, number: signal.Signals = signal.SIGINT) -> tuple[int | None, str, str]:
        """Stop the launcher; return its exit status, the rest of standard output, standard error."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> tuple[int | None, str, str]:
        """Wait for the launcher's own end; return the same."""
        output, errors = await self.process.communicate()
        return self.process.returncode, output.decode(), errors.decode()

    def run_file(self) -> dict[str, Any]:
        return json.loads((self.data_dir / "run.json").read_text())

    def pids(self) -> dict[str, int]:
        return {process["name"]: process["pid"] for process in self.run_file()["processes"]}

    def family(self) -> list[psutil.Process]:
        """Return all descendants of the launcher."""
        return psutil.Process(self.process.pid).children(recursive=True)


async def eventually(holds: Callable[[], Awaitable[bool] | bool]) -> None:
    """Poll a condition of other processes until it holds or the test times out."""
    while True:
        result = holds()
        if result if isinstance(result, bool) else await result:
            return
        await asyncio.sleep(0.02)


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that still run; a zombie does not count."""
    alive = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


async def responds(url: str) -> bool:
    try:
        return (await http_get(url))[0] == 200
    except NotReady:
        return False


@pytest.fixture
async def launch(tmp_path) -> AsyncIterator[Callable[..., Awaitable[Launcher]]]:
    """Return a function that starts launchers, which are stopped after the test."""
    started = []

    async def start(*arguments: str, data_dir: Path = tmp_path / "data", **environment: str) -> Launcher:
        started.append(await Launcher.start(data_dir, *arguments, **environment))
        return started[-1]

    yield start
    for launcher in started:
        await launcher.end()


@pytest.fixture(scope="module")
async def killed(tmp_path_factory) -> Launcher:
    """A launcher that was killed while its platform ran, and that left no orphans."""
    launcher = await Launcher.start(tmp_path_factory.mktemp("running") / "data")
    await launcher.ready()
    family = launcher.family()
    await launcher.end(signal.SIGKILL)
    await eventually(lambda: living(family) == [])
    return launcher


@pytest.fixture(scope="module")
async def running(killed) -> AsyncIterator[Launcher]:
    """One platform with two replicas of each service, for the tests that leave it running.

    It continues on the data of a killed launcher.
    """
    launcher = await Launcher.start(killed.data_dir, "--replicas", "2", USER_RATE="77")
    try:
        line = await launcher.ready()
        assert re.fullmatch(r"ready http://127\.0\.0\.1:\d+\n", line)
        yield launcher
    finally:
        status, output, errors = await launcher.end()
    assert (status, output) == (0, ""), errors


async def test_run_json_lists_what_runs(running):
    path = running.data_dir / "run.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = running.run_file()
    assert set(content) == {"gateway", "processes"}
    services = read_catalog()
    expected = {"postgres": "postgres", "mongo-1": "mongo", "valkey": "valkey", "mail": "mail", "gateway": "gateway"}
    expected |= {f"{service}-{number}": service for service in services for number in (1, 2)}
    assert {process["name"]: process["service"] for process in content["processes"]} == expected
    for process in content["processes"]:
        assert set(process) == {"name", "service", "pid", "url"}
        assert running.process.pid in {parent.pid for parent in psutil.Process(process["pid"]).parents()}
        assert re.fullmatch(r"(http|postgresql|mongodb|redis|smtp)://127\.0\.0\.1:\d+", process["url"])
    assert content["gateway"] == next(
        process["url"] for process in content["processes"] if process["name"] == "gateway"
    )


async def test_the_gateway_reaches_every_service(running):
    status, body = await http_get(running.run_file()["gateway"] + "/lb-health")
    assert status == 200
    assert json.loads(body)["services"] == dict.fromkeys(read_catalog(), "up")


async def test_every_process_listens_on_loopback_only(running):
    listening = [
        connection.laddr.ip
        for process in running.family()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {"127.0.0.1"}


async def test_no_secret_is_in_a_command_line_an_environment_or_a_log(running):
    folder = running.data_dir / "secrets"
    names = ("*password", "*.key", "fingerprint_secret")
    secrets = {path.read_text() for name in names for path in folder.rglob(name)}
    assert len(secrets) > 5
    texts = [path.read_text(errors="replace") for path in (running.data_dir / "logs").iterdir()]
    texts += [" ".join(process.cmdline()) for process in running.family()]
    texts += [" ".join(process.environ().values()) for process in running.family()]
    assert not [secret for secret in secrets for text in texts if secret in text]
    for path in [folder, *folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


async def test_logs_are_rotated_while_the_platform_runs(running):
    gateway, logs = running.run_file()["gateway"], running.data_dir / "logs"
    replica = next(process["url"] for process in running.run_file()["processes"] if process["name"] == "user-1")
    files = {logs / "user-1.log": replica, running.data_dir / "gateway" / "access.log": gateway}
    paths = (f"/rotated-{number}" for number in count())
    for file, url in files.items():
        with file.open("ab") as log:
            log.write(b"-" * LIMIT_BYTES + b"\n")
        aside, sent = file.with_name(f"{file.name}.1"), []

        async def request(url=url, sent=sent) -> None:
            sent.append(next(paths))
            await http_get(url + sent[-1])

        while not aside.exists():
            await request()
        for _ in range(50):
            await request()
        # NGINX writes its lines in batches.
        await eventually(lambda file=file, sent=sent: sent[-1] in file.read_text())
        text = (aside.read_text() + file.read_text()).replace("-" * LIMIT_BYTES, "")
        assert [text.count(f'"{path}"') for path in sent] == [1] * len(sent)
        assert file.stat().st_size < LIMIT_BYTES


async def test_settings_of_the_user_reach_the_services(running):
    for process in running.run_file()["processes"]:
        if process["service"] in read_catalog():
            assert psutil.Process(process["pid"]).environ()["USER_RATE"] == "77"


async def test_an_account_becomes_an_administrator_while_the_platform_runs(running):
    url = running.run_file()["gateway"] + "/api/v1/users"
    account = {"username": "ada", "email": "ada@example.org", "password": "difference engine 2"}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/register", json=account) as response:
            assert response.status == 201
        admin = [sys.executable, "-m", "local_platform", "admin", "--data-dir", str(running.data_dir), "ada"]
        assert await (await asyncio.create_subprocess_exec(*admin)).wait() == 0
        login = {"username_or_email": "ada", "password": account["password"]}
        async with session.post(f"{url}/login", json=login) as response:
            token = (await response.json())["access_token"]
        async with session.get(f"{url}/profile", headers={"Authorization": f"Bearer {token}"}) as response:
            assert (await response.json())["role"] == "admin"


async def test_a_second_start_on_the_same_directory_names_the_running_instance(running, launch):
    second = await launch(data_dir=running.data_dir)
    status, output, errors = await second.ended()
    assert (status, output) == (1, "")
    assert (
        f"is in use by a running instance (pid {running.process.pid}, gateway {running.run_file()['gateway']})"
        in errors
    )
    assert "Traceback" not in errors


async def test_a_taken_port_is_reported_before_anything_starts(running, launch, tmp_path):
    port = running.run_file()["gateway"].rsplit(":", 1)[1]
    second = await launch("--gateway-port", port)
    status, _, errors = await second.ended()
    assert status == 1
    assert errors.startswith(f"error: port {port} is taken by another program")
    assert not (tmp_path / "data" / "logs").exists()


async def test_every_killed_process_is_restarted(running):
    gateway = running.run_file()["gateway"]
    for name, pid in running.pids().items():
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda name=name, pid=pid: running.pids()[name] != pid)
    urls = [process["url"] for process in running.run_file()["processes"] if process["service"] in read_catalog()]
    for url in [*(f"{url}/ready" for url in urls), f"{gateway}/lb-health"]:
        await eventually(lambda url=url: responds(url))


async def test_a_killed_launcher_leaves_no_orphans_and_its_data_starts_again(killed, running):
    assert running.data_dir == killed.data_dir
    assert running.process.pid != killed.process.pid
    assert running.process.returncode is None


async def test_a_stop_while_it_starts_leaves_nothing_behind(launch, tmp_path):
    launcher = await launch()
    await eventually((tmp_path / "data" / "run.json").exists)
    family = launcher.family()
    status, output, errors = await launcher.end(signal.SIGTERM)
    assert (status, output) == (0, ""), errors
    assert living(family) == []
    assert not (tmp_path / "data" / "run.json").exists()


async def test_an_unusable_directory_is_reported_without_a_traceback(launch, tmp_path):
    (tmp_path / "file").touch()
    launcher = await launch(data_dir=tmp_path / "file")
    status, _, errors = await launcher.ended()
    assert status == 1
    assert errors.startswith("error: DATA_DIR")
    assert errors.count("\n") == 1


async def test_a_setting_that_the_gateway_refuses_is_reported_before_anything_starts(launch, tmp_path):
    launcher = await launch(GATEWAY_RATE_AUTH="many")
    status, _, errors = await launcher.ended()
    assert status == 1
    assert "GATEWAY_RATE_AUTH" in errors
    assert not (tmp_path / "data" / "logs").exists()
