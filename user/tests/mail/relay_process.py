"""A relay of mails in a process of its own: `STAGE EMAIL`. It records a mail, and stops at the stage to be killed."""

import asyncio
import sys

from servicekit.core.clock import utc_now
from servicekit.outbox import RelayLimits
from servicekit.outbox.postgres import PostgresOutboxStore
from servicekit.storage.postgres import create_engine
from servicekit.storage.postgres_models import sessions_of
from servicekit.testing.stages import stop_after, stop_here
from user_service.domain_events import password_reset_mail
from user_service.mail import wiring
from user_service.mail.smtp import SmtpServer
from user_service.mail.store import PostgresMail
from user_service.models import OUTBOX
from user_service.settings import Settings

STAGES = {
    "leased": (PostgresMail, "find_by_email"),
    "token stored": (PostgresMail, "issue"),
    "accepted by the server": (SmtpServer, "send"),
    "settled": (PostgresOutboxStore, "delete"),
}
LIMITS = RelayLimits(delivery_seconds=0.9, lease_seconds=2.0, max_poll_seconds=0.02)


async def main(stage: str, email: str) -> None:
    settings = Settings()  # type: ignore[call-arg]
    engine = create_engine(settings.database_url, application="mails", pool_size=2)
    sessions = sessions_of(engine)
    wiring.LIMITS = LIMITS
    outbox = wiring.mail_outbox(settings, PostgresOutboxStore(engine, OUTBOX), sessions, clock=utc_now)
    assert outbox is not None
    async with sessions.begin() as session:
        await outbox.record(session, password_reset_mail(email))
    if stage == "committed":
        await stop_here()
    stop_after(*STAGES[stage])
    async with outbox.relaying():
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
