"""The composition root of the user service."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from servicekit.core.clock import Clock, utc_now
from servicekit.core.tasks import background_task
from servicekit.idempotency.postgres import PostgresIdempotency
from servicekit.kit import ServiceKit
from servicekit.operators import operators_router
from servicekit.outbox import Outbox, SealedDelivery
from servicekit.outbox.postgres import PostgresOutboxStore
from servicekit.storage import postgres
from servicekit.storage.postgres_models import sessions_of
from servicekit.web.health import Check
from user_service.accounts.actions import AccountActions, RoleActions
from user_service.accounts.queries import AccountQueries
from user_service.accounts.routes import internal_router as internal_account_routes
from user_service.accounts.routes import router as account_routes
from user_service.accounts.store import PostgresAccounts
from user_service.api_keys.actions import ApiKeyActions
from user_service.api_keys.queries import ApiKeyQueries
from user_service.api_keys.routes import router as api_key_routes
from user_service.api_keys.store import PostgresApiKeys
from user_service.audit.routes import router as audit_routes
from user_service.audit.store import AuditTrail
from user_service.cache import Cache
from user_service.components import Components
from user_service.domain_events import SUBSCRIPTIONS
from user_service.email_tokens.rules import MailTokens
from user_service.emails.actions import EmailActions
from user_service.emails.routes import router as email_routes
from user_service.emails.store import PostgresEmails
from user_service.invitations.actions import InvitationActions
from user_service.invitations.queries import InvitationQueries
from user_service.invitations.routes import router as invitation_routes
from user_service.invitations.store import PostgresInvitations
from user_service.logins.actions import LoginActions
from user_service.logins.routes import router as login_routes
from user_service.logins.store import PostgresLogins
from user_service.mail.recorder import EventRecorder
from user_service.mail.wiring import mail_check, mail_outbox
from user_service.models import IDEMPOTENCY_KEYS, OUTBOX, Base
from user_service.password_resets.actions import PasswordResetActions
from user_service.password_resets.routes import router as password_reset_routes
from user_service.password_resets.store import PostgresPasswordResets
from user_service.passwords.actions import PasswordActions
from user_service.passwords.hashing import OWASP_MINIMUM, HashCost, PasswordHasher, hashing_threads
from user_service.passwords.routes import router as password_routes
from user_service.passwords.store import PostgresPasswords
from user_service.sessions.actions import SessionActions
from user_service.sessions.announcements import Announcements
from user_service.sessions.cookie import SessionCookie, describe_cookie
from user_service.sessions.queries import SessionQueries
from user_service.sessions.routes import router as session_routes
from user_service.sessions.store import PostgresSessions, RevocationTables
from user_service.settings import Settings
from user_service.summary import Summary
from user_service.throttling.failure_limits import FailureLimits
from user_service.throttling.guard import PasswordGuard
from user_service.throttling.mail_limits import MailLimits
from user_service.tokens.issuer import TokenIssuer
from user_service.tokens.routes import router as token_routes
from user_service.tokens.signing_keys import SigningKeys
from user_service.upkeep import Upkeep

# Without Valkey, an invalidation is lost. The stale copy expires after this time.
PUBLIC_VIEW_SECONDS = 30.0


def create_app(
    settings: Settings | None = None, *, clock: Clock = utc_now, hash_cost: HashCost = OWASP_MINIMUM
) -> FastAPI:
    """Return the service's application. Nothing is connected before its lifespan begins."""
    settings = settings or Settings()
    service = settings.service_name

    engine = postgres.create_engine(
        settings.database_url, application=service, pool_size=settings.pool_size, traced=settings.traced
    )
    sessions = sessions_of(engine)

    signing_keys = SigningKeys(settings.jwt_keys_dir)
    kit = ServiceKit(settings, keys=signing_keys)
    issuer = TokenIssuer(signing_keys, settings.token_issuer, settings.token_audience)
    announcements = Announcements(kit.revoked_sessions, RevocationTables(sessions, clock=clock), clock=clock)
    announce = announcements.announce

    hasher = PasswordHasher(hashing_threads(), cost=hash_cost)
    failure_limits = FailureLimits(kit.valkey, service=service)
    guard = PasswordGuard(failure_limits, hasher.verify)
    mail_limits = MailLimits(failure_limits)
    views = Cache(kit.valkey, service=service, name="public_accounts", ttl=PUBLIC_VIEW_SECONDS)
    outbox_store = PostgresOutboxStore(engine, OUTBOX)
    outbox = Outbox(outbox_store, SUBSCRIPTIONS, SealedDelivery(kit.dispatcher))
    mails = mail_outbox(settings, outbox_store, sessions, clock=clock)
    record = EventRecorder(outbox, mails).record
    accounts = PostgresAccounts(sessions, PostgresIdempotency(sessions, IDEMPOTENCY_KEYS), record)
    verifies = settings.email_verification != "off"
    verified_only = settings.email_verification == "required"

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # What is entered last is left first: the background work stops while its stores are still open, and the last
        # revoked sessions are published before the connection to Valkey is closed.
        async with AsyncExitStack() as stack:
            stack.push_async_callback(engine.dispose)
            stack.callback(hasher.close)
            await stack.enter_async_context(background_task(signing_keys.watch()))
            await stack.enter_async_context(kit.running())
            await stack.enter_async_context(outbox.relaying())
            if mails is not None:
                await stack.enter_async_context(mails.relaying())
            await stack.enter_async_context(announcements.running())
            await stack.enter_async_context(background_task(Upkeep(sessions, clock=clock).run()))
            yield

    app = kit.build(
        title="User service",
        lifespan=lifespan,
        # `/users/{user_id}` matches every word, so its router comes last.
        routers=[
            token_routes,
            login_routes,
            password_routes,
            password_reset_routes,
            session_routes,
            api_key_routes,
            email_routes,
            invitation_routes,
            internal_account_routes,
            account_routes,
            audit_routes,
            operators_router(outbox=outbox_store, summary=Summary(engine).counts),
        ],
        checks={
            "postgres": Check(lambda: postgres.ping(engine, Base.metadata)),
            "revocation_publishing": Check(announcements.trouble, required=False, is_store=False),
            "mail": mail_check(settings),
        },
        is_unavailable=postgres.is_unavailable,
    )

    password_actions = PasswordActions(
        PostgresPasswords(sessions, record), guard=guard, hasher=hasher, announce=announce, clock=clock
    )
    app.state.components = Components(
        account_actions=AccountActions(
            accounts,
            hasher=hasher,
            limits=mail_limits,
            verifies=verifies,
            views=views,
            announce=announce,
            clock=clock,
        ),
        account_queries=AccountQueries(engine, views),
        role_actions=RoleActions(accounts, announce=announce, clock=clock),
        api_key_actions=ApiKeyActions(
            PostgresApiKeys(sessions), limits=failure_limits, issuer=issuer, announce=announce, clock=clock
        ),
        api_key_queries=ApiKeyQueries(engine),
        audit_trail=AuditTrail(engine),
        login_actions=LoginActions(
            PostgresLogins(sessions),
            guard=guard,
            hasher=hasher,
            issuer=issuer,
            announce=announce,
            clock=clock,
            verified_only=verified_only,
        ),
        password_actions=password_actions,
        password_reset_actions=PasswordResetActions(
            PostgresPasswordResets(sessions, record),
            limits=mail_limits,
            guard=guard,
            hasher=hasher,
            announce=announce,
            clock=clock,
        ),
        email_actions=EmailActions(
            PostgresEmails(sessions, record),
            passwords=password_actions,
            limits=mail_limits,
            verifies=verifies,
            clock=clock,
        ),
        invitation_actions=InvitationActions(
            PostgresInvitations(sessions, record),
            tokens=MailTokens(settings.fingerprint_secret) if mails is not None else None,
            limits=mail_limits,
            hasher=hasher,
            clock=clock,
        ),
        invitation_queries=InvitationQueries(engine, clock=clock),
        session_actions=SessionActions(PostgresSessions(sessions), issuer=issuer, announce=announce, clock=clock),
        session_cookie=SessionCookie(settings.allowed_origins) if settings.session_cookie else None,
        session_queries=SessionQueries(engine, clock=clock),
        signing_keys=signing_keys,
    )
    if settings.session_cookie:
        describe_cookie(app)
    return app
