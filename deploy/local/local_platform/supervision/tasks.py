"""Several coroutines at once, where the first failure ends the rest."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def run_concurrently(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Run all; when one fails, cancel the others, wait for them, and raise that one error as it is.

    A TaskGroup would wrap it, and every caller would have to unwrap it again.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
