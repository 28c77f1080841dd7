"""Keys and ciphers change under load, and no call fails: pairs of services, access tokens, Fernet and AES-256-GCM.

Each test reports the calls made meanwhile and those that failed (`make test ARGS="tests/test_rotation.py -s"`).
"""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import jwt

from servicekit.ops.rotation.journal import FILE
from servicekit.sealing.key_files import read_key_file

SignIn = Callable[[], Awaitable[Any]]
PASSWORD = "correct horse battery staple"
STATS = "/api/v1/analytics/stats"
PROFILE = "/api/v1/users/profile"


@dataclass
class Load:
    """Calls that go on all the while: statistics, each of which is a sealed call to the user service, and logins."""

    url: str
    user: Any
    made: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    stopped: bool = False

    async def read_statistics(self) -> None:
        async with httpx2.AsyncClient(base_url=self.url, headers=self.user.headers, timeout=20) as http:
            while not self.stopped:
                answer = await http.get(STATS)
                stats = answer.json()
                # Statistics do not wait long. A busy machine is late with some, for which no key is to blame.
                late = stats.get("user_count_reason") == "the user service does not answer in time"
                sealed = answer.status_code == 200 and (late or stats["user_count"] is not None)
                self._note("late answer" if late else "sealed call", sealed, answer.text)

    async def log_in(self) -> None:
        """Log in and use the new token at once with both services; use the first token of all as well."""
        async with httpx2.AsyncClient(base_url=self.url, timeout=20) as http:
            while not self.stopped:
                login = {"username_or_email": self.user.username, "password": PASSWORD}
                answer = await http.post("/api/v1/users/login", json=login)
                self._note("login", answer.status_code == 200, answer.text)
                new = {"Authorization": f"Bearer {answer.json().get('access_token')}"}
                for headers in (new, self.user.headers):
                    for path in (PROFILE, STATS):
                        read = await http.get(path, headers=headers)
                        self._note("verified request", read.status_code == 200, read.text)

    async def more(self, calls: int) -> None:
        """Wait until so many more calls were made."""
        goal = self.made.total() + calls
        async with asyncio.timeout(60):
            while self.made.total() < goal:
                await asyncio.sleep(0.01)

    def _note(self, kind: str, succeeded: bool, text: str) -> None:
        self.made[kind] += 1
        if not succeeded:
            self.failed.append(f"{kind}: {text}")


@asynccontextmanager
async def under_load(running: Any, user: Any, *, logins: bool) -> AsyncIterator[Load]:
    """Yield a load; on leaving, demand that no call failed."""
    load = Load(running.gateway_url, user)
    clients = [load.read_statistics] * 3 + [load.log_in] * logins
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client())
        try:
            await load.more(30)
            yield load
            await load.more(30)
        finally:
            load.stopped = True
    sys.stdout.write(f"\ncalls made: {dict(load.made)}, failed: {len(load.failed)}\n")
    assert load.failed == []
    assert load.made["sealed call"] > 0


class Command:
    """A command beside the platform, whose output shows how far it has come."""

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

    async def says(self, text: str) -> None:
        """Return once it has printed a line with this text."""
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
    """Return the key ids of every pair; both sides have to hold the same."""
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(Path(running.data_dir, "secrets", "keys").glob("*/*.json")):
        ids = tuple(key.id for key in read_key_file(path).keys)
        assert found.setdefault(path.stem, ids) == ids
    return found


def interrupted_rotation(running: Any) -> bool:
    return Path(running.data_dir, "secrets", "keys", FILE).exists()


def rotate_keys(running: Any) -> Awaitable[Command]:
    # The calls of this load last for milliseconds; an operator's rotation waits for the real lifetime.
    return Command.start("rotate-keys", running, "--message-seconds", "1")


