"""Access tokens: what is refused, and what the user service's absence means."""

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm
from redis.asyncio import Redis

from servicekit.auth import access_tokens as tokens
from servicekit.auth.access_tokens import (
    InvalidToken,
    KeysUnavailable,
    RemoteKeys,
    SessionEnded,
    TokenExpired,
    TokenVerifier,
)
from servicekit.auth.revoked_sessions import AccountSessions, RevokedSessions

KEY = ec.generate_private_key(ec.SECP256R1())
STRANGERS_KEY = ec.generate_private_key(ec.SECP256R1())
SUBJECT, SESSION = uuid4(), uuid4()


class Keys:
    """The keys by id, which a test may change."""

    def __init__(self) -> None:
        self.public = {"current": KEY.public_key()}

    async def key(self, kid: str) -> ec.EllipticCurvePublicKey | None:
        return self.known(kid)

    def known(self, kid: str) -> ec.EllipticCurvePublicKey | None:
        return self.public.get(kid)


def _claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {
        "iss": "issuer",
        "aud": "audience",
        "sub": str(SUBJECT),
        "sid": str(SESSION),
        "roles": ["user"],
        "jti": str(uuid4()),
        "iat": now,
        "exp": now + 60,
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def _token(key: Any = KEY, algorithm: str = "ES256", header: Mapping[str, Any] | None = None, **changes: Any) -> str:
    merged = {"typ": "at+jwt", "kid": "current", **(header or {})}
    headers = {name: value for name, value in merged.items() if value is not None}
    return jwt.encode(_claims(**changes), key, algorithm=algorithm, headers=headers)


def _verifier(keys: Keys | None = None, **options: Any) -> TokenVerifier:
    return TokenVerifier(keys or Keys(), issuer="issuer", audience="audience", **options)


def _unsigned(header: Mapping[str, Any]) -> str:
    parts = [json.dumps(part).encode() for part in (header, _claims())]
    return b".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts), b""]).decode()


async def test_a_valid_token_names_its_user() -> None:
    principal = await _verifier().verify(_token(roles=["admin"]))

    assert principal.id == SUBJECT
    assert principal.session_id == SESSION
    assert principal.is_admin


async def test_a_token_from_an_issuer_whose_clock_is_ahead_is_accepted() -> None:
    now = int(time.time())
    principal = await _verifier().verify(_token(iat=now + 5, exp=now + 905))

    assert principal.id == SUBJECT


def _refused() -> dict[str, str]:
    public_pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    # PyJWT itself refuses to sign with a public key, so the classic confusion is built by hand.
    hmac_key = base64.b64encode(public_pem).decode()
    valid = _token()
    return {
        "empty": "",
        "no token at all": "a.b.c",
        "signed by a stranger": _token(STRANGERS_KEY),
        "unsigned": _unsigned({"alg": "none", "typ": "at+jwt", "kid": "current"}),
        "another algorithm": _token(hmac_key, "HS256"),
        "a signature cut off": valid.rsplit(".", 1)[0] + ".",
        "an altered signature": valid[:-6] + ("A" * 6 if not valid.endswith("A" * 6) else "B" * 6),
        "expired": _token(exp=int(time.time()) - 1),
        "no expiry": _token(exp=None),
        "valid for longer than any token": _token(exp=int(time.time()) + 901),
        "valid for years": _token(exp=int(time.time()) + 10 * 365 * 86_400),
        "no time of issue": _token(iat=None),
        "issued in the future": _token(iat=int(time.time()) + 90, exp=int(time.time()) + 120),
        "issued at a text": _token(iat=str(int(time.time()))),
        "issued at a truth value": _token(iat=True),
        "issued at no number": _token(iat=float("nan")),
        "issued before the epoch": _token(iat=-1),
        "another issuer": _token(iss="mallory"),
        "another audience": _token(aud="other"),
        "an unknown key": _token(header={"kid": "unknown"}),
        "no key id": _token(header={"kid": None}),
        "another type": _token(header={"typ": "JWT"}),
        # Processes of the version before would not see the scope.
        "a scope in the type of logins": _token(scope="notes:read"),
        "no scope in the type of keys": _token(header={"typ": "application/at+jwt"}),
        "a scope that is no text": _token(header={"typ": "application/at+jwt"}, scope=["notes:read"]),
        "a subject that is no id": _token(sub="1; DROP TABLE users"),
        "no session": _token(sid=None),
        "roles that are no list": _token(roles=7),
    }


@pytest.mark.parametrize("reason", _refused())
async def test_a_token_that_proves_nothing_is_refused_with_one_text(reason: str) -> None:
    with pytest.raises(InvalidToken) as refusal:
        await _verifier().verify(_refused()[reason])

    assert type(refusal.value) is (TokenExpired if reason == "expired" else InvalidToken)
    assert refusal.value.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_remembered_token_is_refused_once_it_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier, token = _verifier(), _token()
    await verifier.verify(token)

    later = time.time() + 61
    monkeypatch.setattr("servicekit.auth.access_tokens.time.time", lambda: later)
    with pytest.raises(TokenExpired):
        await verifier.verify(token)


async def test_a_remembered_token_is_refused_once_its_session_ended() -> None:
    revoked = RevokedSessions(Redis())
    verifier, token = _verifier(revoked_sessions=revoked), _token()
    await verifier.verify(token)

    revoked.add(SESSION, time.time() + 60)
    with pytest.raises(SessionEnded):
        await verifier.verify(token)


async def test_a_remembered_token_is_refused_once_its_account_has_revoked_its_sessions() -> None:
    revoked = RevokedSessions(Redis())
    verifier, token = _verifier(revoked_sessions=revoked), _token()
    await verifier.verify(token)

    revoked.add(AccountSessions(SUBJECT, until=int(time.time() * 1000)), time.time() + 60)
    with pytest.raises(InvalidToken):
        await verifier.verify(token)


async def test_a_remembered_token_is_refused_once_its_key_is_withdrawn() -> None:
    keys = Keys()
    verifier, token = _verifier(keys), _token()
    await verifier.verify(token)

    del keys.public["current"]
    with pytest.raises(InvalidToken):
        await verifier.verify(token)


async def test_a_remembered_token_is_refused_once_its_key_id_names_another_key() -> None:
    keys = Keys()
    verifier, token = _verifier(keys), _token()
    await verifier.verify(token)

    keys.public["current"] = STRANGERS_KEY.public_key()
    with pytest.raises(InvalidToken):
        await verifier.verify(token)
    await verifier.verify(_token(STRANGERS_KEY))


async def test_a_refresh_of_the_keys_keeps_unchanged_ones_and_drops_withdrawn_ones() -> None:
    user = UserService()
    keys = RemoteKeys(user.jwks)
    await keys._refresh()
    before = keys.known("current")
    assert before is not None

    await keys._refresh()
    assert keys.known("current") is before

    user.withdrawn = True
    await keys._refresh()
    assert keys.known("current") is None


async def test_the_memory_of_verified_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "CACHE_SIZE", 3)
    verifier = _verifier()
    for _ in range(10):
        await verifier.verify(_token())

    assert len(verifier._verified) == 3


