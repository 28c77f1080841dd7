"""Measure logins: against raw argon2id hashes, registrations, and what 16 logins cost a profile read.

    .venv/bin/python load/bench_logins.py [--quick]

Logins and registrations go to the user service directly. Raw hashes have the same cost and occupy all cores. Reads go
through the gateway at 50 a second, so that a slow one does not delay the next; each is timed from the moment when it
was due. Quiet and busy slices alternate. It takes four minutes; differences below 15 % are ties.
"""

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor

import argon2

from benchlib import UNIQUE, Client, Run, Sample, Subject, at_least, at_most, calls, http_request, main
from benchlib.client import Load
from benchlib.platform import PASSWORD, bench_platform
from user_service.passwords.hashing import OWASP_MINIMUM

LOGINS_IN_FLIGHT = 16
READS_PER_SECOND = 50.0
READ_SECONDS = 4.0
USERS = "/api/v1/users"
JSON = {"Content-Type": "application/json"}


def raw_hashes(pool: ThreadPoolExecutor) -> Subject:
    """Return a subject that verifies passwords on all cores."""
    hasher = argon2.PasswordHasher(OWASP_MINIMUM.iterations, OWASP_MINIMUM.memory_kibibytes, OWASP_MINIMUM.lanes)
    encoded = hasher.hash(PASSWORD)
    return calls(
        "raw argon2id",
        lambda: asyncio.get_running_loop().run_in_executor(pool, hasher.verify, encoded, PASSWORD),
        LOGINS_IN_FLIGHT,
    )


def beside(read: Subject, load: Load) -> Subject:
    """Return the reads, while other clients log in."""

    async def run(seconds: float) -> Sample:
        with Client() as other:
            # The logins begin before the reads and end after them.
            logins = asyncio.create_task(asyncio.to_thread(other.send, load, seconds + 1))
            await asyncio.sleep(0.5)
            sample = await read.run(seconds)
            outcome = await logins
            if set(outcome.statuses) != {200}:
                raise RuntimeError(f"logins got {outcome.statuses}: {outcome.example!r}")
            return sample

    return Subject(f"beside {LOGINS_IN_FLIGHT} logins", run)


async def measure(run: Run) -> None:
    pool = run.stack.enter_context(ThreadPoolExecutor(os.cpu_count() or 1))
    async with bench_platform(run.folder) as platform:
        accounts = [await platform.sign_up() for _ in range(LOGINS_IN_FLIGHT)]
        logins = [
            http_request(
                "POST",
                f"{USERS}/login",
                JSON,
                json.dumps({"username_or_email": account.username, "password": PASSWORD}).encode(),
            )
            for account in accounts
        ]
        name = UNIQUE.decode()
        account = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        register = http_request("POST", f"{USERS}/register", JSON, json.dumps(account).encode())
        user, url = platform.processes("user"), platform.url("user")
        hashing = raw_hashes(pool)
        login = run.http("login", url, logins, user)
        registration = run.http("registration", url, register, user, statuses=[201])
        await run.compare([hashing, login, registration], group="logins and registrations")
        run.ratio("logins against raw argon2id", "rate", login, hashing, at_least(0.85))
        run.ratio("logins against raw argon2id, by CPU", "cpu share", login, hashing)
        run.ratio("registrations against raw argon2id", "rate", registration, hashing)

        profile = http_request("GET", f"{USERS}/profile", accounts[0].headers)
        quiet = run.http("quiet", platform.gateway_url, profile, user, connections=64, rate=READS_PER_SECOND)
        busy = beside(quiet, Load(platform.gateway_url, logins, LOGINS_IN_FLIGHT))
        await run.compare([quiet, busy], group="profile read", seconds=READ_SECONDS)
        run.ratio(f"profile p99 beside {LOGINS_IN_FLIGHT} logins", "p99", busy, quiet, at_most(1.5))


if __name__ == "__main__":
    main(measure, __doc__, rounds=7, seconds=3.0, quick=(3, 2.0))
