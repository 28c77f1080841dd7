"""Access tokens: verification against the user service's published keys (RFC 7519, RFC 9068).

A token is an ES256 JWT of type `at+jwt`. Every service verifies it, although the gateway has done so already: identity
never comes from a header.

The token of an API key has the claim `scope` and the long form of the type, `application/at+jwt`. Processes of the
version before accept the short form only. So they refuse such a token, whose scopes they would ignore.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from fastapi import Depends, Request, Security
from fastapi.security import OAuth2PasswordBearer
from jwt.algorithms import ECAlgorithm
from loguru import logger

from servicekit.auth.revoked_sessions import RevokedTokens
from servicekit.auth.scopes import TOKEN_PATH, authorize
from servicekit.core import context
from servicekit.core.before_body import before_body
from servicekit.core.errors import Forbidden, ServiceError, ServiceUnavailable, Unauthorized
from servicekit.observability.key_metrics import ACCESS_TOKENS, KeyMetrics, announce_worker

ALGORITHM = "ES256"
TYPE = "at+jwt"
# RFC 9068, section 4: both forms mean the same.
SCOPED_TYPE = f"application/{TYPE}"
CLAIMS = ("iss", "aud", "sub", "sid", "roles", "jti", "iat", "exp")
# The longest validity of a token, from `iat` to `exp`. A token that claims more is refused, whatever key signed it.
LIFETIME_SECONDS = 15 * 60
# How far the issuer's clock may be ahead of ours.
CLOCK_SKEW_SECONDS = 60
CACHE_SIZE = 10_000
# A new key is known, and a withdrawn key forgotten, after at most this time. A pause as long as the JWKS may be cached
# would let tokens of a withdrawn key live on for as long.
KEYS_REFRESH_SECONDS = 10.0
# The pause between attempts to fetch the first keys.
FIRST_KEYS_SECONDS = 0.2
# An unknown key id may be new. Fetches for it are limited, because any client can invent key ids.
UNKNOWN_KEY_SECONDS = 5.0

_bearer = OAuth2PasswordBearer(tokenUrl=TOKEN_PATH, auto_error=False)
# The entry of the scope that holds the user once the token is verified. No client can set an entry of the scope.
_USER_KEY: Final = "servicekit.user"


class InvalidToken(Unauthorized):
    """The access token is not one of ours: forged, malformed, or for another audience. One text for these reasons."""

    type = "urn:baseplate:problem:token-invalid"
    detail = "The access token is not valid."

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


class TokenExpired(InvalidToken):
    """The access token was valid. A refresh token gets another one."""

    type = "urn:baseplate:problem:token-expired"
    detail = "The access token has expired."


class SessionEnded(InvalidToken):
    """The session of the access token has ended, and its refresh token with it. Log in again."""

    type = "urn:baseplate:problem:session-ended"
    detail = "The session of this access token has ended."


class KeysUnavailable(ServiceUnavailable):
    detail = "Access tokens cannot be verified now. Try again."


@dataclass(frozen=True, slots=True)
class Principal:
    """The user whom a verified token identifies. `issued_at` and `expires_at` are in Unix seconds.

    `scopes` limits the token of an API key, whose id is the `session_id`. It is None for the token of a login.
    """

    id: UUID
    session_id: UUID
    roles: frozenset[str]
    issued_at: float
    expires_at: float
    scopes: frozenset[str] | None = None

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles


class KeySource(Protocol):
    """A source of verification keys."""

    async def key(self, kid: str) -> EllipticCurvePublicKey | None:
        """Return the key with this id, or None. It may be fetched."""

    def known(self, kid: str) -> EllipticCurvePublicKey | None:
        """Return the key with this id if it is known now. An unchanged key is the same object each time."""


class RemoteKeys:
    """The user service's JWKS (RFC 7517): fetched in the background, and kept while the user service is unavailable."""

    def __init__(self, fetch: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        announce_worker()
        self._fetch = fetch
        self._key_metrics = KeyMetrics(ACCESS_TOKENS)
        self._keys: dict[str, EllipticCurvePublicKey] | None = None
        self._fetched_at = -KEYS_REFRESH_SECONDS
        self._failing = False
        self._lock = asyncio.Lock()

    async def key(self, kid: str) -> EllipticCurvePublicKey | None:
        """Return the key with this id. Raises `KeysUnavailable` until keys have been fetched once."""
        if self._keys is None or kid not in self._keys:
            async with self._lock:
                if (self._keys is None or kid not in self._keys) and not self._fetched_recently():
                    await self._refresh()
        if self._keys is None:
            raise KeysUnavailable
        return self._keys.get(kid)

    def known(self, kid: str) -> EllipticCurvePublicKey | None:
        return self._keys.get(kid) if self._keys else None

    async def follow(self) -> None:
        """Keep the keys current until cancelled. Run it as a task of the lifespan."""
        while True:
            async with self._lock:
                await self._refresh()
            await asyncio.sleep(FIRST_KEYS_SECONDS if self._keys is None else KEYS_REFRESH_SECONDS)

    async def _refresh(self) -> None:
        self._fetched_at = time.monotonic()
        try:
            self._keys = keep_unchanged(self._keys or {}, parse_jwks(await self._fetch()))
        except Exception as error:  # Whatever went wrong, the known keys stay in use.
            if not self._failing:
                logger.warning("the user service's keys could not be fetched, retrying: {}", type(error).__name__)
            self._failing = True
        else:
            self._key_metrics.report(self._keys)
            if self._failing:
                logger.info("the user service's keys are fetched again")
            self._failing = False

    def _fetched_recently(self) -> bool:
        pause = FIRST_KEYS_SECONDS if self._keys is None else UNKNOWN_KEY_SECONDS
        return time.monotonic() - self._fetched_at < pause


def parse_jwks(document: Mapping[str, Any]) -> dict[str, EllipticCurvePublicKey]:
    """Return the P-256 signature keys of a JWK set by key id; other keys are skipped."""
    keys = {}
    for item in document["keys"]:
        if item.get("kty") == "EC" and item.get("crv") == "P-256" and "kid" in item:
            key = ECAlgorithm.from_jwk(item)
            if isinstance(key, EllipticCurvePublicKey):
                keys[str(item["kid"])] = key
    return keys


def keep_unchanged(
    old: Mapping[str, EllipticCurvePublicKey], new: Mapping[str, EllipticCurvePublicKey]
) -> dict[str, EllipticCurvePublicKey]:
    """Return the new keys, with the old object for each key that is the same under the same id."""
    return {kid: old[kid] if old.get(kid) == key else key for kid, key in new.items()}


class TokenVerifier:
    """Turns an access token into a principal.

    Verified tokens are cached until they expire, each with the key that verified it: without its key, a token is
    verified again.
    """

    def __init__(
        self, keys: KeySource, *, issuer: str, audience: str, revoked_sessions: RevokedTokens | None = None
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._revoked_sessions = revoked_sessions
        self._verified: OrderedDict[str, _Verified] = OrderedDict()

    async def verify(self, token: str) -> Principal:
        """Return the token's principal.

        Raises `InvalidToken`, or `KeysUnavailable` until keys have been fetched once.
        """
        verified = self._verified.get(token)
        if verified is None or self._keys.known(verified.kid) is not verified.key:
            self._verified.pop(token, None)
            verified = await self._verify(token)
            self._remember(token, verified)
        principal = verified.principal
        if principal.expires_at <= time.time():
            self._verified.pop(token, None)
            raise TokenExpired
        if self._is_revoked(principal):
            raise SessionEnded
        return principal

    def _is_revoked(self, principal: Principal) -> bool:
        revoked = self._revoked_sessions
        if revoked is None:
            return False
        if principal.scopes is not None:
            # The end of all sessions of an account is not the end of its keys.
            return revoked.revokes_one(principal.session_id)
        return revoked.revokes(principal.id, principal.session_id, principal.issued_at)

    async def _verify(self, token: str) -> "_Verified":
        try:
            header = jwt.get_unverified_header(token)
            kid = header.get("kid")
            kind = header.get("typ")
            if kind not in (TYPE, SCOPED_TYPE) or header.get("alg") != ALGORITHM or not isinstance(kid, str):
                raise InvalidToken
            key = await self._keys.key(kid)
            if key is None:
                raise InvalidToken
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                # PyJWT allows no skew for `iat` alone; `_validity` looks at it.
                options={"require": list(CLAIMS), "verify_iat": False},
            )
            if ("scope" in claims) != (kind == SCOPED_TYPE):
                raise InvalidToken
            issued_at, expires_at = _validity(claims)
            principal = Principal(
                id=UUID(claims["sub"]),
                session_id=UUID(claims["sid"]),
                roles=frozenset(claims["roles"]),
                issued_at=issued_at,
                expires_at=expires_at,
                scopes=frozenset(claims["scope"].split()) if "scope" in claims else None,
            )
            return _Verified(principal, kid, key)
        except jwt.ExpiredSignatureError:
            # The signature has been verified before.
            raise TokenExpired from None
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError) as error:
            logger.info("access token refused: {}", type(error).__name__)
            raise InvalidToken from None

    def _remember(self, token: str, verified: "_Verified") -> None:
        self._verified[token] = verified
        if len(self._verified) > CACHE_SIZE:
            self._verified.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token's principal, and the key that verified its signature."""

    principal: Principal
    kid: str
    key: EllipticCurvePublicKey


