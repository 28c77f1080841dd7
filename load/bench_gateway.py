"""Measure the gateway: against the services behind it, its cache, and downloads against NGINX alone.

    .venv/bin/python load/bench_gateway.py [--quick]

One platform without limits, 32 connections. `NGINX alone` serves the stored file without asking a service. It takes
two minutes; differences below 15 % are ties.
"""

from pathlib import Path

from benchlib import Run, Subject, at_least, http_request, main
from benchlib.platform import Account, BenchPlatform, bench_platform
from benchlib.servers import nginx

CONNECTIONS = 32
# Few clients load large files at once; a connection more would only wait for the loopback's memory.
DOWNLOADS = 4
MEBIBYTE = 1024 * 1024
NOTES, ASSETS = "/api/v1/notes", "/api/v1/assets"


async def measure(run: Run) -> None:
    async with bench_platform(run.folder / "data") as platform:
        account = await platform.sign_up()
        note = {"title": "A note of the bench", "body": "word " * 60, "tags": ["bench"]}
        path = f"{NOTES}/{(await platform.call('POST', NOTES, account, json=note))['id']}"
        public = http_request("GET", (await platform.call("POST", f"{path}/publish", account))["url"])
        own = http_request("GET", path, account.headers)

        def through(name: str, url: str, request: bytes, *services: str) -> Subject:
            return run.http(name, url, request, platform.processes(*services), connections=CONNECTIONS)

        notes, edge = platform.url("notes"), platform.gateway_url
        direct, proxied = through("service", notes, own, "notes"), through("gateway", edge, own, "gateway")
        await run.compare([direct, proxied], group="read a note")
        run.ratio("gateway against the service", "rate", proxied, direct, at_least(0.85))

        served, cached = through("service", notes, public, "notes"), through("gateway", edge, public, "gateway")
        await run.compare([served, cached], group="read a public note")
        run.ratio("public note from the edge", "rate", cached, served, at_least(9))
        run.ratio("public note from the edge, by CPU", "cpu share", cached, served)

        await downloads(run, platform, account)


def path_below(folder: Path, name: str) -> Path:
    (found,) = folder.rglob(name)
    return found.relative_to(folder)


async def downloads(run: Run, platform: BenchPlatform, account: Account) -> None:
    """Compare downloads through the gateway with NGINX serving the same files."""
    objects, headers = run.folder / "data" / "assets" / "objects", {"Content-Type": "text/plain", "X-Filename": "a.txt"}
    processes = platform.processes("gateway", "assets")
    async with nginx(run.folder / "nginx", f"root {objects};") as alone:
        for size, aim in ((10, at_least(0.9)), (100, None)):
            stored = await platform.call("POST", ASSETS, account, headers=headers, data=b"x" * (size * MEBIBYTE))
            file = http_request("GET", f"/{path_below(objects, stored['id'])}")
            content = http_request("GET", f"{ASSETS}/{stored['id']}/content", account.headers)
            bare = run.http("NGINX alone", alone.url, file, alone.processes, connections=DOWNLOADS)
            edge = run.http("gateway and service", platform.gateway_url, content, processes, connections=DOWNLOADS)
            await run.compare([bare, edge], group=f"download of {size} MiB")
            run.ratio(f"download of {size} MiB against NGINX alone", "rate", edge, bare, aim)


if __name__ == "__main__":
    main(measure, __doc__, rounds=7)
