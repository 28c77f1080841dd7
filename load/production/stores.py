"""Scenarios: a store ends under load. Acknowledged writes stay, and writing goes on."""

import asyncio
import time

from production.bench import Bench, report_durability
from production.load import ACCOUNTS_SETTLED, NOTES_SETTLED, Load
from production.load_user import LoadUser
from production.outcome import Outcome
from production.stats import DurabilityReport, longest_gap

# Passwords are hashed slowly on purpose, so accounts are created at a share of the rate.
ACCOUNTS_SHARE = 0.25
# The statuses that a request may get during the outage: try again later, or from the gateway, no response.
TEMPORARY = ("409", "502", "503", "504")
# Writes have to succeed again within this time.
RESUMED_SECONDS = 30.0

PRIMARY = """
import pymongo
url = open("/run/secrets/mongo_url").read().strip()
print(pymongo.MongoClient(url, serverSelectionTimeoutMS=20000).admin.command("hello")["primary"].partition(":")[0])
"""


async def mongo_primary(bench: Bench, outcome: Outcome) -> None:
    """Kill MongoDB's primary while notes are written; a client repeats a failed request with the same key."""
    stack = bench.stack
    user = await LoadUser.sign_up(await stack.gateway())
    primary = (await stack.inside("notes", PRIMARY)).strip()
    load = bench.load(user, NOTES_SETTLED)
    try:
        async with load:
            await bench.pause(6)
            (container,) = await stack.ids(primary)
            killed = time.monotonic()
            await stack.docker("kill", container)
            await _resumed(load, killed)
            await bench.pause(15)
    finally:
        # Docker does not restart a container that `docker kill` ended.
        await stack.compose("start", primary)
        await stack.healthy(primary, 1)
    successor = (await stack.inside("notes", PRIMARY)).strip()
    outcome.note(f"primary {primary}, then {successor}")
    outcome.require(successor != primary, "no other node became primary")
    _report(outcome, load, killed)
    report_durability(outcome, DurabilityReport.compare(load.written, await user.notes()), "notes")


async def postgres(bench: Bench, outcome: Outcome) -> None:
    """Restart PostgreSQL while accounts are created; a client repeats a failed request with the same key."""
    stack = bench.stack
    user = await LoadUser.sign_up(await stack.gateway())
    before = await user.count_accounts()
    load = bench.load(user, ACCOUNTS_SETTLED, ACCOUNTS_SHARE)
    (container,) = await stack.ids("postgres")
    async with load:
        await bench.pause(6)
        restarted = time.monotonic()
        await stack.docker("restart", container)
        await _resumed(load, restarted)
        await bench.pause(15)
    _report(outcome, load, restarted)
    found = await user.accounts(load.written.values())
    made = await user.count_accounts() - before
    lost = len(load.written) - found
    outcome.note(f"{len(load.written)} accounts acknowledged, {lost} lost, {max(0, made - found)} doubled")
    outcome.require(lost == 0, f"{lost} acknowledged accounts are lost")
    outcome.require(made == len(load.written), f"{made} accounts were created, {len(load.written)} acknowledged")


async def _resumed(load: Load, since: float) -> None:
    """Wait until several writes that began afterwards were acknowledged."""
    enough = len(load.written_at) + 3 * load.clients
    while len(load.written_at) < enough and time.monotonic() - since < 3 * RESUMED_SECONDS:
        await asyncio.sleep(0.1)


def _report(outcome: Outcome, load: Load, since: float) -> None:
    outcome.record(load)
    gap = longest_gap([at for at in load.written_at if at > since - 1])
    outcome.note(f"longest time without an acknowledged write: {gap:.1f} s")
    outcome.require(gap < RESUMED_SECONDS, f"writes did not go on for {gap:.0f} s")
    mistakes = sum(
        count
        for stats in (load.reads, load.writes)
        for reason, count in stats.failures.items()
        if not reason.startswith(TEMPORARY)
    )
    outcome.require(mistakes == 0, f"{mistakes} responses did not say that the failure is temporary")
    outcome.require(load.unsettled == 0, f"{load.unsettled} writes were never acknowledged")
