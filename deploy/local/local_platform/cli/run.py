"""`make run`: starts the platform, stays in the foreground, and stops it in order."""

import asyncio
import signal
import sys

from local_platform.cli.display import Display
from local_platform.cli.streams import TolerantStream
from local_platform.platform.launcher import Platform, prepared
from local_platform.platform.options import Options
from local_platform.supervision.diagnosis import explain_os_error
from local_platform.supervision.status_table import StatusTable

# `make`, `timeout` and a terminal may each pass on the same Ctrl-C; only a later one forces the stop.
SAME_REQUEST_SECONDS = 1.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """The user's request to stop. A second one forces the stop."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.force = asyncio.Event()
        self._since = 0.0

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            # Under nohup, which ignores SIGHUP, the platform outlives its terminal.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self.receive)

    def receive(self) -> None:
        """Take in one signal."""
        now = asyncio.get_running_loop().time()
        if not self.stop.is_set():
            self._since = now
            self.stop.set()
        elif now - self._since > SAME_REQUEST_SECONDS:
            self.force.set()


def run_platform(options: Options) -> int:
    """Run the platform until the user stops it. Raises LaunchError."""
    try:
        asyncio.run(_run(options))
    except OSError as error:
        raise explain_os_error(error, options.data_dir) from error
    return 0


async def _run(options: Options) -> None:
    status_table = StatusTable()
    display = Display(status_table)
    request = StopRequest()
    request.listen()
    async with prepared(options, status_table, request.force, display.print) as platform:
        try:
            with display.live():
                ready = await _start_unless_stopped(platform, request)
            if ready:
                print(f"ready {platform.gateway_url}", file=TolerantStream(sys.stdout), flush=True)
                display.print(f"  docs  {platform.gateway_url}/docs")
                display.print(f"  metrics  {platform.gateway_metrics_url} of the gateway, for Prometheus")
                if platform.console_url:
                    display.print(f"  console  {platform.gateway_url}/console, for accounts with the role admin")
                display.print(f"  mail  {platform.mailbox.folder}, sent to {platform.mailbox.url}")
                display.print(f"  logs  {platform.logs}; follow them with: make logs")
                await request.stop.wait()
        finally:
            display.print("stopping; press Ctrl-C again to force")
            with display.live():
                await platform.stop()


async def _start_unless_stopped(platform: Platform, request: StopRequest) -> bool:
    """Start the platform; return False if the user stops it before it is ready."""
    starting = asyncio.create_task(platform.start())
    stopping = asyncio.create_task(request.stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    await starting
    return True
