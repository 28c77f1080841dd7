"""The parts of the mail delivery, put together from the settings, and what `/ready` says about it."""

from loguru import logger
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from servicekit.core.clock import Clock
from servicekit.outbox import Outbox
from servicekit.outbox.postgres import PostgresOutboxStore
from servicekit.storage.postgres_models import Sessions
from servicekit.web.health import OFF, Check
from user_service.domain_events import MAIL_SUBSCRIPTIONS
from user_service.email_tokens.rules import MailTokens
from user_service.mail.composer import Composer
from user_service.mail.delivery import LIMITS, MailDelivery
from user_service.mail.smtp import SmtpServer
from user_service.mail.store import PostgresMail
from user_service.settings import Settings


def mail_outbox(
    settings: Settings, store: PostgresOutboxStore, sessions: Sessions, *, clock: Clock
) -> Outbox[AsyncSession | AsyncConnection] | None:
    """Return the outbox of mails; None without SMTP_URL, which the log says. Raises ValueError for a wrong setting."""
    frontend_url = str(settings.frontend_url) if settings.frontend_url else None
    composer = Composer(settings.sender, frontend_url=frontend_url, folder=settings.email_templates_dir)
    if settings.smtp_url is None:
        logger.warning("SMTP_URL is not set: no mails are sent")
        return None
    delivery = MailDelivery(
        PostgresMail(sessions),
        MailTokens(settings.fingerprint_secret),
        composer,
        SmtpServer(settings.smtp_url, local_hostname=settings.sender.domain),
        clock=clock,
    )
    return Outbox(store, MAIL_SUBSCRIPTIONS, delivery, limits=LIMITS)


def mail_check(settings: Settings) -> Check:
    """Return what `/ready` says about mails: that they are not sent, or that nobody can log in for that reason."""

    async def state() -> str | None:
        if settings.smtp_url is not None:
            return None
        if settings.email_verification == "required":
            return "is not configured (SMTP_URL), and EMAIL_VERIFICATION=required needs it"
        return OFF

    return Check(state, required=False, is_store=False)
