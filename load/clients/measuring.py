"""What is measured of a client or driver. Standard library only: it also runs beside packages of other versions."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

Call = Callable[[], Awaitable[object]]

CANCELLED_CALLS = 1_000
AT_ONCE = 50
POOL = 10
# A call takes up to 6 ms and waits for one of ten connections, so a deadline may meet it at any point.
LATEST_DEADLINE = 0.02
PATIENCE_SECONDS = 3.0


async def one_slice(call: Call, seconds: float, in_flight: int) -> dict[str, Any]:
    """Repeat a call for some seconds; return the times, and the CPU seconds of this process."""
    times: list[float] = []
    started, cpu = time.perf_counter(), time.process_time()
    ends = started + seconds

    async def worker() -> None:
        while (moment := time.perf_counter()) < ends:
            await call()
            times.append(time.perf_counter() - moment)

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return {"times": times, "cpu": time.process_time() - cpu, "seconds": time.perf_counter() - started}


async def left_of_pool(call: Call) -> int:
    """Cancel calls at random deadlines, through a pool of ten; return how many of ten calls get a response then."""
    numbers = random.Random(7)  # nosec B311

    async def cancelled() -> None:
        try:
            async with asyncio.timeout(numbers.uniform(0, LATEST_DEADLINE)):
                await call()
        except Exception:
            pass

    for _ in range(CANCELLED_CALLS // AT_ONCE):
        await asyncio.gather(*(cancelled() for _ in range(AT_ONCE)))

    async def succeeds() -> bool:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await call()
        except Exception:
            return False
        return True

    return sum(await asyncio.gather(*(succeeds() for _ in range(POOL))))


async def reported(call: Call) -> str:
    """Return the class of the exception that a call raises."""
    try:
        await call()
    except Exception as error:
        return type(error).__name__
    return "nothing"
