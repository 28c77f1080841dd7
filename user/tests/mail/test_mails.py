"""What mails are for: verified addresses, forgotten passwords, changes of an address, invitations."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import HttpUrl, SecretStr
from sqlalchemy import text

from servicekit.testing.harness import Deployment
from user.tests.mail.mailbox import Mailbox, text_of, token_of

API = "/api/v1/users"
NEW = "a new password of mine"


async def _post(replica: Any, path: str, headers: Any = None, **body: Any) -> Any:
    return await replica.http.post(f"{API}/{path}", json=body, headers=headers)


def _code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["type"].rpartition(":")[2]


async def _reset_token(replica: Any, mailbox: Mailbox, email: str, number: int = 1) -> str:
    """Ask for a reset, the account's first unless `number` says otherwise; return the token that the mail carries."""
    assert (await _post(replica, "password/forgot", email=email)).status_code == 202
    return token_of(await mailbox.until(email, number, "Reset your password"))


async def test_a_new_account_verifies_its_address_by_the_link_of_a_mail(mailing: Any, mailbox: Mailbox) -> None:
    ada = await mailing.sign_in()
    mail = await mailbox.until(ada.account["email"])
    assert (mail["From"], mail["Subject"]) == ("Baseplate <no-reply@app.example>", "Confirm your email address")
    assert f"https://app.example/verify-email#token={token_of(mail)}" in text_of(mail)

    assert (await _post(mailing, "verification/confirm", token=token_of(mail))).status_code == 204
    assert (await mailing.profile(ada)).json()["email_verified"] is True
    # A token is good once, and no more mails come for a verified address.
    assert _code(await _post(mailing, "verification/confirm", token=token_of(mail))) == (400, "email-token-invalid")
    assert (await mailing.http.post(f"{API}/verification", headers=ada.headers)).status_code == 202
    await _reset_token(mailing, mailbox, ada.account["email"])
    assert len(mailbox.of(ada.account["email"])) == 2


async def test_a_verification_mail_is_sent_again_to_the_owner_and_to_the_address(
    mailing: Any, mailbox: Mailbox
) -> None:
    ada = await mailing.sign_in()
    email = ada.account["email"]

    assert (await mailing.http.post(f"{API}/verification", headers=ada.headers)).status_code == 202
    await mailbox.until(email, 2)
    assert (await _post(mailing, "verification", email=email.upper())).status_code == 202
    mails = {token_of(await mailbox.until(email, number)) for number in (1, 2, 3)}
    assert len(mails) == 3
    assert _code(await mailing.http.post(f"{API}/verification")) == (401, "token-missing")


async def _exchange(replica: Any, key: Any) -> Any:
    form = {"grant_type": "client_credentials", "client_id": key["id"], "client_secret": key["secret"]}
    return await replica.http.post(f"{API}/token", data=form)


async def test_a_reset_sets_the_password_ends_sessions_and_keys_and_tells_the_owner(
    mailing: Any, mailbox: Mailbox
) -> None:
    ada = await mailing.sign_in()
    email = ada.account["email"]
    made = {"name": "a script", "scopes": ["users:read"]}
    key = (await mailing.http.post(f"{API}/api-keys", json=made, headers=ada.headers)).json()
    assert (await _exchange(mailing, key)).status_code == 200
    token = await _reset_token(mailing, mailbox, email)
    newer = await _reset_token(mailing, mailbox, email, 2)

    assert (await _post(mailing, "password/reset", token=token, password=NEW)).status_code == 204

    assert (await mailing.profile(ada)).status_code == 401
    assert (await mailing.refresh(ada.tokens["refresh_token"])).status_code == 401
    assert (await _exchange(mailing, key)).status_code == 401
    assert (await mailing.log_in(ada.username)).status_code == 401
    assert (await mailing.log_in(ada.username, NEW)).status_code == 200
    await mailbox.until(email, subject="Your password was changed")
    # All tokens of the account are gone with the old password.
    for used in (token, newer):
        assert _code(await _post(mailing, "password/reset", token=used, password=NEW)) == (400, "email-token-invalid")


async def test_of_concurrent_resets_with_one_token_one_succeeds(mailing: Any, mailbox: Mailbox) -> None:
    ada = await mailing.sign_in()
    token = await _reset_token(mailing, mailbox, ada.account["email"])

    responses = await asyncio.gather(
        *(_post(mailing, "password/reset", token=token, password=f"{NEW} {n}") for n in range(20))
    )

    assert Counter(response.status_code for response in responses) == {204: 1, 400: 19}


@pytest.mark.parametrize(
    ("purpose", "lifetime"),
    [("password", timedelta(minutes=30)), ("verification", timedelta(hours=24))],
    ids=["reset", "verification"],
)
async def test_a_token_expires(
    mailing: Any, mailbox: Mailbox, deployment: Deployment[Any, Any], purpose: str, lifetime: timedelta
) -> None:
    ada = await mailing.sign_in()
    email = ada.account["email"]
    token = token_of(await mailbox.until(email))
    request: dict[str, Any] = {"path": "verification/confirm", "token": token}
    if purpose == "password":
        token = await _reset_token(mailing, mailbox, email)
        request = {"path": "password/reset", "token": token, "password": NEW}

    deployment.clock.advance(seconds=lifetime.total_seconds() + 1)

    assert _code(await _post(mailing, **request)) == (400, "email-token-invalid")


