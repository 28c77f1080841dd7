"""Background tasks."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

# A task that is still running this long after its cancellation is cancelled again.
CANCEL_AGAIN_SECONDS = 0.1


@asynccontextmanager
async def background_task(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` while the context is open, and cancel it at the end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await cancel(task)


async def cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end. Raises what the task raised."""
    # Before Python 3.12 `asyncio.wait_for` loses a cancellation that arrives as the awaited task ends. The Valkey
    # client sends every command through it, so a task that missed its cancellation would block the shutdown.
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_AGAIN_SECONDS)
    with suppress(asyncio.CancelledError):
        task.result()
