"""The user service, as this service calls it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from loguru import logger

from analytics_service.statistics.queries import UserCountUnavailable
from servicekit.core import context
from servicekit.dispatcher import CallPolicy, DispatchError, InvalidCall, PeerClient, PeerTimeout, PeerUnavailable

USER: Final = "user"
COUNT_PATH: Final = "/api/v1/users/stats/count"

# Statistics are useful without the number of users, so they do not wait long for it.
COUNT_POLICY: Final = CallPolicy(attempts=2, deadline=1.0, attempt_timeout=0.6, connect_timeout=0.3)

# How long a count serves further statistics, in seconds. A failure serves only those that waited for it.
COUNT_SECONDS: Final = 1.0


class UserService:
    """Fulfils `statistics.queries.UserCounter`. At most one call for the count is in flight."""

    def __init__(self, dispatcher: PeerClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._count = 0
        self._fresh_until = float("-inf")
        self._call: asyncio.Task[int] | None = None

    async def count(self) -> int:
        if self._clock() < self._fresh_until:
            return self._count
        if self._call is None:
            self._call = asyncio.create_task(self._fetch())
            # Nobody may be left to see a failure.
            self._call.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Shielded: the request that began the call may be cancelled while others wait for its result.
        return await asyncio.shield(self._call)

    async def _fetch(self) -> int:
        if (request := context.current()) is not None:
            # The call also serves requests with more time than the one that began it.
            context.enter(replace(request, deadline=None))
        asked = self._clock()
        try:
            self._count = await self._ask()
            # From the question on, so that no count is older than that.
            self._fresh_until = asked + COUNT_SECONDS
            return self._count
        finally:
            self._call = None

    async def _ask(self) -> int:
        try:
            response = await self._dispatcher.call(USER, COUNT_PATH, encrypted=True, policy=COUNT_POLICY)
            count = response.json()["count"]
        except PeerTimeout as error:
            raise _unavailable("the user service does not answer in time", error) from error
        except PeerUnavailable as error:
            raise _unavailable("the user service is unavailable", error) from error
        except (DispatchError, InvalidCall, KeyError, TypeError) as error:
            raise _unavailable("the user service gave an invalid response", error) from error
        if type(count) is not int:
            raise _unavailable("the user service gave an invalid response", TypeError("the count is not an integer"))
        return count


def _unavailable(reason: str, error: Exception) -> UserCountUnavailable:
    logger.warning("statistics without the number of users: {}: {}", reason, error)
    return UserCountUnavailable(reason)
