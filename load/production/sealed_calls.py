"""Makes sealed calls from inside a container of analytics for some seconds, and prints their times as JSON."""

import asyncio
import json
import sys
import time

from analytics_service.peers import COUNT_PATH, USER
from analytics_service.settings import Settings
from servicekit.kit import ServiceKit


async def main(seconds: float) -> None:
    dispatcher = ServiceKit(Settings()).dispatcher
    # The first call opens the connection.
    await dispatcher.call(USER, COUNT_PATH, encrypted=True)
    times: list[float] = []
    began = time.perf_counter()
    while (moment := time.perf_counter()) < began + seconds:
        await dispatcher.call(USER, COUNT_PATH, encrypted=True)
        times.append(time.perf_counter() - moment)
    await dispatcher.aclose()
    print(json.dumps(times))


asyncio.run(main(float(sys.argv[1])))
