"""Changing a password."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from servicekit.core.clock import Clock
from servicekit.core.errors import Conflict, Forbidden
from user_service.sessions.actions import Ended


class WrongPassword(Forbidden):
    """The token is good, so it is no 401: a client would take that for an expired token."""

    type = "urn:baseplate:problem:wrong-password"
    detail = "The current password is wrong."


class PasswordChanged(Conflict):
    detail = "The password was changed by somebody else meanwhile."


@dataclass(frozen=True, slots=True)
class CurrentPassword:
    """The hash in force, and whether the account has logged in from the request's network before."""

    password_hash: str
    network_known: bool


class PasswordStore(Protocol):
    async def current(self, user_id: UUID, network: str) -> CurrentPassword | None:
        """Return what the account's password is checked against."""

    async def replace(
        self, user_id: UUID, *, old_hash: str, new_hash: str, keep_session: UUID, now: datetime
    ) -> Ended | None:
        """Set the new hash, end all sessions but one; None, with nothing done, when the old one is not in force."""


class Guard(Protocol):
    async def passes(
        self, encoded: str | None, password: str, *, subject: str, network: str, network_known: bool
    ) -> bool: ...


class Hasher(Protocol):
    async def hash(self, password: str) -> str: ...


class PasswordActions:
    """Changes passwords. `announce` is told of every session that ended, after the commit."""

    def __init__(
        self,
        store: PasswordStore,
        *,
        guard: Guard,
        hasher: Hasher,
        announce: Callable[[Ended], None],
        clock: Clock,
    ) -> None:
        self._store = store
        self._guard = guard
        self._hasher = hasher
        self._announce = announce
        self._clock = clock

    async def change(self, user_id: UUID, session_id: UUID, network: str, *, current: str, new: str) -> None:
        """Replace the password and end the user's other sessions.

        Raises `WrongPassword`, `TooManyRequests` after too many wrong ones (a stolen token is no way to guess), and
        `PasswordChanged` when another change came in between.
        """
        found = await self._store.current(user_id, network)
        passed = await self._guard.passes(
            found.password_hash if found else None,
            current,
            subject=str(user_id),
            network=network,
            network_known=found is not None and found.network_known,
        )
        if not passed or found is None:
            raise WrongPassword
        new_hash = await self._hasher.hash(new)
        ended = await self._store.replace(
            user_id, old_hash=found.password_hash, new_hash=new_hash, keep_session=session_id, now=self._clock()
        )
        if ended is None:
            raise PasswordChanged
        self._announce(ended)
