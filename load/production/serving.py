"""Scenarios: replicas start, stop and are killed, and the gateway reloads."""

import time

from production.bench import Bench
from production.outcome import Outcome, shares

RELOADS = 5
# Each of four replicas has to get at least this share of the requests; a fair share is a quarter.
LEAST_SHARE = 0.10


async def scale(bench: Bench, outcome: Outcome) -> None:
    """Scale notes 1 → 4 → 2; requests spread over all replicas."""
    stack = bench.stack
    await stack.scale("notes", 1)
    async with bench.notes_under_load(outcome):
        up = await stack.scale("notes", 4)
        await stack.serving("notes", 4)
        four = time.time()
        addresses = await stack.addresses("notes")
        await bench.pause(12)
        spread = await stack.attempts("notes", four, time.time())
        down = await stack.scale("notes", 2)
        await bench.pause(6)
    outcome.note(f"1 → 4 healthy after {up:.1f} s, 4 → 2 after {down:.1f} s")
    outcome.note(f"over four replicas: {shares(spread.by_address)} of {sum(spread.by_address.values())} requests")
    least = LEAST_SHARE * sum(spread.by_address.values())
    missed = [address for address in addresses if spread.by_address.get(address, 0) < least]
    outcome.require(
        len(addresses) == 4 and not missed, f"{len(missed)} of {len(addresses)} replicas got too few requests"
    )


async def kill(bench: Bench, outcome: Outcome) -> None:
    """Kill one of two replicas of notes."""
    stack = bench.stack
    await stack.scale("notes", 2)
    rounds = 1 if bench.quick else 5
    repeated = 0
    async with bench.notes_under_load(outcome):
        for _ in range(rounds):
            await stack.serving("notes", 2)
            began = time.time()
            outcome.mark("one of two replicas killed")
            await stack.docker("kill", (await stack.ids("notes"))[0])
            await bench.pause(6)
            repeated += (await stack.attempts("notes", began)).repeated
            back = await stack.scale("notes", 2)
            outcome.mark("two replicas again")
    outcome.note(
        f"{rounds} killed; the gateway sent {repeated} requests to the other replica; two again {back:.1f} s later"
    )


async def reload(bench: Bench, outcome: Outcome) -> None:
    """Let NGINX reload its configuration several times."""
    stack = bench.stack
    async with bench.notes_under_load(outcome):
        for _ in range(RELOADS):
            await stack.compose("kill", "--signal", "HUP", "gateway")
            await bench.pause(3)
    outcome.note(f"{RELOADS} reloads")