def _validity(claims: Mapping[str, Any]) -> tuple[float, float]:
    """Return `iat` and `exp`. Raises `InvalidToken` unless they are times and bound the token's validity."""
    times = claims["iat"], claims["exp"]
    if any(isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at) for at in times):
        raise InvalidToken
    issued_at, expires_at = map(float, times)
    if expires_at - issued_at > LIFETIME_SECONDS or issued_at > time.time() + CLOCK_SKEW_SECONDS:
        raise InvalidToken
    return issued_at, expires_at


class Authenticator:
    """Authenticates requests by their bearer token. `create_app` puts one into `app.state.authenticator`.

    `consume` is called with the subject of every authenticated request; it raises when the rate limit is exceeded.
    """

    def __init__(self, verifier: TokenVerifier, *, consume: Callable[[str], Awaitable[None]]) -> None:
        self._verifier = verifier
        self._consume = consume

    async def authenticate(self, token: str) -> Principal:
        principal = await self._verifier.verify(token)
        request = context.current()
        if request is not None:
            request.user_id = str(principal.id)
        await self._consume(str(principal.id))
        return principal


async def find_user(request: Request) -> Principal | None:
    """Return the signed-in user of a request, or None without a token. A token is verified once per request.

    Raises `InsufficientScope` for the token of an API key that may not use this route.
    """
    if _USER_KEY not in request.scope:
        token = await _bearer(request)
        authenticator: Authenticator = request.app.state.authenticator
        user = None if token is None else await authenticator.authenticate(token)
        if user is not None and user.scopes is not None:
            authorize(request.scope, user.scopes)
        request.scope[_USER_KEY] = user
    found: Principal | None = request.scope[_USER_KEY]
    return found


