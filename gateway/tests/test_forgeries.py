"""Tokens that must not pass the edge: each is good but for one thing."""

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway_config.testing import Issuer, base64url

Forge = Callable[[Issuer], str]


def replaced(token: str, *, header: Any = None, claims: Any = None, signature: bytes | None = None) -> str:
    """The token with some parts replaced and the rest, its signature too, as it was."""
    parts = token.split(".")
    for index, part in enumerate((header, claims, signature)):
        if part is not None:
            parts[index] = base64url(part)
    return ".".join(parts)


def by_a_stranger(issuer: Issuer, **header: Any) -> str:
    """Signed by another key that claims our key's id."""
    return Issuer(issuer.kid).token(header=header)


def hs256(issuer: Issuer) -> str:
    """Signed with the public key as if it were a shared secret, for verifiers that let the token choose."""
    pem = issuer.private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed = f"{base64url({**issuer.header(), 'alg': 'HS256'})}.{base64url(issuer.claims())}"
    return f"{signed}.{base64url(hmac.digest(pem, signed.encode(), hashlib.sha256))}"


def der(issuer: Issuer) -> str:
    token = issuer.token()
    signed = token.rpartition(".")[0]
    return replaced(token, signature=issuer.private_key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))


FORGERIES: dict[str, Forge] = {
    "another key": by_a_stranger,
    "another key that comes along": lambda i: by_a_stranger(i, jwk=i.jwk(), jku="http://127.0.0.1/"),
    "HS256 with the public key": hs256,
    "alg none": lambda i: replaced(i.token(), header={**i.header(), "alg": "none"}, signature=b""),
    "alg none, signed": lambda i: i.token(header={"alg": "none"}),
    "alg NONE": lambda i: i.token(header={"alg": "NONE"}),
    "alg ES384": lambda i: i.token(header={"alg": "ES384"}),
    "alg left out": lambda i: i.token(header={"alg": None}),
    "changed claims": lambda i: replaced(i.token(), claims={**i.claims(), "sub": "another"}),
    "changed header": lambda i: replaced(i.token(), header={**i.header(), "x": 1}),
    "changed expiry": lambda i: replaced(i.token(exp=1), claims=i.claims()),
    "no signature": lambda i: replaced(i.token(), signature=b""),
    "a signature of zeros": lambda i: replaced(i.token(), signature=bytes(64)),
    "a short signature": lambda i: i.token()[:-4],
    "a long signature": lambda i: i.token() + "AAAA",
    "a DER signature": der,
    "expired": lambda i: i.token(exp=int(time.time()) - 1),
    "expiring this second": lambda i: i.token(exp=int(time.time())),
    "expiry left out": lambda i: i.token(exp=None),
    "expiry as text": lambda i: i.token(exp=str(int(time.time()) + 60)),
    "expiry null": lambda i: i.sign(i.header(), {**i.claims(), "exp": None}),
    "expiry infinite": lambda i: i.sign(i.header(), b'{"iss":"baseplate-user","aud":"baseplate","exp":-1e999}'),
    "not valid yet": lambda i: i.token(nbf=int(time.time()) + 60),
    "another issuer": lambda i: i.token(iss="somebody"),
    "issuer left out": lambda i: i.token(iss=None),
    "another audience": lambda i: i.token(aud="somebody"),
    "other audiences": lambda i: i.token(aud=["somebody", "else"]),
    "an audience that begins with ours": lambda i: i.token(aud="baseplate2"),
    "an audience nested": lambda i: i.token(aud=[["baseplate"]]),
    "audience left out": lambda i: i.token(aud=None),
    "another type": lambda i: i.token(header={"typ": "JWT"}),
    "type left out": lambda i: i.token(header={"typ": None}),
    "a critical extension": lambda i: i.token(header={"crit": ["b64"], "b64": False}),
    "an unknown key": lambda i: i.token(header={"kid": "unknown"}),
    "a key of the prototype": lambda i: i.token(header={"kid": "__proto__"}),
    "a key id that is a number": lambda i: i.token(header={"kid": 0}),
    "key id left out": lambda i: i.token(header={"kid": None}),
    "claims that are a list": lambda i: i.sign(i.header(), [i.claims()]),
    "claims that are null": lambda i: i.sign(i.header(), b"null"),
    "claims that are no JSON": lambda i: i.sign(i.header(), b"{"),
    "a header that is null": lambda i: i.sign(b"null", i.claims()),
    "a header that is no JSON": lambda i: i.sign(b"\xff", i.claims()),
    "nothing": lambda _: "",
    "one part": lambda _: "opaque",
    "two parts": lambda i: i.token().rpartition(".")[0],
    "four parts": lambda i: i.token() + ".AAAA",
    "padding": lambda i: i.token() + "==",
    "a part that is no base64url": lambda i: i.token().replace(".", ".$", 1),
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
async def test_a_forged_or_expired_token_never_reaches_a_service(platform: Any, forge: Forge) -> None:
    answer = await platform.gateway.get("/api/v1/users/profile", token=forge(platform.issuer))

    assert answer.status == 401
    assert answer.problem()["detail"] == "The access token is not valid."
    assert answer.get("WWW-Authenticate").startswith('Bearer realm="baseplate", error="invalid_token"')
    assert platform.reached() == []


@pytest.mark.parametrize(
    "header",
    [
        "{token}",
        "Basic {token}",
        "Basic dXNlcjpwYXNz",
        "Bearer",
        "Bearer\t{token}",
        "Bearer {token} {token}",
        "Bearer {token},Bearer x.y.z",
        "Bearer x.y.z, Bearer {token}",
        "Bearer: {token}",
        "Token {token}",
    ],
)
async def test_only_a_bearer_token_may_stand_in_authorization(platform: Any, header: str) -> None:
    value = header.format(token=platform.issuer.token())

    answer = await platform.gateway.get("/api/v1/users/profile", headers={"Authorization": value})

    assert answer.status == 401
    answer.problem()
    assert platform.reached() == []


async def test_a_second_authorization_header_smuggles_no_token(platform: Any) -> None:
    good, forged = (("Authorization", f"Bearer {token}") for token in (platform.issuer.token(), "a.b.c"))

    for pair in ([good, forged], [forged, good]):
        answer = await platform.gateway.get("/api/v1/users/profile", headers=pair)
        assert answer.status in (400, 401)
        answer.problem()
    assert platform.reached() == []
