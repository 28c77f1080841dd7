"""Mails made of templates: for each kind a text and an HTML file, which a team replaces.

The first line of a text is `Subject: …`. Templates are Jinja's; HTML is escaped. A file in `EMAIL_TEMPLATES_DIR` takes
the place of the file of the same name in `templates/`. All are rendered once at start, so a mistake shows there.
"""

from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTPUTF8
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import (
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    TemplateError,
    select_autoescape,
)

from servicekit.outbox import DomainEvent
from user_service import domain_events
from user_service.accounts.rules import ascii_email
from user_service.email_tokens.rules import LIFETIMES, Purpose

# The page of the frontend for each token. What follows a `#`, browsers send to no server.
PAGES: Final = {
    domain_events.VERIFICATION: ("verify-email", Purpose.VERIFICATION),
    domain_events.EMAIL_CHANGE: ("verify-email", Purpose.EMAIL_CHANGE),
    domain_events.PASSWORD_RESET: ("reset-password", Purpose.PASSWORD_RESET),
    domain_events.INVITATION: ("accept-invitation", Purpose.INVITATION),
}
_SUBJECT: Final = "Subject:"


class TemplateInvalid(ValueError):
    """A template of a mail cannot be used; the text says why."""


class Composer:
    """Composes mails. Raises `TemplateInvalid` for a template that cannot be rendered."""

    def __init__(self, sender: Address, *, frontend_url: str | None, folder: Path | None) -> None:
        self._sender = sender
        self._frontend_url = frontend_url and frontend_url.rstrip("/")
        bundled = PackageLoader("user_service.mail")
        self._templates = Environment(
            loader=ChoiceLoader([FileSystemLoader(folder), bundled]) if folder else bundled,
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        for type_ in domain_events.MAILS:
            self._try(type_)

    def compose(self, event: DomainEvent, email: str, **values: Any) -> EmailMessage:
        """Return the mail of an event to this address. Composed again, it is the same, byte for byte."""
        subject, text, html = self._render(event.type, email=email, **values)
        message = EmailMessage(policy=SMTPUTF8)
        message["From"] = self._sender
        message["To"] = Address(addr_spec=ascii_email(email))
        message["Subject"] = subject
        message["Date"] = format_datetime(event.occurred_at)
        message["Message-ID"] = f"<{event.id}@{self._sender.domain}>"
        # RFC 3834, section 5: no out-of-office reply.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        message.add_alternative(html, subtype="html")
        message.set_boundary(f"={event.id.hex}=")
        return message

    def _render(self, type_: str, **values: Any) -> tuple[str, str, str]:
        """Return the subject, the text and the HTML."""
        name = type_.removeprefix("mail.")
        context = {
            **dict.fromkeys(("link", "lifetime", "token", "username", "role")),
            "product": self._sender.display_name or self._sender.domain,
            **values,
        }
        if type_ in PAGES:
            page, purpose = PAGES[type_]
            context["lifetime"] = _in_words(LIFETIMES[purpose])
            if self._frontend_url:
                context["link"] = f"{self._frontend_url}/{page}#token={context['token']}"
        first, _, text = self._templates.get_template(f"{name}.txt").render(context).partition("\n")
        if not first.startswith(_SUBJECT):
            raise TemplateInvalid(f"{name}.txt: the first line must be `{_SUBJECT} …`")
        html = self._templates.get_template(f"{name}.html").render(context)
        return " ".join(first.removeprefix(_SUBJECT).split()), text.lstrip("\n"), html

    def _try(self, type_: str) -> None:
        values = {"email": "ada@example.com", "new_email": "new@example.com", "username": "ada", "role": "user"}
        try:
            self._render(type_, token="token", **values)  # nosec B106
        except (TemplateError, UnicodeDecodeError) as error:
            raise TemplateInvalid(f"{type_.removeprefix('mail.')}: {error}") from error


def _in_words(lifetime: timedelta) -> str:
    if lifetime > timedelta(days=1):
        return f"{lifetime.days} days"
    minutes = int(lifetime.total_seconds()) // 60
    return f"{minutes} minutes" if minutes < 60 else f"{minutes // 60} hours"
