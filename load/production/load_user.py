"""A signed-in user, and the accounts and notes that are stored."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import uuid4

from production.wire import exchange, one_connection

PASSWORD = "correct horse battery staple"  # nosec B105
API = "/api/v1"


class PlatformUnavailable(Exception):
    """The platform does not respond as a running one does."""


@dataclass(frozen=True, slots=True)
class LoadUser:
    """An account that was created for one run."""

    gateway: str
    username: str
    headers: Mapping[str, str]

    @classmethod
    async def sign_up(cls, gateway: str) -> "LoadUser":
        """Register and log in. Raises `PlatformUnavailable`."""
        username = f"evidence{uuid4().hex[:20]}"
        credentials = {"username": username, "password": PASSWORD}
        async with one_connection(gateway) as session:
            account = await exchange(
                session, "POST", f"{API}/users/register", json={**credentials, "email": f"{username}@mail.dev"}
            )
            if account.status != 201:
                raise PlatformUnavailable(f"{gateway} does not register a user ({account.reason}); is it up? make prod")
            login = {"username_or_email": username, "password": PASSWORD}
            tokens = await exchange(session, "POST", f"{API}/users/login", json=login)
            if tokens.status != 200:
                raise PlatformUnavailable(f"{gateway} does not log a user in ({tokens.reason})")
        return cls(gateway, username, {"Authorization": f"Bearer {tokens.json()['access_token']}"})

    async def notes(self) -> list[tuple[str, str]]:
        """Return the title and id of each of the user's notes. Raises `PlatformUnavailable`."""
        found: list[tuple[str, str]] = []
        parameters = {"limit": "100"}
        async with one_connection(self.gateway, self.headers) as session:
            while True:
                page = await exchange(session, "GET", f"{API}/notes", params=parameters)
                if page.status != 200:
                    raise PlatformUnavailable(f"the notes cannot be listed ({page.reason})")
                content = page.json()
                found += [(note["title"], note["id"]) for note in content["items"]]
                if content["next_cursor"] is None:
                    return found
                parameters = {"limit": "100", "cursor": content["next_cursor"]}

    async def count_accounts(self) -> int:
        """Return the number of accounts on the whole platform. Raises `PlatformUnavailable`."""
        async with one_connection(self.gateway) as session:
            response = await exchange(session, "GET", f"{API}/users/stats/count")
        if response.status != 200:
            raise PlatformUnavailable(f"the accounts cannot be counted ({response.reason})")
        return int(response.json()["count"])

    async def accounts(self, ids: Iterable[str]) -> int:
        """Return how many of these accounts exist."""
        found = 0
        async with one_connection(self.gateway, self.headers) as session:
            for identifier in ids:
                response = await exchange(session, "GET", f"{API}/users/{identifier}")
                found += response.status == 200 and response.json()["id"] == identifier
        return found