class UserService:
    """Publishes keys, can become unavailable, and counts the requests for them."""

    def __init__(self) -> None:
        self.asked = 0
        self.unavailable = False
        self.withdrawn = False

    async def jwks(self) -> Mapping[str, Any]:
        self.asked += 1
        if self.unavailable:
            raise ConnectionError
        if self.withdrawn:
            return {"keys": []}
        public = json.loads(ECAlgorithm.to_jwk(KEY.public_key()))
        return {"keys": [{**public, "kid": "current", "use": "sig"}, {"kty": "RSA", "kid": "old"}]}


async def test_an_unknown_key_id_cannot_make_a_service_flood_the_user_service() -> None:
    user = UserService()
    keys = RemoteKeys(user.jwks)
    assert await keys.key("current") is not None

    for number in range(100):
        assert await keys.key(f"invented-{number}") is None

    assert user.asked <= 2


async def test_known_keys_stay_in_use_while_the_user_service_is_unavailable() -> None:
    user = UserService()
    keys = RemoteKeys(user.jwks)
    await keys.key("current")

    user.unavailable = True
    assert await keys.key("new") is None
    assert await keys.key("current") is not None


async def test_keys_are_fetched_ahead_of_the_first_token_and_withdrawn_ones_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokens, "KEYS_REFRESH_SECONDS", 0.01)
    user = UserService()
    keys = RemoteKeys(user.jwks)
    following = asyncio.create_task(keys.follow())
    async with asyncio.timeout(60):
        while user.asked < 2:
            await asyncio.sleep(0)
        user.unavailable = True
        asked = user.asked
        assert await keys.key("current") is not None
        user.unavailable, user.withdrawn = False, True
        while user.asked < asked + 2:
            await asyncio.sleep(0)
    following.cancel()

    assert await keys.key("current") is None


async def test_before_the_first_key_nothing_is_accepted() -> None:
    user = UserService()
    user.unavailable = True

    with pytest.raises(KeysUnavailable):
        await TokenVerifier(RemoteKeys(user.jwks), issuer="issuer", audience="audience").verify(_token())
