"""Register, log in; at the end, leave."""

import base64
import json
import secrets
import time
from typing import Any

import httpx2

from local_platform.demo.measures import refused_requests
from local_platform.demo.tour import Visit

USERS = "/api/v1/users"
# What a process knows of an ended session, all others know within a second.
EVERYWHERE_SECONDS = 1.0
PAUSE_SECONDS = 0.05


def register_and_log_in(visit: Visit) -> None:
    """Make a new account, so that the tour can be taken again and again."""
    name, password = f"demo-{secrets.token_hex(6)}", secrets.token_urlsafe(24)
    account = {"username": name, "email": f"{name}@example.com", "password": password, "display_name": "A visitor"}
    answer = visit.client.post(f"{USERS}/register", json=account)
    visit.account = visit.answered("POST /users/register makes an account", answer, 201).json()
    visit.claim("its answer does not hold the password", password not in answer.text)

    again = visit.client.post(f"{USERS}/login", json={"username_or_email": name.upper(), "password": password})
    tokens = visit.answered("POST /users/login, whatever the case of the name, returns tokens", again, 200).json()
    visit.token = tokens["access_token"]
    header, claims = (decoded_part(part) for part in visit.token.split(".")[:2])
    visit.report.shown(
        account=visit.account["id"],
        token=f"{header['alg']}, key {header['kid']}, for {claims['aud']}, roles {', '.join(claims['roles'])}",
        good_for=f"{claims['exp'] - claims['iat']} s",
    )


def delete_account(visit: Visit) -> None:
    """Take the account away, with everything that the tour has left."""
    before = refused_requests(visit.platform, "user", f"{USERS}/profile")
    answer = visit.client.delete(f"{USERS}/profile", headers=visit.signed_in)
    visit.answered("DELETE /users/profile deletes the account", answer, 204)
    refused = _refused_soon(visit)
    visit.answered("the same token is refused now, minutes before it expires", refused, 401)
    after = refused_requests(visit.platform, "user", f"{USERS}/profile")
    visit.claim(
        "that was the service: the token's signature is good, so the gateway let it pass",
        after > before,
        f"{after - before:g} refusals by the service",
    )


def _refused_soon(visit: Visit) -> httpx2.Response:
    deadline = time.monotonic() + EVERYWHERE_SECONDS
    while True:
        answer = visit.client.get(f"{USERS}/profile", headers=visit.signed_in)
        if answer.status_code == 401 or time.monotonic() > deadline:
            return answer
        time.sleep(PAUSE_SECONDS)


def decoded_part(part: str) -> dict[str, Any]:
    """Return the JSON of one part of a token (RFC 7515, section 3.1)."""
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded
