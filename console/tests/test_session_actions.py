"""Sessions of operators, over fakes."""

import asyncio
import time
from uuid import UUID, uuid4

import pytest

from console_service.sessions.actions import RefreshRefused, SessionActions, Tokens, check_csrf
from console_service.sessions.memory import MAX_SESSIONS, OperatorSession, Sessions
from console_service.sessions.rules import CsrfRefused, OriginRefused, check_origin
from servicekit.auth.access_tokens import InvalidToken, Principal, RoleRequired, SessionEnded, TokenExpired
from servicekit.core.errors import ServiceUnavailable

ADA = uuid4()


class FakeUserService:
    """Tokens are texts: `admin`, then `admin+`, … with a refresh token each."""

    def __init__(self) -> None:
        self.refreshes = 0
        self.unavailable = False
        self.refused = False
        self.logged_out: list[str | None] = []
        self.seconds_left: dict[str, float] = {}
        self.roles: dict[str, frozenset[str]] = {}
        self.ended: set[str] = set()

    async def authenticate(self, token: str) -> Principal:
        if token == "forged":
            raise InvalidToken
        if token in self.ended:
            raise SessionEnded
        now, left = time.time(), self.seconds_left.get(token, 900.0)
        if left <= 0:
            raise TokenExpired
        roles = self.roles.get(token, frozenset({"admin"}))
        scopes = frozenset({"users:read"}) if token == "key" else None
        return Principal(ADA, UUID(int=1), roles, now, now + left, scopes)

    async def username(self, access_token: str) -> str:
        return "ada"

    async def refresh(self, refresh_token: str) -> Tokens:
        self.refreshes += 1
        await asyncio.sleep(0)
        if self.unavailable:
            raise ServiceUnavailable
        if self.refused:
            raise RefreshRefused
        return Tokens(f"admin{'+' * self.refreshes}", f"{refresh_token}+")

    async def log_out(self, tokens: Tokens) -> None:
        if self.unavailable:
            raise ServiceUnavailable
        self.logged_out.append(tokens.refresh_token)


@pytest.fixture
def service() -> FakeUserService:
    return FakeUserService()


@pytest.fixture
def actions(service: FakeUserService) -> SessionActions:
    return SessionActions(Sessions(), service, service.authenticate)


async def test_a_session_is_found_by_its_cookie_alone(actions: SessionActions) -> None:
    session, cookie = await actions.log_in(Tokens("admin", "r"))
    assert await actions.find(cookie) is session
    assert len(cookie) >= 43
    assert session.csrf_token not in cookie
    with pytest.raises(SessionEnded):
        await actions.find(f"{cookie}x")


@pytest.mark.parametrize("token", ["user", "key", "forged"])
async def test_only_the_token_of_an_administrators_login_begins_a_session(
    token: str, actions: SessionActions, service: FakeUserService
) -> None:
    service.roles["user"] = frozenset({"user"})
    with pytest.raises(InvalidToken if token == "forged" else RoleRequired):
        await actions.log_in(Tokens(token, "r"))


async def test_a_withdrawn_role_and_an_ended_session_end_it_here(
    actions: SessionActions, service: FakeUserService
) -> None:
    for error, withdraw in ((RoleRequired, service.roles), (SessionEnded, service.ended)):
        session, cookie = await actions.log_in(Tokens(error.__name__, "r"))
        if isinstance(withdraw, dict):
            withdraw[error.__name__] = frozenset({"user"})
        else:
            withdraw.add(error.__name__)
        with pytest.raises(error):
            await actions.check(session)
        assert session.ended
        with pytest.raises(SessionEnded):
            await actions.find(cookie)


async def test_many_requests_refresh_an_expired_token_once(actions: SessionActions, service: FakeUserService) -> None:
    session, cookie = await actions.log_in(Tokens("admin", "r"))
    service.seconds_left["admin"] = 0
    await asyncio.gather(*(actions.find(cookie) for _ in range(20)))
    assert service.refreshes == 1
    assert (session.access_token, session.refresh_token) == ("admin+", "r+")


async def test_a_cancelled_request_does_not_lose_the_new_tokens(
    actions: SessionActions, service: FakeUserService
) -> None:
    session, _ = await actions.log_in(Tokens("admin", "r"))
    service.seconds_left["admin"] = 0
    request = asyncio.create_task(actions.check(session))
    while not service.refreshes:
        await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await actions.check(session)
    assert (service.refreshes, session.access_token) == (1, "admin+")


