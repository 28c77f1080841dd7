"""The user service, as this service calls it."""

from typing import Final

from loguru import logger

from analytics_service.statistics.queries import UserCountUnavailable
from servicekit.dispatcher import CallPolicy, DispatchError, InvalidCall, PeerClient, PeerTimeout, PeerUnavailable

USER: Final = "user"
COUNT_PATH: Final = "/api/v1/users/stats/count"

# Statistics are useful without the number of users, so they do not wait long for it.
COUNT_POLICY: Final = CallPolicy(attempts=2, deadline=1.0, attempt_timeout=0.6, connect_timeout=0.3)


class UserService:
    """Fulfils `statistics.queries.UserCounter`."""

    def __init__(self, dispatcher: PeerClient) -> None:
        self._dispatcher = dispatcher

    async def count(self) -> int:
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
