"""The work that all backends do: register, log in, and read, create and list notes."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import uuid4

import aiohttp

from benchlib import UNIQUE, http_request
from peers.side import PeerFailed, Work

TASKS = ("register", "login", "read", "create", "list")
PASSWORD = "correct horse battery staple"  # nosec B105
USERS = 16
NOTES = 200
# So many requests at a time create the reader's notes.
FILLING = 16


@dataclass(frozen=True, slots=True)
class Call:
    """A request and the status of its success."""

    method: str
    url: str
    path: str
    status: int = 200
    body: object = None


@dataclass(frozen=True, slots=True)
class User:
    """Who is signed in. `id` is empty where a backend knows it from the token alone."""

    id: str
    token: str

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass(frozen=True, slots=True)
class NotesApi:
    """How a backend spells the work."""

    register: Callable[[str], Call]
    login: Callable[[str], Call]
    # Takes the response to a login.
    user: Callable[[Any], User]
    create: Callable[[User, Mapping[str, object]], Call]
    read: Callable[[str], Call]
    list: Call


def note(title: str) -> Mapping[str, object]:
    """Return the content of a note of about 200 bytes."""
    return {"title": title, "body": "what was written " * 12, "tags": ["bench"]}


@dataclass
class NotesClient:
    """Prepares a backend's work: accounts, and a reader with `NOTES` notes."""

    api: NotesApi
    names: list[str] = field(default_factory=list)
    note_ids: list[str] = field(default_factory=list)

    async def work(self, task: str) -> Work:
        """Return the requests of one of TASKS."""
        if task == "register":
            return _work([self.api.register(UNIQUE.decode())])
        async with aiohttp.ClientSession() as http:
            while len(self.names) < USERS:
                name = f"bench-{uuid4().hex[:16]}"
                await _send(http, self.api.register(name))
                self.names.append(name)
            if task == "login":
                return _work([self.api.login(name) for name in self.names])
            # The reader's list stays as it is, so another one creates.
            user = await self._sign_in(http, self.names[task == "create"])
            if task == "create":
                return _work([self.api.create(user, note(UNIQUE.decode()))], user.headers)
            await self._fill(http, user)
            calls = [self.api.list] if task == "list" else [self.api.read(identifier) for identifier in self.note_ids]
            return _work(calls, user.headers)

    async def _fill(self, http: aiohttp.ClientSession, reader: User) -> None:
        numbers = count(len(self.note_ids))

        async def create() -> None:
            while (number := next(numbers)) < NOTES:
                created = await _send(http, self.api.create(reader, note(f"note {number}")), reader.headers)
                self.note_ids.append(created["id"])

        async with asyncio.TaskGroup() as group:
            for _ in range(FILLING):
                group.create_task(create())

    async def _sign_in(self, http: aiohttp.ClientSession, name: str) -> User:
        return self.api.user(await _send(http, self.api.login(name)))


def _work(calls: list[Call], headers: Mapping[str, str] | None = None) -> Work:
    return Work(calls[0].url, [_bytes_of(call, headers or {}) for call in calls], calls[0].status)


def _bytes_of(call: Call, headers: Mapping[str, str]) -> bytes:
    if call.body is None:
        return http_request(call.method, call.path, headers)
    headers = {**headers, "Content-Type": "application/json"}
    return http_request(call.method, call.path, headers, json.dumps(call.body).encode())


async def _send(http: aiohttp.ClientSession, call: Call, headers: Mapping[str, str] | None = None) -> Any:
    async with http.request(call.method, call.url + call.path, json=call.body, headers=headers) as response:
        if response.status != call.status:
            raise PeerFailed(f"{call.url}{call.path} returned {response.status}: {await response.text()}")
        return await response.json(content_type=None)
