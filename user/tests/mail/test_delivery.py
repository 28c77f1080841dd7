"""The delivery of mails: once in effect, whatever dies, and what a server's refusals lead to."""

import asyncio
from dataclasses import dataclass
from email.headerregistry import Address
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import HttpUrl, SecretStr
from sqlalchemy import text

from servicekit.core.clock import utc_now
from servicekit.outbox import DeliveryError, DestinationUnavailable, DomainEvent
from servicekit.outbox.postgres import PostgresOutboxStore
from servicekit.storage.postgres_models import sessions_of
from servicekit.testing.harness import Deployment
from servicekit.testing.logs import logged_lines
from servicekit.testing.stages import STAGE_REACHED, program
from user.tests.mail.mailbox import Mailbox, text_of, token_of
from user.tests.mail.relay_process import LIMITS
from user_service.accounts.store import PostgresAccountTransaction
from user_service.domain_events import (
    email_change_mail,
    email_change_notice,
    invitation_mail,
    password_changed_mail,
    password_reset_mail,
    verification_mail,
)
from user_service.mail import wiring
from user_service.mail.composer import Composer, TemplateInvalid
from user_service.mail.smtp import SmtpServer
from user_service.models import OUTBOX

PROGRAM = Path(__file__).with_name("relay_process.py").read_text()
API = "/api/v1/users"
SENDER = Address("Acme", "no-reply", "acme.example")


@dataclass
class Relay:
    """A relay of mails in this process, and the store of its outbox."""

    outbox: Any
    store: PostgresOutboxStore
    sessions: Any
    settings: dict[str, Any]

    async def record(self, event: DomainEvent) -> None:
        async with self.sessions.begin() as session:
            await self.outbox.record(session, event)

    async def until_nothing_waits(self) -> None:
        async with asyncio.timeout(60):
            while (backlog := (await self.store.backlogs()).get("mail")) and backlog.waiting:
                await asyncio.sleep(0.02)


@pytest.fixture
async def relay(
    deployment: Deployment[Any, Any], mailbox: Mailbox, database: Any, monkeypatch: pytest.MonkeyPatch
) -> Relay:
    async with database.begin() as connection:
        await connection.execute(text("DELETE FROM outbox WHERE destination = 'mail'"))
    monkeypatch.setattr(wiring, "LIMITS", LIMITS)
    changes = {"smtp_url": SecretStr(mailbox.url), "frontend_url": HttpUrl("https://app.example")}
    sessions, store = sessions_of(database), PostgresOutboxStore(database, OUTBOX)
    settings = deployment.settings.model_copy(update=changes)
    return Relay(wiring.mail_outbox(settings, store, sessions, clock=utc_now), store, sessions, changes)


@pytest.mark.parametrize(
    ("stage", "copies"),
    [
        ("committed", 1),
        ("leased", 1),
        ("token stored", 1),
        ("accepted by the server", 2),
        ("settled", 1),
    ],
    ids=["committed", "leased", "token stored", "accepted", "settled"],
)
async def test_a_mail_arrives_once_in_effect_when_its_relay_is_killed_at_any_stage(
    replica: Any, relay: Relay, mailbox: Mailbox, deployment: Deployment[Any, Any], stage: str, copies: int
) -> None:
    email = (await replica.register()).json()["email"]
    environment = deployment.environment(**relay.settings, gateway_networks="")
    async with program(PROGRAM, stage, email, environment=environment) as process:
        await process.until(STAGE_REACHED)

    async with relay.outbox.relaying():
        await relay.until_nothing_waits()

    mails = mailbox.of(email)
    assert len(mails) == copies
    # A copy is the same mail, which mail systems and the mailbox of `make run` recognise by its Message-ID.
    assert len({mail["Message-ID"] for mail in mails}) == len({mail.as_bytes() for mail in mails}) == 1
    body = {"token": token_of(mails[0]), "password": "a new password of mine"}
    assert (await replica.http.post(f"{API}/password/reset", json=body)).status_code == 204
    assert (await replica.http.post(f"{API}/password/reset", json=body)).status_code == 400


