"""What this service asks of the user service."""

from typing import Final

from loguru import logger

from analytics_service.statistics.queries import UsersNotCounted
from servicekit.dispatcher import CallPolicy, DispatchError, InvalidCall, PeerClient, PeerTimeout, PeerUnavailable

USER: Final = "user"
COUNT_PATH: Final = "/api/v1/users/stats/count"

# Statistics have an answer without the number of users, so they do not wait long for it.
COUNT_POLICY: Final = CallPolicy(attempts=2, deadline=1.0, attempt_timeout=0.6, connect_timeout=0.3)


class UserService:
    """The user service, as far as this one needs it."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher

    async def count(self) -> int:
        """Return how many accounts there are. Raises `UsersNotCounted`."""
        try:
            answer = await self._dispatcher.call(USER, COUNT_PATH, encrypted=True, policy=COUNT_POLICY)
            count = answer.json()["count"]
        except PeerTimeout as error:
            raise _not_counted("the user service does not answer in time", error) from error
        except PeerUnavailable as error:
            raise _not_counted("the user service is away", error) from error
        except (DispatchError, InvalidCall, KeyError, TypeError) as error:
            raise _not_counted("the user service gives no usable answer", error) from error
        if type(count) is not int:
            raise _not_counted("the user service gives no usable answer", TypeError("the count is no integer"))
        return count


def _not_counted(reason: str, error: Exception) -> UsersNotCounted:
    logger.warning("statistics without the number of users: {}: {}", reason, error)
    return UsersNotCounted(reason)
