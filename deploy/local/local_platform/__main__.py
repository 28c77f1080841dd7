"""`python -m local_platform`: start the platform, stay in the foreground, stop it in order."""

import asyncio
import signal
import sys

from local_platform.cli.display import Audience, Display
from local_platform.errors import LaunchError
from local_platform.platform.launcher import Platform, prepared
from local_platform.platform.options import Options, parse
from local_platform.supervision.diagnosis import explain_os_error
from local_platform.supervision.status_table import StatusTable

# `make`, `timeout` and a terminal may each pass on the same Ctrl-C; only a later one means "force".
SAME_REQUEST_SECONDS = 1.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """The user's wish to stop; a second wish hurries."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.force = asyncio.Event()
        self._since = 0.0

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            # Whoever starts us with nohup wants us to outlive the terminal.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self.ask)

    def ask(self) -> None:
        """Take one signal: the first stops, a later one hurries."""
        now = asyncio.get_running_loop().time()
        if not self.wanted.is_set():
            self._since = now
            self.wanted.set()
        elif now - self._since > SAME_REQUEST_SECONDS:
            self.force.set()


async def run(options: Options) -> None:
    """Run the platform until somebody asks to stop it."""
    status_table = StatusTable()
    display = Display(status_table)
    request = StopRequest()
    request.listen()
    async with prepared(options, status_table, request.force, display.say) as platform:
        try:
            with display.working():
                came_up = await _start_unless_stopped(platform, request)
            if came_up:
                print(f"ready {platform.gateway_url}", file=Audience(sys.stdout), flush=True)
                await request.wanted.wait()
        finally:
            display.say("stopping; once more to force")
            with display.working():
                await platform.stop()


async def _start_unless_stopped(platform: Platform, request: StopRequest) -> bool:
    """Start the platform; return False if the user wants to stop before it is up."""
    starting = asyncio.create_task(platform.start())
    stopping = asyncio.create_task(request.wanted.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    await starting
    return True


def main() -> int:
    """Run until stopped; return the exit status: 0 after a stop that was asked for, 1 with a message on stderr."""
    options = parse()
    try:
        asyncio.run(run(options))
    except LaunchError as error:
        return _fail(error)
    except OSError as error:
        return _fail(explain_os_error(error, options.data_dir))
    return 0


def _fail(error: LaunchError) -> int:
    print(f"error: {error}", file=Audience(sys.stderr))
    return 1


if __name__ == "__main__":
    sys.exit(main())
