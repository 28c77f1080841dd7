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
FILE_BYTES = 10 * 1024 * 1024
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
    """Compare a download through the gateway with NGINX serving the same file."""
    headers = {"Content-Type": "text/plain", "X-Filename": "bench.txt"}
    asset = (await platform.call("POST", ASSETS, account, headers=headers, data=b"x" * FILE_BYTES))["id"]
    objects = run.folder / "data" / "assets" / "objects"
    async with nginx(run.folder / "nginx", f"root {objects};") as alone:
        file = http_request("GET", f"/{path_below(objects, asset)}")
        content = http_request("GET", f"{ASSETS}/{asset}/content", account.headers)
        bare = run.http("NGINX alone", alone.url, file, alone.processes, connections=DOWNLOADS)
        download = run.http(
            "gateway and service",
            platform.gateway_url,
            content,
            platform.processes("gateway", "assets"),
            connections=DOWNLOADS,
        )
        await run.compare([bare, download], group=f"download of {FILE_BYTES >> 20} MiB")
    run.ratio("download against NGINX alone", "rate", download, bare, at_least(0.9))


if __name__ == "__main__":
    main(measure, __doc__, rounds=7)
