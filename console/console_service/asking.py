"""Questions to all services at once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from loguru import logger

from servicekit.core.errors import ServiceError

T = TypeVar("T")


async def ask_all(services: Sequence[str], ask: Callable[[str], Awaitable[T]], what: str) -> list[tuple[str, T]]:
    """Return the services with what they respond. Those that raise `ServiceError` are left out, with a log line."""
    responses = await asyncio.gather(*map(ask, services), return_exceptions=True)
    found = []
    for service, response in zip(services, responses, strict=True):
        if isinstance(response, ServiceError):
            logger.warning("no {} of {}: {}", what, service, response)
        elif isinstance(response, BaseException):
            raise response
        else:
            found.append((service, response))
    return found
