"""Keys and ciphers change under load, and no call fails: pairs of services, access tokens, Fernet and AES-256-GCM.

Each test prints how many calls it made and how many failed (`make test ARGS="tests/test_rotation.py -s"`).
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest

from servicekit.dispatcher import Dispatcher, DispatchError, Peer, create_transport
from servicekit.ops.rotation.journal import FILE
from servicekit.sealing.client import MessageSealer
from servicekit.sealing.key_files import read_key_file
from servicekit.sealing.keyring import Keyring
from servicekit.testing.serving import http_client
from tests.outcomes import Outcomes

pytestmark = pytest.mark.needs("analytics", "notes")

SignIn = Callable[[], Awaitable[Any]]
PASSWORD = "correct horse battery staple"
STATS = "/api/v1/analytics/stats"
COUNT = "/api/v1/users/stats/count"
PROFILE = "/api/v1/users/profile"
# Between two calls of a client. Without a pause the load takes the processors from the processes that restart.
PAUSE_SECONDS = 0.05


@dataclass
class Load:
    """Calls in the background: sealed ones to the user service, statistics, which need one each second, and logins."""

    url: str
    user: Any
    # With the keys of the notes service, which this process reads again when they change, as a worker does.
    dispatcher: Dispatcher
    made: Outcomes = field(default_factory=Outcomes)
    failed: list[str] = field(default_factory=list)
    stopped: bool = False

    async def call_sealed(self) -> None:
        while not self.stopped:
            try:
                await self.dispatcher.call("user", COUNT, encrypted=True)
                self._note("sealed call", True, "")
            except DispatchError as error:
                self._note("sealed call", False, str(error))
            await asyncio.sleep(PAUSE_SECONDS)

    async def read_statistics(self) -> None:
        async with http_client(self.url, headers=self.user.headers) as http:
            while not self.stopped:
                response = await http.get(STATS)
                stats = response.json()
                # Statistics do not wait long for the user service. On a busy machine some are late, whatever the keys.
                late = stats.get("user_count_reason") == "the user service does not answer in time"
                succeeded = response.status_code == 200 and (late or stats["user_count"] is not None)
                self._note("late statistics" if late else "statistics", succeeded, response.text)
                await asyncio.sleep(PAUSE_SECONDS)

    async def log_in(self) -> None:
        """Log in, use both the new token and the first one with both services, and log out."""
        async with http_client(self.url) as http:
            while not self.stopped:
                login = {"username_or_email": self.user.username, "password": PASSWORD}
                response = await http.post("/api/v1/users/login", json=login)
                self._note("login", response.status_code == 200, response.text)
                new = {"Authorization": f"Bearer {response.json().get('access_token')}"}
                for headers in (new, self.user.headers):
                    for path in (PROFILE, STATS):
                        read = await http.get(path, headers=headers)
                        self._note("verified request", read.status_code == 200, read.text)
                # An account has at most 100 sessions: without logouts, a fast machine would end the first one.
                logout = await http.post("/api/v1/users/logout", headers=new)
                self._note("logout", logout.status_code == 204, logout.text)
                await asyncio.sleep(PAUSE_SECONDS)

    def _note(self, kind: str, succeeded: bool, text: str) -> None:
        self.made.note(kind)
        if not succeeded:
            self.failed.append(f"{kind}: {text}")


@asynccontextmanager
async def under_load(running: Any, user: Any, *, logins: bool) -> AsyncIterator[Load]:
    """Run a load while the context is open; then check that no call failed."""
    keyring = Keyring("notes", running.key_directory("notes"))
    dispatcher = Dispatcher(
        [Peer("user", tuple(running.urls("user")))],
        transport=create_transport("aiohttp"),
        sealer=MessageSealer("notes", keyring, "fernet"),
    )
    load = Load(running.gateway_url, user, dispatcher)
    clients = [load.call_sealed, *[load.read_statistics] * 2, *[load.log_in] * logins]
    async with keyring.watching(), dispatcher, asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client())
        try:
            await load.made.more(30)
            yield load
            await load.made.more(30)
        finally:
            load.stopped = True
    sys.stdout.write(f"\ncalls made: {dict(load.made)}, failed: {len(load.failed)}\n")
    assert load.failed == []
    assert min(load.made["sealed call"], load.made["statistics"]) > 0


class Command:
    """A command on the running platform, whose output shows its progress."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.output = ""

    @classmethod
    async def start(cls, name: str, running: Any, *options: str) -> "Command":
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "local_platform", name, "--data-dir", str(running.data_dir), *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        return cls(process)

    async def until_printed(self, text: str) -> None:
        """Return when the command has printed a line with this text."""
        async with asyncio.timeout(60):
            while text not in self.output:
                line = await self._line()
                assert line, self.output

    async def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def end(self) -> int:
        async with asyncio.timeout(90):
            while await self._line():
                pass
            return await self._process.wait()

    async def _line(self) -> str:
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode()
        self.output += line
        return line


def keys_by_file(running: Any) -> dict[str, tuple[str, ...]]:
    """Return the key ids of every pair; check that both sides hold the same."""
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(Path(running.data_dir, "secrets", "keys").glob("*/*.json")):
        ids = tuple(key.id for key in read_key_file(path).keys)
        assert found.setdefault(path.stem, ids) == ids
    return found


def interrupted_rotation(running: Any) -> bool:
    return Path(running.data_dir, "secrets", "keys", FILE).exists()


def rotate_keys(running: Any) -> Awaitable[Command]:
    # The calls of the load take milliseconds. In production a rotation waits for the lifetime of a message.
    return Command.start("rotate-keys", running, "--message-seconds", "1")