async def test_mails_wait_for_an_unavailable_server_and_their_tokens_stand_nowhere(
    replica: Any, relay: Relay, mailbox: Mailbox, database: Any
) -> None:
    email = (await replica.register()).json()["email"]
    with logged_lines() as lines:
        async with relay.outbox.relaying():
            mailbox.refusals = ["450 later", "421 closing"]
            await relay.record(password_reset_mail(email))
            async with database.connect() as connection:
                rows = (await connection.execute(text("SELECT * FROM outbox WHERE destination = 'mail'"))).all()
            await relay.until_nothing_waits()

    token = token_of(await mailbox.until(email))
    assert token not in repr(rows)
    assert any("was not delivered to mail" in line for line in lines)
    assert token not in "".join(lines)
    async with database.connect() as connection:
        assert token not in repr((await connection.execute(text("SELECT * FROM email_tokens"))).all())


async def test_a_refused_recipient_is_a_dead_letter_whose_error_quotes_no_address(
    replica: Any, relay: Relay, mailbox: Mailbox
) -> None:
    email = (await replica.register()).json()["email"]
    async with relay.outbox.relaying():
        mailbox.refusals = [f"550 no such user {email}"]
        await relay.record(password_reset_mail(email))
        await relay.until_nothing_waits()

    (dead,) = [letter for letter in await relay.store.dead_letters() if letter.destination == "mail"]
    assert dead.last_error == "the mail server refused the recipient with status 550"
    assert email not in repr(dead)


async def test_the_mail_of_a_withdrawn_invitation_is_not_sent(
    relay: Relay, mailbox: Mailbox, deployment: Deployment[Any, Any]
) -> None:
    emails = [f"{uuid4().hex}@example.com" for _ in range(2)]
    async with deployment.replica(smtp_url=SecretStr("smtp://127.0.0.1:1")) as replica:
        admin = await replica.sign_in_admin()
        for email in emails:
            invitation = {"email": email, "role": "user"}
            await replica.http.post(f"{API}/invitations", json=invitation, headers=admin.headers)
        listed = (await replica.http.get(f"{API}/invitations", headers=admin.headers)).json()["items"]
        (found,) = [item["id"] for item in listed if item["email"] == emails[0]]
        withdrawn = await replica.http.delete(f"{API}/invitations/{found}", headers=admin.headers)
        assert withdrawn.status_code == 204

    async with relay.outbox.relaying():
        await relay.until_nothing_waits()

    assert [len(mailbox.of(email)) for email in emails] == [0, 1]


async def _record_all_of_an_account(relay: Relay, mailbox: Mailbox, replica: Any) -> Any:
    """Record mails of each kind that an account may have, one of them a dead letter; return the account's session."""
    ada = await replica.sign_in()
    user_id, email, former = UUID(ada.account["id"]), ada.account["email"], f"{uuid4().hex}@example.com"
    async with relay.outbox.relaying():
        mailbox.refusals = ["550 no such user"]
        await relay.record(password_changed_mail(user_id, former, ada.username))
        await relay.until_nothing_waits()
    for event in (
        verification_mail(former, user_id),
        password_reset_mail(email.upper()),
        invitation_mail(email, "user"),
        email_change_mail(user_id, f"{uuid4().hex}@example.com"),
        email_change_notice(user_id, former, ada.username, email),
    ):
        await relay.record(event)
    return ada


async def _waiting(relay: Relay) -> tuple[int, int]:
    backlog = (await relay.store.backlogs()).get("mail")
    return (backlog.waiting, backlog.dead_letters) if backlog else (0, 0)