async def test_a_token_that_was_sent_to_a_former_address_is_not_good(mailing: Any, mailbox: Mailbox) -> None:
    ada = await mailing.sign_in()
    verification = token_of(await mailbox.until(ada.account["email"]))
    reset = await _reset_token(mailing, mailbox, ada.account["email"])

    change = {"email": f"{uuid4().hex}@example.com"}
    assert (await mailing.http.patch(f"{API}/profile", json=change, headers=ada.headers)).status_code == 200

    assert (await _post(mailing, "verification/confirm", token=verification)).status_code == 400
    assert (await _post(mailing, "password/reset", token=reset, password=NEW)).status_code == 400


async def test_an_address_changes_when_the_new_one_is_confirmed_and_the_old_one_is_told(
    mailing: Any, mailbox: Mailbox
) -> None:
    ada = await mailing.sign_in()
    old, new = ada.account["email"], f"{uuid4().hex}@example.com"

    wrong = await _post(mailing, "email", ada.headers, email=new, password="not my password")
    assert _code(wrong) == (403, "wrong-password")
    assert (await _post(mailing, "email", ada.headers, email=new, password=ada.password)).status_code == 202

    notice = await mailbox.until(old, subject="The address of your account changes")
    assert new in text_of(notice)
    assert (await mailing.profile(ada)).json()["email"] == old
    token = token_of(await mailbox.until(new))
    assert (await _post(mailing, "verification/confirm", token=token)).status_code == 204
    seen = (await mailing.profile(ada)).json()
    assert (seen["email"], seen["email_verified"]) == (new, True)


async def test_a_change_to_the_address_of_another_account_sends_nothing_there(mailing: Any, mailbox: Mailbox) -> None:
    ada, bob = await mailing.sign_in(), await mailing.sign_in()
    taken = bob.account["email"]
    await mailbox.until(taken)

    assert (await _post(mailing, "email", ada.headers, email=taken, password=ada.password)).status_code == 202

    await mailbox.until(ada.account["email"], subject="The address of your account changes")
    await _reset_token(mailing, mailbox, taken)
    assert len(mailbox.of(taken)) == 2


async def test_an_invitation_makes_an_account_with_its_role_and_a_verified_address(
    mailing: Any, mailbox: Mailbox
) -> None:
    admin, user = await mailing.sign_in_admin(), await mailing.sign_in()
    email, name = f"{uuid4().hex}@example.com", f"guest-{uuid4().hex[:8]}"
    assert (await _post(mailing, "invitations", user.headers, email=email, role="admin")).status_code == 403
    taken = await _post(mailing, "invitations", admin.headers, email=user.account["email"], role="user")
    assert (taken.status_code, taken.json()["field"]) == (409, "email")
    assert (await _post(mailing, "invitations", admin.headers, email=email, role="admin")).status_code == 202
    token = token_of(await mailbox.until(email))

    body = {"token": token, "username": user.username, "password": NEW}
    assert (await _post(mailing, "invitations/accept", **body)).status_code == 409
    accepted = await _post(mailing, "invitations/accept", **(body | {"username": name}))

    assert accepted.status_code == 201
    account = accepted.json()
    assert (account["email"], account["role"], account["email_verified"]) == (email, "admin", True)
    assert accepted.headers["location"] == f"{API}/{account['id']}"
    assert (await mailing.log_in(name, NEW)).status_code == 200
    again = await _post(mailing, "invitations/accept", **(body | {"username": f"{name}-2"}))
    assert _code(again) == (400, "email-token-invalid")


