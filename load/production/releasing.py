"""Scenarios: a release, a failing release, a restart."""

import secrets
import time

from opskit.catalog import read_catalog
from production.bench import Bench
from production.outcome import Outcome
from production.stack import CommandResult, Stack

SERVICES = tuple(read_catalog())
# It responds with 500 to every signed-in user, but its health check and the gateway's check pass.
FAILING = """
FROM {image}
USER root
RUN printf '%s\\n' \\
    '_whole = create_app' \\
    'def create_app(*given, **named):' \\
    '    from starlette.responses import JSONResponse' \\
    '    app = _whole(*given, **named)' \\
    '    @app.middleware("http")' \\
    '    async def fail(request, call_next):' \\
    '        if "authorization" in request.headers:' \\
    '            return JSONResponse({"detail": "failing on purpose"}, status_code=500)' \\
    '        return await call_next(request)' \\
    '    return app' >> notes_service/app.py
USER app
"""


async def release(bench: Bench, outcome: Outcome) -> None:
    """Release notes: an image that is built from the checkout."""
    stack = bench.stack
    tag = _tag()
    await stack.scale("notes", 2)
    before = set(await stack.ids("notes"))
    await stack.prepare_release(tag)
    try:
        async with bench.notes_under_load(outcome):
            began = time.time()
            outcome.mark("make release")
            result = await _make_release(bench, tag)
            outcome.mark("the release has ended")
            took = time.time() - began
            met = (await stack.attempts("notes", began)).by_release.get("v2", 0)
        outcome.note(f"make release: exit status {result.code} after {took:.0f} s; v2 handled {met} requests")
        outcome.require(result.code == 0, f"the release did not succeed:\n{result.end}")
        outcome.require(met > 0, "v2 got no request")
        after = set(await stack.ids("notes"))
        outcome.require(len(after) == 2 and not after & before, "not every replica was replaced")
        await _require_release_over(stack, outcome)
    finally:
        await stack.remove_image(tag)


async def failing_release(bench: Bench, outcome: Outcome) -> None:
    """Release a version of notes whose routes respond with 500: it is rolled back."""
    stack = bench.stack
    tag = _tag()
    await stack.scale("notes", 2)
    before = await stack.image("notes"), set(await stack.ids("notes"))
    await stack.prepare_release(tag, FAILING)
    try:
        async with bench.notes_under_load(outcome):
            began = time.time()
            outcome.mark("make release")
            result = await _make_release(bench, tag)
            outcome.mark("the release has ended")
            took = time.time() - began
            met = (await stack.attempts("notes", began)).by_release.get("v2", 0)
        outcome.note(
            f"make release: exit status {result.code} after {took:.0f} s; v2 failed {met} requests, which v1 handled"
        )
        outcome.require(result.code != 0, "the release of a failing version succeeded")
        outcome.require(met > 0, "the failing version got no request")
        outcome.require(
            (await stack.image("notes"), set(await stack.ids("notes"))) == before, "notes is not as it was before"
        )
        await _require_release_over(stack, outcome)
    finally:
        await stack.remove_image(tag)


async def restart(bench: Bench, outcome: Outcome) -> None:
    """Replace every replica of every service, one after the other."""
    stack = bench.stack
    before = {service: set(await stack.ids(service)) for service in SERVICES}
    async with bench.notes_under_load(outcome):
        result = await stack.make("restart")
    outcome.require(result.code == 0, f"make restart failed:\n{result.end}")
    after = {service: set(await stack.ids(service)) for service in SERVICES}
    kept = [service for service in SERVICES if before[service] & after[service]]
    outcome.require(not kept, f"replicas were not replaced: {', '.join(kept)}")
    outcome.note(f"{sum(map(len, before.values()))} replicas of {len(SERVICES)} services replaced")


def _tag() -> str:
    return f"evidence-{secrets.token_hex(4)}"


async def _make_release(bench: Bench, tag: str) -> CommandResult:
    steps = ("STEPS=25 100", "STEP_SECONDS=3") if bench.quick else ()
    return await bench.stack.make("release", "SERVICE=notes", f"TAG={tag}", *steps)


async def _require_release_over(stack: Stack, outcome: Outcome) -> None:
    outcome.require(not await stack.ids("notes-v2"), "replicas of v2 are left")
    for state in await stack.releases():
        outcome.require(state == "{}", f"a gateway still knows a release: {state}")