async def test_the_erasure_of_an_account_deletes_its_mails_that_wait_and_those_of_nobody_else(
    replica: Any, relay: Relay, mailbox: Mailbox
) -> None:
    ada = await _record_all_of_an_account(relay, mailbox, replica)
    await relay.record(password_reset_mail("somebody.else@example.com"))
    assert await _waiting(relay) == (6, 1)

    assert (await replica.http.delete(f"{API}/profile", headers=ada.headers)).status_code == 204

    assert await _waiting(relay) == (1, 0)


async def test_an_erasure_that_does_not_commit_deletes_no_mails(
    replica: Any, relay: Relay, mailbox: Mailbox, database: Any
) -> None:
    ada = await _record_all_of_an_account(relay, mailbox, replica)

    async with relay.sessions() as session:
        assert await PostgresAccountTransaction(session, relay.outbox.record).remove(UUID(ada.account["id"]))
        # As when the process dies here.
        await session.rollback()

    assert await _waiting(relay) == (5, 1)
    assert (await replica.profile(ada)).status_code == 200


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("smtp://127.0.0.1:1", DestinationUnavailable),
        ("smtps://127.0.0.1:{port}", DestinationUnavailable),
        # The server offers no encryption, so the password is not sent.
        ("smtp://ada:p%40ss@127.0.0.1:{port}", DeliveryError),
    ],
    ids=["closed", "no TLS", "no STARTTLS"],
)
async def test_nothing_is_sent_without_the_server_or_the_encryption_that_is_asked_for(
    mailbox: Mailbox, url: str, error: type[Exception]
) -> None:
    server = SmtpServer(SecretStr(url.format(port=mailbox.port)), local_hostname="acme.example")
    message = Composer(SENDER, frontend_url=None, folder=None).compose(
        email_change_notice(uuid4(), "ada@example.com", "ada", "new@example.com"),
        "ada@example.com",
        username="ada",
        new_email="new@example.com",
    )
    with pytest.raises(error):
        await server.send(message)
    assert mailbox.mails == mailbox.logins == []


@pytest.mark.parametrize("url", ["http://mail", "smtp://", "smtp://mail/path", "mail:25"])
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="SMTP_URL"):
        SmtpServer(SecretStr(url), local_hostname="acme.example")


def test_a_team_replaces_templates_by_files_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "password_reset.txt").write_text("Subject: {{ product }}: {{ username }}\n\nHi\n{{ link }}\n")
    (tmp_path / "password_reset.html").write_text("<p>{{ username }}</p>")
    composer = Composer(SENDER, frontend_url="https://app.example/", folder=tmp_path)

    mail = composer.compose(password_reset_mail("a@b.example"), "a@b.example", token="t", username="<b>\r\nBcc: x@y.z")

    assert mail["Subject"] == "Acme: <b>"
    assert mail["Bcc"] is None
    html = mail.get_body(("html",))
    assert html is not None
    assert "&lt;b&gt;" in html.get_content()
    assert "https://app.example/reset-password#token=t" in text_of(mail)


@pytest.mark.parametrize("content", ["no subject\n", "Subject: {{ nothing }}\n", "Subject: {% if %}\n"])
def test_a_template_that_cannot_be_used_is_refused_at_start(tmp_path: Path, content: str) -> None:
    (tmp_path / "invitation.txt").write_text(content)
    with pytest.raises(TemplateInvalid, match="invitation"):
        Composer(SENDER, frontend_url=None, folder=tmp_path)


def test_without_a_frontend_mails_hold_the_token_alone() -> None:
    composer = Composer(SENDER, frontend_url=None, folder=None)
    mail = composer.compose(password_reset_mail("a@b.example"), "a@b.example", token="the-token", username="ada")
    assert "Your code: the-token" in text_of(mail)


def test_a_domain_beyond_ascii_is_sent_by_idna_2008() -> None:
    composer = Composer(SENDER, frontend_url=None, folder=None)
    event = email_change_notice(uuid4(), "ada@faß.example", "ada", "x@y.example")
    assert composer.compose(event, **event.payload)["To"] == "ada@xn--fa-hia.example"