async def require_user(request: Request) -> Principal:
    """Return the signed-in user of a request. Raises `Unauthorized` without a token."""
    user = await find_user(request)
    if user is None:
        raise Unauthorized
    return user


@before_body(find_user)
async def _optional_user(request: Request, _token: Annotated[str | None, Security(_bearer)]) -> Principal | None:
    return await find_user(request)


@before_body(require_user)
async def _current_user(user: Annotated[Principal | None, Depends(_optional_user)]) -> Principal:
    if user is None:
        raise Unauthorized
    return user


class RoleRequired(Forbidden):
    """The user needs a role that the access token does not have."""

    type = "urn:baseplate:problem:role-required"


OptionalUser = Annotated[Principal | None, Depends(_optional_user)]
"""The signed-in user, or None for a request without a token. An invalid token is refused nevertheless."""

CurrentUser = Annotated[Principal, Depends(_current_user)]
"""The signed-in user; 401 without a valid token."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """The result of an authentication that has not been required yet."""

    principal: Principal | None
    refusal: ServiceError | None = None

    def require(self) -> Principal:
        """Return the principal. Raises the refusal if the token was not accepted."""
        if self.principal is None:
            raise self.refusal or Unauthorized()
        return self.principal


async def _unchecked_user(request: Request, token: Annotated[str | None, Security(_bearer)]) -> Authentication:
    try:
        return Authentication(await _optional_user(request, token))
    except ServiceError as error:
        return Authentication(None, error)


UncheckedUser = Annotated[Authentication, Depends(_unchecked_user)]
"""The signed-in user, or the refusal of the token: for a route that also accepts other proofs than a token."""


def require_role(role: str) -> Callable[[Principal], Awaitable[Principal]]:
    """Return a dependency that requires this role and raises 403 for other users."""

    async def check(user: CurrentUser) -> Principal:
        if role not in user.roles:
            raise RoleRequired
        return user

    return check


CurrentAdmin = Annotated[Principal, Depends(require_role("admin"))]
"""The signed-in administrator; 403 for other users."""