async def test_the_keys_of_all_pairs_change_and_no_call_fails(running: Any, sign_in: SignIn) -> None:
    before = keys_by_file(running)
    refused = await running.counted("service_sealed_requests_refused_total")
    async with under_load(running, await sign_in(), logins=True) as load:
        first = await rotate_keys(running)
        await first.until_printed("added")
        second = await rotate_keys(running)
        assert await second.end() == 1
        assert "another rotation" in second.output
        assert await first.end() == 0, first.output
        await load.made.more(30)

    after = keys_by_file(running)
    assert after.keys() == before.keys()
    assert all(len(after[name]) == 1 and after[name] != before[name] for name in before)
    # Not even a call that was retried.
    assert await running.counted("service_sealed_requests_refused_total") == refused


async def test_a_rotation_killed_in_every_phase_is_finished_by_the_next_one(running: Any, sign_in: SignIn) -> None:
    before = keys_by_file(running)
    async with under_load(running, await sign_in(), logins=False) as load:
        for phase in ("added", "promoted", "retired"):
            interrupted = await rotate_keys(running)
            await interrupted.until_printed(phase)
            await interrupted.kill()
            await load.made.more(30)
        last = await rotate_keys(running)
        assert await last.end() == 0, last.output
        assert "the interrupted rotation of" in last.output

    after = keys_by_file(running)
    assert all(len(after[name]) == 1 and after[name] != before[name] for name in before)
    assert not interrupted_rotation(running)


async def test_a_rotation_waits_for_a_replica_that_is_killed_meanwhile(running: Any, sign_in: SignIn) -> None:
    async with under_load(running, await sign_in(), logins=False):
        rotation = await rotate_keys(running)
        await rotation.until_printed("added")
        running.platform.supervisor.kill("user-1")
        assert await rotation.end() == 0, rotation.output
        await running.platform.supervisor.processes["user-1"].wait_ready()

    assert all(len(ids) == 1 for ids in keys_by_file(running).values())


async def test_an_unavailable_replica_stops_the_rotation_while_both_keys_are_valid(
    running: Any, sign_in: SignIn
) -> None:
    os.killpg(running.pid("user-1"), signal.SIGSTOP)
    try:
        rotation = await Command.start("rotate-keys", running, "--message-seconds", "1", "--timeout", "1")
        assert await rotation.end() == 1
    finally:
        os.killpg(running.pid("user-1"), signal.SIGCONT)
    assert f"user at {running.urls('user')[0]} does not respond" in rotation.output
    assert "nothing is lost" in rotation.output
    assert all(len(ids) == 2 for ids in keys_by_file(running).values())

    again = await rotate_keys(running)
    assert await again.end() == 0, again.output
    assert all(len(ids) == 1 for ids in keys_by_file(running).values())


async def test_the_key_of_access_tokens_changes_and_every_token_stays_valid(
    running: Any, sign_in: SignIn, gateway: httpx2.AsyncClient
) -> None:
    user = await sign_in()
    directory = Path(running.data_dir, "secrets", "jwt")
    old = (directory / "current").read_text()
    # In production gateways get 20 s to fetch the new key. Here the first token signed with it makes the gateway fetch.
    command = ("rotate-jwt-key", running, "--gateway-seconds", "1")
    async with under_load(running, user, logins=True):
        interrupted = await Command.start(*command)
        await interrupted.until_printed("published")
        await interrupted.kill()
        again = await Command.start(*command)
        assert await again.end() == 0, again.output

    new = (directory / "current").read_text()
    assert new != old
    later = await sign_in()
    assert jwt.get_unverified_header(user.tokens["access_token"])["kid"] == old
    assert jwt.get_unverified_header(later.tokens["access_token"])["kid"] == new
    assert await published(gateway) == {old, new}

    (directory / f"{old}.retire-after").write_text("2026-01-01T00:00:00+00:00")
    async with asyncio.timeout(60):
        while await published(gateway) != {new}:
            await asyncio.sleep(0.1)


async def published(gateway: httpx2.AsyncClient) -> set[str]:
    """Return the key ids that the replicas publish; several requests reach all workers."""
    responses = [await gateway.get("/.well-known/jwks.json") for _ in range(8)]
    return {key["kid"] for response in responses for key in response.json()["keys"]}


async def restart_with(running: Any, cipher: str, *names: str) -> None:
    """Restart these replicas with another cipher, as in a rolling restart."""

    async def restart(name: str) -> None:
        child = running.platform.supervisor.processes[name]
        await running.platform.stop_process(name)
        environment = {**child.spec.command.environment, "SERVICE_CIPHER": cipher}
        child.spec = replace(child.spec, command=replace(child.spec.command, environment=environment))
        await running.platform.start_process(name)

    await asyncio.gather(*map(restart, names))


async def test_the_fleet_moves_to_the_other_cipher_and_back_and_no_call_fails(running: Any, sign_in: SignIn) -> None:
    opened = "service_sealed_requests_opened_total"
    async with under_load(running, await sign_in(), logins=False) as load:
        await restart_with(running, "aes-256-gcm", "analytics-1", "user-1")
        # A service asks for the number of users once a second, so 30 calls may pass without one.
        async with asyncio.timeout(60):
            for cipher in ("fernet", "aes-256-gcm"):
                while not await running.counted(opened, cipher=cipher, caller="analytics"):
                    await load.made.more(30)
        await restart_with(running, "aes-256-gcm", "analytics-2", "user-2")
        old = await running.counted(opened, cipher="fernet", caller="analytics")
        await load.made.more(30)
        assert await running.counted(opened, cipher="fernet", caller="analytics") == old
        await restart_with(running, "fernet", "analytics-1", "user-1")
        await load.made.more(30)
        await restart_with(running, "fernet", "analytics-2", "user-2")
    assert (
        await running.counted("service_sealed_requests_refused_total", reason="altered or sealed under another key")
        == 0
    )
