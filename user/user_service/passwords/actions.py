"""Verifying and changing a password."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from servicekit.core.clock import Clock
from servicekit.core.errors import Conflict, Forbidden
from user_service.passwords.hashing import PasswordHasher
from user_service.sessions.rules import Announce, Revocations
from user_service.throttling.guard import PasswordGuard


class WrongPassword(Forbidden):
    """The current password is wrong. Not 401, which a client takes for an expired access token."""

    type = "urn:baseplate:problem:wrong-password"
    detail = "The current password is wrong."


class PasswordChanged(Conflict):
    detail = "The password has been changed in the meantime."


@dataclass(frozen=True, slots=True)
class CurrentPassword:
    """The current hash, whether the account has logged in from the client's network before, and the account's names."""

    password_hash: str
    network_known: bool
    username_key: str
    email_key: str
    username: str
    email: str


class PasswordStore(Protocol):
    async def current(self, user_id: UUID, network: str) -> CurrentPassword | None:
        """Return the account's current password, or None if the account does not exist."""

    async def replace(
        self, user_id: UUID, *, old_hash: str, new_hash: str, keep_session: UUID, now: datetime
    ) -> Revocations | None:
        """Set the new hash, revoke all sessions but one, and tell the owner.

        Return None, and change nothing, if `old_hash` is no longer the account's hash.
        """


class PasswordActions:
    """Changes of passwords. `announce` gets every revoked session, after the commit."""

    def __init__(
        self,
        store: PasswordStore,
        *,
        guard: PasswordGuard,
        hasher: PasswordHasher,
        announce: Announce,
        clock: Clock,
    ) -> None:
        self._store = store
        self._guard = guard
        self._hasher = hasher
        self._announce = announce
        self._clock = clock

    async def verify(self, user_id: UUID, network: str, password: str) -> CurrentPassword:
        """Return the account if this is its password.

        Raises `WrongPassword`; and `TooManyRequests` after too many wrong ones, so a stolen token is no way to guess.
        """
        found = await self._store.current(user_id, network)
        right = await self._guard.verify(
            found.password_hash if found else None,
            password,
            # Guesses here count like those at a login.
            subject=found.username_key if found else str(user_id),
            network=network,
            network_known=found is not None and found.network_known,
            aliases=(found.email_key,) if found else (),
        )
        if not right or found is None:
            raise WrongPassword
        return found

    async def change(self, user_id: UUID, session_id: UUID, network: str, *, current: str, new: str) -> None:
        """Replace the password and revoke the user's other sessions.

        Raises what `verify` raises, and `PasswordChanged` after a concurrent change.
        """
        found = await self.verify(user_id, network, current)
        new_hash = await self._hasher.hash(new)
        revoked = await self._store.replace(
            user_id, old_hash=found.password_hash, new_hash=new_hash, keep_session=session_id, now=self._clock()
        )
        if revoked is None:
            raise PasswordChanged
        self._announce(revoked)
