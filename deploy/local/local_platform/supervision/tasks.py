"""Several coroutines at once; the first failure cancels the others."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def run_concurrently(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Run all; when one fails, cancel the others, wait for them, and raise that one error.

    A TaskGroup would wrap the error in a group, which every caller would have to unwrap.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
