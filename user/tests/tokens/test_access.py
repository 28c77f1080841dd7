"""Which access tokens are accepted, and how signing keys are replaced in running processes."""

import asyncio
import base64
import hashlib
import hmac
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
from prometheus_client import REGISTRY

from opskit.catalog import JWKS_PATH
from user_service.tokens.signing_keys import SigningKeys, ensure_signing_key, make_current, write_signing_key

API = "/api/v1/users"


def _part(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.fixture
def keys(deployment: Any) -> SigningKeys:
    return SigningKeys(deployment.settings.jwt_keys_dir)


@pytest.fixture
def sign(keys: SigningKeys) -> Callable[..., str]:
    """Return a function that signs any claims with the service's own key."""

    def signed(claims: dict[str, Any], **header: Any) -> str:
        fields = {"typ": "at+jwt", "kid": keys.current.id} | header
        return jwt.encode(claims, keys.current.private, algorithm="ES256", headers=fields)

    return signed


async def _status(replica: Any, token: str) -> int:
    response = await replica.http.get(f"{API}/profile", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200 or response.headers["content-type"] == "application/problem+json"
    assert response.status_code == 200 or response.headers["www-authenticate"].startswith("Bearer")
    return int(response.status_code)


async def test_a_token_that_was_not_issued_here_is_refused(
    replica: Any, keys: SigningKeys, sign: Callable[..., str]
) -> None:
    ada = await replica.sign_in()
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
        assert await _status(replica, token) == 401, reason
    assert await _status(replica, genuine) == 200
    assert await _status(replica, sign(claims | {"jti": uuid4().hex})) == 200


def _hs256(claims: dict[str, Any], secret: bytes, kid: str) -> str:
    # PyJWT refuses to sign with a public key, so this does what an attacker would.
    head = f"{_part({'alg': 'HS256', 'typ': 'at+jwt', 'kid': kid})}.{_part(claims)}"
    mac = hmac.new(secret, head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "Token x", "bearer x y"])
async def test_a_header_without_a_bearer_token_is_refused(replica: Any, header: str) -> None:
    response = await replica.http.get(f"{API}/profile", headers={"Authorization": header})

    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_the_published_keys_may_be_cached_for_a_minute(replica: Any) -> None:
    response = await replica.http.get(JWKS_PATH)

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "public, max-age=60"


async def test_polls_of_keys_are_counted_but_leave_no_line_in_the_log(
    deployment: Any, valkey_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def polls() -> float:
        labels = {"method": "GET", "route": JWKS_PATH, "status": "200"}
        return REGISTRY.get_sample_value("service_http_request_duration_seconds_count", labels) or 0

    # The log goes to the streams that are there when a process starts.
    async with deployment.replica() as replica:
        before = polls()
        await replica.http.get(JWKS_PATH)
        assert (await replica.http.post(JWKS_PATH)).status_code == 405
        assert polls() == before + 1

    lines = [line for line in "".join(capfd.readouterr()).splitlines() if JWKS_PATH in line]
    # A server that other tests share in this process writes lines of uvicorn, which name the protocol.
    (line,) = [line for line in lines if "HTTP/1.1" not in line]
    assert "405" in line


async def test_a_rotation_takes_effect_in_running_processes_and_ends_no_session(
    deployment: Any, valkey_url: str, tmp_path: Path
) -> None:
    ensure_signing_key(tmp_path)
    async with deployment.replica(jwt_keys_dir=tmp_path) as first, deployment.replica(jwt_keys_dir=tmp_path) as second:
        before = await first.sign_in()
        new = write_signing_key(tmp_path)
        await _until_published([first, second], new)

        (tmp_path / "next").write_text(new)
        (tmp_path / "next").replace(tmp_path / "current")

        async with asyncio.timeout(60):
            after = await first.log_in_again(before)
            while jwt.get_unverified_header(after.tokens["access_token"])["kid"] != new:
                await asyncio.sleep(0.05)
                after = await first.log_in_again(before)
        for session in (before, after):
            assert (await second.profile(session)).status_code == 200


@pytest.mark.parametrize("replaced", [False, True], ids=["withdrawn", "replaced under its id"])
async def test_a_token_is_refused_once_its_key_is_gone(
    deployment: Any, valkey_url: str, tmp_path: Path, replaced: bool
) -> None:
    ensure_signing_key(tmp_path)
    async with deployment.replica(jwt_keys_dir=tmp_path) as replica:
        ada = await replica.sign_in()
        # From now on its token is remembered.
        assert (await replica.profile(ada)).status_code == 200
        old = (tmp_path / "current").read_text()
        new = write_signing_key(tmp_path)
        if replaced:
            (tmp_path / f"{new}.pem").replace(tmp_path / f"{old}.pem")
        else:
            make_current(tmp_path, new)
            (tmp_path / f"{old}.pem").unlink()

        async with asyncio.timeout(60):
            while (await replica.profile(ada)).status_code != 401:
                await asyncio.sleep(0.05)
        assert (await replica.profile(await replica.log_in_again(ada))).status_code == 200


async def _until_published(replicas: Any, kid: str) -> None:
    async with asyncio.timeout(60):
        for replica in replicas:
            while kid not in (await replica.http.get(JWKS_PATH)).text:
                await asyncio.sleep(0.05)


async def test_no_header_but_the_token_identifies_a_user(replica: Any) -> None:
    ada, bob = await replica.sign_in(), await replica.sign_in()
    claimed = {"X-User-Id": bob.id, "X-User-Role": "admin", "X-Roles": "admin", "X-Service-Name": "analytics"}

    response = await replica.http.get(f"{API}/profile", headers={**ada.headers, **claimed})
    assert response.json()["id"] == ada.id
    assert (await replica.http.get(API, headers={**ada.headers, **claimed})).status_code == 403
    assert (await replica.http.get(f"{API}/profile", headers=claimed)).status_code == 401
