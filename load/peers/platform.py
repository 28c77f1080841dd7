"""This platform: gateway, four services with two workers each, and their stores, without limits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from local_platform.platform.launcher import running_platform
from peers.notes_api import PASSWORD, Call, NotesApi, NotesClient, User
from peers.side import Side, parts_of

NAME = "platform"
UNLIMITED = {"GATEWAY_RATE_GENERAL": "0", "GATEWAY_RATE_AUTH": "0", "USER_RATE": "0"}
USERS, NOTES = "/api/v1/users", "/api/v1/notes"


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Side]:
    async with running_platform(folder / NAME, settings=UNLIMITED) as platform:
        client = NotesClient(api(platform.gateway_url))
        yield Side(NAME, client.work, parts_of(platform.supervisor))


def api(url: str) -> NotesApi:
    def register(name: str) -> Call:
        body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        return Call("POST", url, f"{USERS}/register", 201, body)

    def login(name: str) -> Call:
        return Call("POST", url, f"{USERS}/login", 200, {"username_or_email": name, "password": PASSWORD})

    return NotesApi(
        register=register,
        login=login,
        user=lambda response: User("", response["access_token"]),
        create=lambda _user, content: Call("POST", url, NOTES, 201, content),
        read=lambda identifier: Call("GET", url, f"{NOTES}/{identifier}"),
        list=Call("GET", url, f"{NOTES}?limit=20"),
    )
