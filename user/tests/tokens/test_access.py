"""Which access tokens open a door, and how the keys behind them change under way."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from user_service.tokens.signing_keys import SigningKeys, write_signing_key

API = "/api/v1/users"


def _part(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.fixture
def keys(deployment: Any) -> SigningKeys:
    return SigningKeys(deployment.settings.jwt_keys_dir)


@pytest.fixture
def sign(keys: SigningKeys) -> Callable[..., str]:
    """Sign with the service's own key whatever a test wants."""

    def signed(claims: dict[str, Any], **header: Any) -> str:
        fields = {"typ": "at+jwt", "kid": keys.current.id} | header
        return jwt.encode(claims, keys.current.private, algorithm="ES256", headers=fields)

    return signed


async def _status(user: Any, token: str) -> int:
    answer = await user.http.get(f"{API}/profile", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200 or answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code == 200 or answer.headers["www-authenticate"].startswith("Bearer")
    return int(answer.status_code)


async def test_a_token_that_was_not_issued_here_is_refused(
    user: Any, keys: SigningKeys, sign: Callable[..., str]
) -> None:
    ada = await user.sign_in()
    genuine = ada.tokens["access_token"]
    claims = jwt.decode(genuine, options={"verify_signature": False})
    header, payload, signature = genuine.split(".")
    admin = claims | {"roles": ["admin"]}
    public = keys.current.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    stranger = ec.generate_private_key(ec.SECP256R1())

    forged = {
        "unsigned": f"{_part({'alg': 'none', 'typ': 'at+jwt', 'kid': keys.current.id})}.{payload}.",
        "unsigned, signature kept": f"{_part({'alg': 'none', 'typ': 'at+jwt'})}.{payload}.{signature}",
        "HS256 under the public key": _hs256(admin, public, keys.current.id),
        "another key under our id": jwt.encode(
            admin, stranger, algorithm="ES256", headers={"typ": "at+jwt", "kid": keys.current.id}
        ),
        "other claims": f"{header}.{_part(admin)}.{signature}",
        "other header": f"{_part({'alg': 'ES256', 'typ': 'at+jwt', 'kid': 'x'})}.{payload}.{signature}",
        "a path as key id": sign(admin, kid="../../etc/passwd"),
        "no type": sign(claims, typ="JWT"),
        "expired": sign(claims | {"exp": int(time.time()) - 1}),
        "another issuer": sign(claims | {"iss": "mallory"}),
        "another audience": sign(claims | {"aud": "elsewhere"}),
        "without session": sign({name: value for name, value in claims.items() if name != "sid"}),
        "without end": sign({name: value for name, value in claims.items() if name != "exp"}),
        "cut off": genuine[:-10],
        "empty parts": "..",
        "a refresh token": ada.tokens["refresh_token"],
        "a very long one": "x" * 7_000,
    }
    for reason, token in forged.items():
        assert await _status(user, token) == 401, reason
    assert await _status(user, genuine) == 200
    assert await _status(user, sign(claims | {"jti": uuid4().hex})) == 200


def _hs256(claims: dict[str, Any], secret: bytes, kid: str) -> str:
    # PyJWT refuses to sign with a public key, so the attacker does it by hand.
    import hashlib
    import hmac

    head = f"{_part({'alg': 'HS256', 'typ': 'at+jwt', 'kid': kid})}.{_part(claims)}"
    mac = hmac.new(secret, head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "Token x", "bearer x y"])
async def test_what_is_no_bearer_token_is_refused(user: Any, header: str) -> None:
    answer = await user.http.get(f"{API}/profile", headers={"Authorization": header})

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_the_published_keys_may_be_kept_for_a_minute(user: Any) -> None:
    answer = await user.http.get("/.well-known/jwks.json")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "public, max-age=60"


async def test_a_rotation_takes_effect_in_running_processes_and_ends_nobodys_session(
    replicas: Any, deployment: Any
) -> None:
    first, second = replicas
    directory: Path = deployment.settings.jwt_keys_dir
    before = await first.sign_in()
    new = write_signing_key(directory)
    await _until_published(replicas, new)

    (directory / "next").write_text(new)
    (directory / "next").replace(directory / "current")

    async with asyncio.timeout(60):
        while True:
            after = await first.log_in_again(before)
            if jwt.get_unverified_header(after.tokens["access_token"])["kid"] == new:
                break
    for session in (before, after):
        assert (await second.profile(session)).status_code == 200


async def _until_published(replicas: Any, kid: str) -> None:
    async with asyncio.timeout(60):
        for replica in replicas:
            while kid not in (await replica.http.get("/.well-known/jwks.json")).text:
                await asyncio.sleep(0.05)


async def test_no_header_but_the_token_says_who_somebody_is(user: Any) -> None:
    ada, bob = await user.sign_in(), await user.sign_in()
    claimed = {"X-User-Id": bob.id, "X-User-Role": "admin", "X-Roles": "admin", "X-Service-Name": "analytics"}

    answer = await user.http.get(f"{API}/profile", headers={**ada.headers, **claimed})
    assert answer.json()["id"] == ada.id
    assert (await user.http.get(API, headers={**ada.headers, **claimed})).status_code == 403
    assert (await user.http.get(f"{API}/profile", headers=claimed)).status_code == 401
