"""Compare the whole service stack with a bare FastAPI route, each under gunicorn with one worker.

    .venv/bin/python load/bench_stack.py [--quick]

The stack is what every service has: request id and context, metrics, access log, time limits, the receiver of sealed
requests, error handling. `signed in` adds an access token, which the service verifies, and the lookup of revoked
sessions. A minute with the default rounds; differences below 15 % are ties.
"""

import json
from uuid import uuid4

from benchlib import Run, at_least, http_request, main
from benchlib.servers import gunicorn
from local_platform.stores import running_stores
from servicekit.testing.sealed import make_keyrings
from servicekit.testing.tokens import TestIssuer

PATH = "/api/v1/parcels/7"


async def measure(run: Run) -> None:
    issuer, folder = TestIssuer(), run.folder
    make_keyrings(folder / "keys", {"bench": ["user"]})
    async with running_stores(folder / "stores", engines=["valkey"]) as stores, issuer.publishing() as user:
        environment = {
            "SERVICE_NAME": "bench",
            "VALKEY_URL": stores.valkey_url(),
            "SERVICE_KEYS_DIR": str(folder / "keys" / "bench"),
            "PEER_URLS": json.dumps({"user": [user]}),
            "FINGERPRINT_SECRET": "f" * 32,
            "USER_RATE": "0",
        }
        async with (
            gunicorn("benchlib.applications:bare()", folder) as bare,
            gunicorn("benchlib.applications:whole()", folder, environment) as whole,
        ):
            request, own = http_request("GET", PATH), http_request("GET", f"{PATH}/own", issuer.headers(uuid4()))
            plain = run.http("bare FastAPI route", bare.url, request, bare.processes)
            stack = run.http("whole stack", whole.url, request, whole.processes)
            signed_in = run.http("whole stack, signed in", whole.url, own, whole.processes)
            await run.compare([plain, stack, signed_in])
    run.ratio("whole stack", "cpu share", stack, plain, at_least(0.85))
    run.ratio("whole stack, by requests/s", "rate", stack, plain)
    run.ratio("whole stack, signed in", "cpu share", signed_in, plain)


if __name__ == "__main__":
    main(measure, __doc__)