async def test_the_keys_of_all_pairs_change_and_no_call_fails(running: Any, sign_in: SignIn) -> None:
    before = keys_by_file(running)
    refused = await running.counted("service_sealed_requests_refused_total")
    async with under_load(running, await sign_in(), logins=True) as load:
        first = await rotate_keys(running)
        await first.says("added")
        second = await rotate_keys(running)
        assert await second.end() == 1
        assert "another rotation" in second.output
        assert await first.end() == 0, first.output
        await load.more(30)

    after = keys_by_file(running)
    assert after.keys() == before.keys()
    assert all(len(after[name]) == 1 and after[name] != before[name] for name in before)
    # Not even one that was sent again and so went unnoticed.
    assert await running.counted("service_sealed_requests_refused_total") == refused


async def test_a_rotation_killed_in_every_phase_is_finished_by_the_next_one(running: Any, sign_in: SignIn) -> None:
    before = keys_by_file(running)
    async with under_load(running, await sign_in(), logins=False) as load:
        for phase in ("added", "promoted", "retired"):
            interrupted = await rotate_keys(running)
            await interrupted.says(phase)
            await interrupted.kill()
            await load.more(30)
        last = await rotate_keys(running)
        assert await last.end() == 0, last.output
        assert "going on with the interrupted rotation" in last.output

    after = keys_by_file(running)
    assert all(len(after[name]) == 1 and after[name] != before[name] for name in before)
    assert not interrupted_rotation(running)


async def test_a_replica_that_is_killed_meanwhile_is_waited_for(running: Any, sign_in: SignIn) -> None:
    async with under_load(running, await sign_in(), logins=False):
        rotation = await rotate_keys(running)
        await rotation.says("added")
        running.platform.supervisor.kill("user-1")
        assert await rotation.end() == 0, rotation.output
        await running.platform.supervisor.processes["user-1"].wait_ready()

    assert all(len(ids) == 1 for ids in keys_by_file(running).values())


async def test_a_replica_that_stays_away_stops_the_rotation_where_everything_still_opens(
    running: Any, sign_in: SignIn
) -> None:
    os.killpg(running.pid("user-1"), signal.SIGSTOP)
    try:
        rotation = await Command.start("rotate-keys", running, "--message-seconds", "1", "--timeout", "1")
        assert await rotation.end() == 1
    finally:
        os.killpg(running.pid("user-1"), signal.SIGCONT)
    assert f"user at {running.urls('user')[0]} does not answer" in rotation.output
    assert "nothing is lost" in rotation.output
    assert all(len(ids) == 2 for ids in keys_by_file(running).values())

    again = await rotate_keys(running)
    assert await again.end() == 0, again.output
    assert all(len(ids) == 1 for ids in keys_by_file(running).values())


async def test_the_key_of_access_tokens_changes_and_nobody_is_signed_out(
    running: Any, sign_in: SignIn, gateway: httpx2.AsyncClient
) -> None:
    user = await sign_in()
    directory = Path(running.data_dir, "secrets", "jwt")
    old = (directory / "current").read_text()
    # The gateway would be given 20 s; an unknown key makes it fetch at once.
    command = ("rotate-jwt-key", running, "--gateway-seconds", "6")
    async with under_load(running, user, logins=True):
        interrupted = await Command.start(*command)
        await interrupted.says("published")
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
    """Return the key ids that the replicas publish; several requests reach several of their workers."""
    answers = [await gateway.get("/.well-known/jwks.json") for _ in range(8)]
    return {key["kid"] for answer in answers for key in answer.json()["keys"]}


async def restart_with(running: Any, cipher: str, *names: str) -> None:
    """Restart these replicas with another cipher, as a rolling restart does."""

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
        await load.more(30)
        mixed = [await running.counted(opened, cipher=cipher) for cipher in ("fernet", "aes-256-gcm")]
        await restart_with(running, "aes-256-gcm", "analytics-2", "user-2")
        old = await running.counted(opened, cipher="fernet", caller="analytics")
        await load.more(30)
        assert await running.counted(opened, cipher="fernet", caller="analytics") == old
        await restart_with(running, "fernet", "analytics-1", "user-1")
        await load.more(30)
        await restart_with(running, "fernet", "analytics-2", "user-2")
    assert all(mixed)
    assert (
        await running.counted("service_sealed_requests_refused_total", reason="altered or sealed under another key")
        == 0
    )
