"""Tokens that the edge must refuse: each is valid except for one detail."""

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway_config.testing.harness import Platform
from gateway_config.testing.tokens import make_token
from servicekit.testing.tokens import TestIssuer, base64url

pytestmark = pytest.mark.servers

USER = UUID(int=1)
Forge = Callable[[TestIssuer], str]


def replaced(token: str, *, header: Any = None, claims: Any = None, signature: bytes | None = None) -> str:
    """Return the token with some parts replaced and the other ones unchanged."""
    parts = token.split(".")
    for index, part in enumerate((header, claims, signature)):
        if part is not None:
            parts[index] = base64url(part)
    return ".".join(parts)


def by_another_key(issuer: TestIssuer, **header: Any) -> str:
    """Return a token that another key has signed and that names our key's id."""
    return make_token(TestIssuer(kid=issuer.kid), header=header)


def hs256(issuer: TestIssuer) -> str:
    """Return a token whose HMAC key is the public key, for verifiers that let the token choose the algorithm."""
    pem = issuer.private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed = f"{base64url({**issuer.jose_header(), 'alg': 'HS256'})}.{base64url(issuer.claims(USER))}"
    return f"{signed}.{base64url(hmac.digest(pem, signed.encode(), hashlib.sha256))}"


def der_signature(issuer: TestIssuer) -> str:
    token = issuer.token(USER)
    signed = token.rpartition(".")[0]
    return replaced(token, signature=issuer.private_key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))


FORGERIES: dict[str, Forge] = {
    "another key": by_another_key,
    "another key that comes along": lambda i: by_another_key(i, jwk=i.jwk(), jku="http://127.0.0.1/"),
    "HS256 with the public key": hs256,
    "alg none": lambda i: replaced(i.token(USER), header={**i.jose_header(), "alg": "none"}, signature=b""),
    "alg none, signed": lambda i: make_token(i, header={"alg": "none"}),
    "alg NONE": lambda i: make_token(i, header={"alg": "NONE"}),
    "alg ES384": lambda i: make_token(i, header={"alg": "ES384"}),
    "alg left out": lambda i: make_token(i, header={"alg": None}),
    "changed claims": lambda i: replaced(i.token(USER), claims={**i.claims(USER), "sub": "another"}),
    "changed header": lambda i: replaced(i.token(USER), header={**i.jose_header(), "x": 1}),
    "changed expiry": lambda i: replaced(make_token(i, exp=1), claims=i.claims(USER)),
    "no signature": lambda i: replaced(i.token(USER), signature=b""),
    "a signature of zeros": lambda i: replaced(i.token(USER), signature=bytes(64)),
    "a short signature": lambda i: i.token(USER)[:-4],
    "a long signature": lambda i: i.token(USER) + "AAAA",
    "a DER signature": der_signature,
    "expired": lambda i: make_token(i, exp=int(time.time()) - 1),
    "expiring this second": lambda i: make_token(i, exp=int(time.time())),
    "expiry left out": lambda i: make_token(i, exp=None),
    "valid for longer than any token": lambda i: make_token(i, exp=int(time.time()) + 960),
    "issue left out": lambda i: make_token(i, iat=None),
    "issued as text": lambda i: make_token(i, iat=str(int(time.time()))),
    "issued in the future": lambda i: make_token(i, iat=int(time.time()) + 120, exp=int(time.time()) + 300),
    "issued at minus infinity": lambda i: i.sign(
        i.jose_header(), b'{"iss":"baseplate-user","aud":"baseplate","iat":-1e999,"exp":%d}' % (time.time() + 60)
    ),
    "expiry as text": lambda i: make_token(i, exp=str(int(time.time()) + 60)),
    "expiry null": lambda i: i.sign(i.jose_header(), {**i.claims(USER), "exp": None}),
    "expiry infinite": lambda i: i.sign(
        i.jose_header(), b'{"iss":"baseplate-user","aud":"baseplate","iat":1,"exp":-1e999}'
    ),
    "not valid yet": lambda i: make_token(i, nbf=int(time.time()) + 60),
    "another issuer": lambda i: make_token(i, iss="somebody"),
    "issuer left out": lambda i: make_token(i, iss=None),
    "another audience": lambda i: make_token(i, aud="somebody"),
    "other audiences": lambda i: make_token(i, aud=["somebody", "else"]),
    "an audience that begins with ours": lambda i: make_token(i, aud="baseplate2"),
    "an audience nested": lambda i: make_token(i, aud=[["baseplate"]]),
    "audience left out": lambda i: make_token(i, aud=None),
    "another type": lambda i: make_token(i, header={"typ": "JWT"}),
    "type left out": lambda i: make_token(i, header={"typ": None}),
    "a critical extension": lambda i: make_token(i, header={"crit": ["b64"], "b64": False}),
    "an unknown key": lambda i: make_token(i, header={"kid": "unknown"}),
    "a key of the prototype": lambda i: make_token(i, header={"kid": "__proto__"}),
    "a key id that is a number": lambda i: make_token(i, header={"kid": 0}),
    "key id left out": lambda i: make_token(i, header={"kid": None}),
    "claims that are a list": lambda i: i.sign(i.jose_header(), [i.claims(USER)]),
    "claims that are null": lambda i: i.sign(i.jose_header(), b"null"),
    "claims that are no JSON": lambda i: i.sign(i.jose_header(), b"{"),
    "a header that is null": lambda i: i.sign(b"null", i.claims(USER)),
    "a header that is no JSON": lambda i: i.sign(b"\xff", i.claims(USER)),
    "an empty token": lambda _: "",
    "one part": lambda _: "opaque",
    "two parts": lambda i: i.token(USER).rpartition(".")[0],
    "four parts": lambda i: i.token(USER) + ".AAAA",
    "padding": lambda i: i.token(USER) + "==",
    "a part that is no base64url": lambda i: i.token(USER).replace(".", ".$", 1),
}


# Genuine ones: a forged token that has expired gets the response of any other forgery.
EXPIRED = [FORGERIES["expired"], FORGERIES["expiring this second"], FORGERIES["expiry infinite"]]
DETAILS = {
    "token-expired": "The access token has expired.",
    "token-invalid": "The access token is not valid.",
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
async def test_a_forged_or_expired_token_never_reaches_a_service(platform: Platform, forge: Forge) -> None:
    response = await platform.gateway.get("/api/v1/users/profile", token=forge(platform.issuer))

    assert response.status == 401
    code = "token-expired" if forge in EXPIRED else "token-invalid"
    assert response.problem()["type"] == f"urn:baseplate:problem:{code}"
    assert response.problem()["detail"] == DETAILS[code]
    assert response.get("WWW-Authenticate").startswith('Bearer realm="baseplate", error="invalid_token"')
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
async def test_authorization_may_only_hold_a_bearer_token(platform: Platform, header: str) -> None:
    value = header.format(token=platform.issuer.token(USER))

    response = await platform.gateway.get("/api/v1/users/profile", headers={"Authorization": value})

    assert response.status == 401
    code = "token-invalid" if header.split(" ")[0] == "Bearer" else "token-missing"
    assert response.problem()["type"] == f"urn:baseplate:problem:{code}"
    assert platform.reached() == []


async def test_two_authorization_headers_are_refused(platform: Platform) -> None:
    good, forged = (("Authorization", f"Bearer {token}") for token in (platform.issuer.token(USER), "a.b.c"))

    for pair in ([good, forged], [forged, good]):
        response = await platform.gateway.get("/api/v1/users/profile", headers=pair)
        assert response.status in (400, 401)
        response.problem()
    assert platform.reached() == []
