"""Compare the gateway with one that checks no token: what the check of an access token at the edge costs.

    .venv/bin/python load/bench_edge.py [--quick]

The token is known, as that of a client that calls repeatedly. Behind both gateways stands a bare FastAPI route with one
worker, the least that a service can cost. Then an NGINX that responds at once takes its place, so that next to nothing
but the gateway's own work counts. Half a minute; differences below 15 % are ties.
"""

import re
import shutil
from urllib.parse import urlsplit
from uuid import uuid4

from benchlib import Run, at_least, http_request, main
from benchlib.servers import gateway, gunicorn, nginx
from gateway_config.render import STATIC_FILES
from opskit.catalog import read_catalog
from servicekit.testing.tokens import TestIssuer

CONNECTIONS = 32


async def measure(run: Run) -> None:
    issuer, files = TestIssuer(), run.folder / "files"
    shutil.copytree(STATIC_FILES, files)
    snippet = files / "snippets" / "token_check.conf"
    snippet.write_text(re.sub(r"^auth_request .*$", "", snippet.read_text(), flags=re.MULTILINE))
    request = http_request("GET", "/api/v1/notes", issuer.headers(uuid4()))
    instant = "default_type application/json; location / { return 200 '{}'; }"
    async with (
        issuer.publishing() as user,
        gunicorn("benchlib.applications:bare()", run.folder) as route,
        nginx(run.folder / "instant", instant) as fastest,
    ):
        for upstream, server in (("bare FastAPI route", route), ("instant response", fastest)):
            servers = {name: [urlsplit(server.url).netloc] for name in read_catalog()}
            servers["user"] = [urlsplit(user).netloc]
            async with (
                gateway(run.folder / f"checking {upstream}", servers) as checking,
                gateway(run.folder / f"not checking {upstream}", servers, files) as other,
            ):
                check, none = (
                    run.http(name, own.url, request, own.processes, connections=CONNECTIONS)
                    for name, own in (("token checked", checking), ("no check", other))
                )
                await run.compare([none, check], group=f"in front of: {upstream}")
            aim = at_least(0.98) if server is route else None
            run.ratio(f"check of a known token, {upstream}", "rate", check, none, aim)
            run.ratio(f"check of a known token, {upstream}, by CPU of NGINX", "cpu share", check, none)


if __name__ == "__main__":
    main(measure, __doc__)
