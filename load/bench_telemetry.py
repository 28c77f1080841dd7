"""Measure what the console costs the services: reading a note with a console, and with none.

    .venv/bin/python load/bench_telemetry.py [--quick]

Every variant is the notes service under gunicorn, with one worker, on the stores of one running platform. The console
is an NGINX that accepts everything, so only the sender is measured. The dead console refuses connections; the one that
hangs takes them and never responds. Differences below 15 % are ties; `cpu share` needs no quiet machine.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from benchlib import Run, at_least, http_request, main
from benchlib.platform import bench_platform
from benchlib.servers import free_port, gunicorn, nginx
from local_platform.platform.running import running_layout
from local_platform.platform.service_environment import service_environment
from opskit.catalog import read_catalog

NOTES = "/api/v1/notes"


@asynccontextmanager
async def hanging_console() -> AsyncIterator[str]:
    """Take connections and never respond."""

    async def hold(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 16):
            pass

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def measure(run: Run) -> None:
    async with AsyncExitStack() as stack:
        platform = await stack.enter_async_context(bench_platform(run.folder / "platform"))
        account = await platform.sign_up()
        note = await platform.call("POST", NOTES, account, json={"title": "A note", "body": "word " * 60})
        request = http_request("GET", f"{NOTES}/{note['id']}", account.headers)
        accepting = await stack.enter_async_context(nginx(run.folder / "console", "location / { return 200 '{}'; }"))
        hanging = await stack.enter_async_context(hanging_console())
        variants = {
            "no console": {},
            "1 % traced": {"CONSOLE_URL": accepting.url, "OTEL_TRACES_SAMPLER_ARG": "0.01"},
            "all traced": {"CONSOLE_URL": accepting.url, "OTEL_TRACES_SAMPLER_ARG": "1"},
            "ten traces a second": {"CONSOLE_URL": accepting.url},
            "dead console": {"CONSOLE_URL": f"http://127.0.0.1:{free_port()}"},
            "hanging console": {"CONSOLE_URL": hanging},
        }
        entry = read_catalog()["notes"]
        peers = {peer: [platform.url(peer)] for peer in entry.calls}
        layout = running_layout(run.folder / "platform")
        settings = service_environment(layout, entry, peers=peers, settings={"USER_RATE": "0"})
        subjects = {}
        for name, more in variants.items():
            folder = run.folder / name.replace(" ", "-").replace("%", "percent")
            folder.mkdir()
            own = {"LOG_DIR": str(folder), "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"), "WEB_CONCURRENCY": "1"}
            server = await stack.enter_async_context(
                gunicorn("notes_service.app:create_app()", folder, {**settings, **own, **more}, probe="/health")
            )
            subjects[name] = run.http(name, server.url, request, server.processes)
        await run.compare(list(subjects.values()))
    aims = {
        "1 % traced": 0.95,
        "all traced": 0.85,
        "ten traces a second": 0.95,
        "dead console": 0.98,
        "hanging console": 0.98,
    }
    for name, aim in aims.items():
        run.ratio(name, "rate", subjects[name], subjects["no console"], at_least(aim))
        run.ratio(f"{name}, CPU", "cpu share", subjects[name], subjects["no console"])


if __name__ == "__main__":
    main(measure, __doc__)
