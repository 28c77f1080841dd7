"""The parts that every service shares: Valkey, sealed calls in both directions, authentication.

    kit = ServiceKit(settings)
    app = kit.build(title="Notes service", lifespan=lifespan, routers=[…], checks={…})

and within the lifespan, after the service's own stores:

    async with kit.running():
        yield

The kit is a composition, not a base class: a service takes what it needs from the attributes.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware

from opskit.catalog import JWKS_PATH
from servicekit.auth.access_tokens import FIRST_KEYS_SECONDS, Authenticator, KeySource, RemoteKeys, TokenVerifier
from servicekit.auth.revoked_sessions import BLOCK_SECONDS, RevokedSessions
from servicekit.auth.scopes import describe_scopes
from servicekit.core.settings import ServiceSettings
from servicekit.core.tasks import background_task
from servicekit.dispatcher import BalancingTransport, CallPolicy, Dispatcher, Peer, PeerLimits, create_transport
from servicekit.idempotency import Fingerprints
from servicekit.sealing.client import MessageSealer
from servicekit.sealing.keyring import Keyring
from servicekit.sealing.middleware import SealedReceiver
from servicekit.sealing.replay import ReplayGuard, ValkeyNonces
from servicekit.sealing.route_policy import install_policies
from servicekit.valkey.client import Valkey, create_client
from servicekit.valkey.rate_limit import TokenBucket
from servicekit.web.application import Lifespan, build_app
from servicekit.web.health import Check

USER: Final = "user"
# Fetches of keys have a circuit breaker of their own. A service that starts before the user service keeps trying, and
# its breaker must not be open when the user service is up; nor may other failing calls block the fetch.
KEYS: Final = "user-keys"
KEYS_LIMITS: Final = PeerLimits(breaker_pause=FIRST_KEYS_SECONDS)
KEYS_POLICY: Final = CallPolicy(attempts=2, deadline=3.0, attempt_timeout=1.5, connect_timeout=0.5)


class ServiceKit:
    """The collaborators of one service. Nothing is connected before `running`."""

    def __init__(self, settings: ServiceSettings, *, keys: KeySource | None = None) -> None:
        """Take the keys that verify access tokens; by default those that the user service publishes."""
        service = settings.service_name
        self.settings = settings
        self.valkey_client = create_client(settings.valkey_url, application=service)
        self.valkey = Valkey(self.valkey_client)
        self.keyring = Keyring(service, settings.service_keys_dir)
        peers = [Peer(name, tuple(urls)) for name, urls in settings.peer_urls.items()]
        peers += [Peer(KEYS, peer.urls, limits=KEYS_LIMITS) for peer in peers if peer.name == USER]
        self.dispatcher = Dispatcher(
            peers,
            transport=BalancingTransport(create_transport(settings.dispatch_transport)),
            sealer=MessageSealer(service, self.keyring, settings.service_cipher),
        )
        # Its one connection waits at the server nearly all the time.
        self._revocations_client = create_client(
            settings.valkey_url, application=service, pool_size=1, blocking_seconds=BLOCK_SECONDS
        )
        self.revoked_sessions = RevokedSessions(self.valkey_client, self._revocations_client)
        self._replays = ReplayGuard(ValkeyNonces(self.valkey_client, service))
        self._remote_keys = RemoteKeys(self._fetch_keys)
        self._keys = keys or self._remote_keys
        self.authenticator = Authenticator(
            TokenVerifier(
                self._keys,
                issuer=settings.token_issuer,
                audience=settings.token_audience,
                revoked_sessions=self.revoked_sessions,
            ),
            consume=TokenBucket(self.valkey, service=service, name="user", rate=settings.user_rate).consume,
        )

    def build(
        self,
        *,
        title: str,
        lifespan: Lifespan,
        routers: Sequence[APIRouter],
        checks: Mapping[str, Check],
        is_unavailable: Callable[[Exception], bool],
    ) -> FastAPI:
        """Return the service's application.

        `is_unavailable` recognises the errors of its store while that is unavailable; they become 503.
        """
        app = build_app(
            self.settings,
            title=title,
            lifespan=lifespan,
            routers=routers,
            checks={
                **checks,
                "valkey": Check(self.valkey_client.ping, required=False),
                "revocations": Check(self.revoked_sessions.trouble, required=False, is_store=False),
            },
            is_unavailable=is_unavailable,
            receiver=Middleware(
                SealedReceiver,
                service=self.settings.service_name,
                keyring=self.keyring,
                cipher=self.settings.service_cipher,
                replays=self._replays,
            ),
        )
        install_policies(app)
        describe_scopes(app)
        app.state.authenticator = self.authenticator
        app.state.fingerprints = Fingerprints(self.settings.fingerprint_secret)
        return app

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hold connections open, and keep keys and revoked sessions current, while the context is open.

        Contexts close in reverse order: background tasks and calls stop while Valkey is still connected.
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.valkey_client.aclose)
            stack.push_async_callback(self._revocations_client.aclose)
            stack.push_async_callback(self._replays.aclose)
            await stack.enter_async_context(self.keyring.watching())
            await stack.enter_async_context(self.dispatcher)
            if self._keys is self._remote_keys:
                await stack.enter_async_context(background_task(self._remote_keys.follow()))
            # No request is served before this process knows which sessions are revoked.
            await self.revoked_sessions.refresh()
            await stack.enter_async_context(background_task(self.revoked_sessions.follow()))
            yield

    async def _fetch_keys(self) -> Mapping[str, Any]:
        response = await self.dispatcher.call(KEYS, JWKS_PATH, policy=KEYS_POLICY)
        keys: Mapping[str, Any] = response.json()
        return keys
