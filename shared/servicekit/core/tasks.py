"""Work that goes on beside the requests."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

# How long a cancelled task may go on before it is told again.
CANCEL_AGAIN_SECONDS = 0.1


@asynccontextmanager
async def background_task(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` while the context is open, and cancel it at the end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        # Before Python 3.12 `asyncio.wait_for` loses a cancellation that meets the end of what it waits for, and the
        # Valkey client sends every command through it: work that goes on would hold up the stop for ever.
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_AGAIN_SECONDS)
        with suppress(asyncio.CancelledError):
            task.result()