async def test_an_administrator_lists_and_withdraws_invitations_which_are_then_refused(
    mailing: Any, mailbox: Mailbox, database: Any
) -> None:
    admin, user = await mailing.sign_in_admin(), await mailing.sign_in()
    emails = [f"{uuid4().hex}@example.com" for _ in range(3)]
    for email in emails:
        assert (await _post(mailing, "invitations", admin.headers, email=email, role="user")).status_code == 202

    pages = [(await mailing.http.get(f"{API}/invitations?limit=2", headers=admin.headers)).json()]
    following = {"limit": 2, "cursor": pages[0]["next_cursor"]}
    pages.append((await mailing.http.get(f"{API}/invitations", params=following, headers=admin.headers)).json())
    listed = [item for page in pages for item in page["items"]]
    assert [item["email"] for item in listed[:3]] == emails[::-1]
    assert set(listed[0]) == {"id", "email", "role", "expires_at"}

    withdrawn = f"{API}/invitations/{listed[0]['id']}"
    for method, url in (("GET", f"{API}/invitations"), ("DELETE", withdrawn)):
        assert (await mailing.http.request(method, url, headers=user.headers)).status_code == 403
    body = {"username": f"guest-{uuid4().hex[:8]}", "password": NEW}
    accepted = body | {"token": token_of(await mailbox.until(emails[1]))}
    assert (await _post(mailing, "invitations/accept", **accepted)).status_code == 201
    token = token_of(await mailbox.until(emails[2]))
    assert (await mailing.http.delete(withdrawn, headers=admin.headers)).status_code == 204
    assert (await mailing.http.delete(withdrawn, headers=admin.headers)).status_code == 404
    refused = await _post(mailing, "invitations/accept", **body, token=token)
    assert _code(refused) == (400, "email-token-invalid")

    page = (await mailing.http.get(f"{API}/invitations", headers=admin.headers)).json()
    assert page["items"][0]["email"] == emails[0]
    # None is listed after its time.
    async with database.begin() as connection:
        await connection.execute(text("UPDATE email_tokens SET expires_at = now() WHERE purpose = 'invitation'"))
    page = (await mailing.http.get(f"{API}/invitations", headers=admin.headers)).json()
    assert page["items"] == []


async def test_the_deletion_of_an_account_deletes_its_tokens(mailing: Any, mailbox: Mailbox, database: Any) -> None:
    admin, email = await mailing.sign_in_admin(), f"{uuid4().hex}@example.com"
    await _post(mailing, "invitations", admin.headers, email=email, role="user")
    body = {"token": token_of(await mailbox.until(email)), "username": f"g-{uuid4().hex[:8]}", "password": NEW}
    account = (await _post(mailing, "invitations/accept", **body)).json()
    await _reset_token(mailing, mailbox, email)

    assert (await mailing.http.delete(f"{API}/{account['id']}", headers=admin.headers)).status_code == 204

    async with database.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM email_tokens WHERE email = :e"), {"e": email}) == 0


async def test_unknown_and_known_addresses_get_the_same_response_and_the_same_limit(
    mailing: Any, mailbox: Mailbox
) -> None:
    ada = await mailing.sign_in()
    seen = {}
    for email in (ada.account["email"], f"{uuid4().hex}@example.com"):
        responses = [await _post(mailing, "password/forgot", email=email) for _ in range(6)]
        refused = responses.pop()
        assert _code(refused) == (429, "too-many-mails")
        assert int(refused.headers["retry-after"]) > 3500
        seen[email] = {(response.status_code, response.content) for response in responses}

    assert list(seen.values()) == [{(202, b"")}] * 2
    # The first mail of the account verifies its address.
    await mailbox.until(ada.account["email"], 6)
    assert len(mailbox.mails) == 6


async def test_an_address_in_the_network_of_a_client_that_asked_for_many_mails_is_refused(mailing: Any) -> None:
    emails = [f"{uuid4().hex}@example.com" for _ in range(31)]
    statuses = [
        (await _post(mailing, "password/forgot", mailing.at("192.0.2.77"), email=email)).status_code for email in emails
    ]
    assert statuses == [202] * 30 + [429]
    elsewhere = await _post(mailing, "password/forgot", mailing.at("192.0.2.78"), email=emails[-1])
    assert elsewhere.status_code == 202


async def test_an_unverified_account_cannot_log_in_if_verification_is_required(
    deployment: Deployment[Any, Any], mailbox: Mailbox, valkey_url: str
) -> None:
    settings = {"smtp_url": SecretStr(mailbox.url), "frontend_url": HttpUrl("https://app.example")}
    async with deployment.replica(**settings, email_verification="required") as replica:
        account = (await replica.register()).json()
        assert _code(await replica.log_in(account["username"])) == (403, "email-not-verified")
        assert _code(await replica.log_in(account["username"], "wrong password")) == (401, "invalid-credentials")
        assert (await _post(replica, "verification", email=account["email"])).status_code == 202
        token = token_of(await mailbox.until(account["email"], 2))
        assert (await _post(replica, "verification/confirm", token=token)).status_code == 204
        assert (await replica.log_in(account["username"])).status_code == 200


async def test_without_a_mail_server_requests_succeed_nothing_waits_and_ready_says_so(
    replica: Any, deployment: Deployment[Any, Any], database: Any
) -> None:
    ada = await replica.sign_in()
    assert (await _post(replica, "password/forgot", email=ada.account["email"])).status_code == 202

    assert (await replica.http.get("/ready")).json()["checks"]["mail"] == "off"
    async with database.connect() as connection:
        waiting = "SELECT count(*) FROM outbox WHERE destination = 'mail' AND payload LIKE :email"
        assert await connection.scalar(text(waiting), {"email": f"%{ada.account['email']}%"}) == 0
    async with deployment.replica(email_verification="required") as locked:
        ready = (await locked.http.get("/ready")).json()
        assert (ready["status"], ready["checks"]["mail"]) == ("degraded", "degraded")