async def test_a_token_that_is_about_to_expire_serves_while_no_new_one_comes(
    actions: SessionActions, service: FakeUserService
) -> None:
    session, _ = await actions.log_in(Tokens("admin", "r"))
    service.seconds_left["admin"], service.unavailable = 30, True
    await actions.check(session)
    service.seconds_left["admin"] = 0
    with pytest.raises(ServiceUnavailable):
        await actions.check(session)
    assert not session.ended
    service.unavailable, service.refused = False, True
    with pytest.raises(SessionEnded):
        await actions.check(session)
    assert session.ended


async def test_without_a_refresh_token_a_session_ends_with_its_token(
    actions: SessionActions, service: FakeUserService
) -> None:
    session, _ = await actions.log_in(Tokens("admin", None))
    service.seconds_left["admin"] = 30
    await actions.check(session)
    service.seconds_left["admin"] = 0
    with pytest.raises(TokenExpired):
        await actions.check(session)
    assert session.ended
    assert service.refreshes == 0


async def test_logging_out_ends_the_session_even_while_the_user_service_is_unavailable(
    actions: SessionActions, service: FakeUserService
) -> None:
    for unavailable in (False, True):
        service.unavailable = unavailable
        session, cookie = await actions.log_in(Tokens("admin", "r"))
        await actions.log_out(session)
        with pytest.raises(SessionEnded):
            await actions.find(cookie)
    assert service.logged_out == ["r"]


async def test_a_new_login_replaces_the_session_of_the_same_browser(actions: SessionActions) -> None:
    first, cookie = await actions.log_in(Tokens("admin", "r"))
    _, second = await actions.log_in(Tokens("admin", "r"), replaced=cookie)
    assert first.ended
    assert second != cookie


def test_sessions_are_bounded_and_the_one_unused_for_longest_ends() -> None:
    sessions = Sessions()
    made = [OperatorSession(ADA, "ada", "a", "r") for _ in range(MAX_SESSIONS + 1)]
    cookies = [sessions.add(each) for each in made[:-1]]
    assert sessions.find(cookies[0]) is made[0]
    sessions.add(made[-1])
    assert len(sessions) == MAX_SESSIONS
    assert [each.ended for each in made].count(True) == 1
    assert made[1].ended


def test_no_secret_of_a_session_shows_in_its_text() -> None:
    session = OperatorSession(ADA, "ada", "access-secret", "refresh-secret")
    assert "secret" not in repr(session)
    assert session.csrf_token not in repr(session)


def test_the_csrf_token_must_be_the_sessions_own() -> None:
    session = OperatorSession(ADA, "ada", "a", "r")
    check_csrf(session, session.csrf_token)
    for wrong in ("", session.csrf_token[:-1], OperatorSession(ADA, "ada", "a", "r").csrf_token, "é"):
        with pytest.raises(CsrfRefused):
            check_csrf(session, wrong)


ALLOWED = {
    "origin": {"origin": "https://host:8080"},
    "site": {"sec-fetch-site": "same-origin"},
    "both": {"origin": "http://host:8080", "sec-fetch-site": "same-origin"},
}
REFUSED = {
    "nothing": {},
    "foreign": {"origin": "https://evil.example"},
    "null": {"origin": "null"},
    "other-port": {"origin": "https://host:9090"},
    "prefix": {"origin": "https://host:8080.evil.example"},
    "scheme": {"origin": "file://host:8080"},
    "cross-site": {"origin": "https://host:8080", "sec-fetch-site": "cross-site"},
    "same-site": {"sec-fetch-site": "same-site"},
    "none": {"sec-fetch-site": "none"},
    "foreign-but-same-origin": {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
}


@pytest.mark.parametrize("headers", ALLOWED.values(), ids=ALLOWED)
def test_the_consoles_own_page_may_act(headers: dict[str, str]) -> None:
    check_origin({"host": "host:8080", **headers})


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED)
def test_no_other_page_may_act(headers: dict[str, str]) -> None:
    with pytest.raises(OriginRefused):
        check_origin({"host": "host:8080", **headers})


def test_an_origin_without_a_host_to_compare_with_is_refused() -> None:
    with pytest.raises(OriginRefused):
        check_origin({"origin": "https://"})
