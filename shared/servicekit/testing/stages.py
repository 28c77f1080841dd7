"""Processes that stop for good at a stage of their work, where a test kills them."""

import asyncio
import sys
from typing import Any


def stop_after(owner: type, name: str) -> None:
    """Let an asynchronous method of a class do its work, write `there`, and never return."""
    method = getattr(owner, name)

    async def stopping(*arguments: Any) -> None:
        await method(*arguments)
        sys.stdout.write("there\n")
        sys.stdout.flush()
        await asyncio.Event().wait()

    setattr(owner, name, stopping)
