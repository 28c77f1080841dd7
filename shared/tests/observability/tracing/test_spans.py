"""Which spans a sampled request gets, attempt by attempt and statement by statement."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from pydantic import SecretStr
from pymongo.monitoring import CommandFailedEvent, CommandStartedEvent
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from servicekit.core import context
from servicekit.dispatcher import DispatchError
from servicekit.dispatcher.transport import NotSent
from servicekit.observability.tracing.spans import Kind, Span
from servicekit.observability.tracing.traceparent import (
    format_traceparent,
    is_sampled,
    is_valid,
    new_span_id,
    new_trace_id,
)
from servicekit.storage import postgres
from servicekit.storage.mongo_tracing import CommandSpans
from servicekit.storage.postgres_tracing import _described
from servicekit.testing.scripted_transport import OK, PATH, UNAVAILABLE, ScriptedTransport, scripted_dispatcher

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def ended() -> list[Span]:
    """The spans that have ended, in order."""
    return []


@pytest.fixture
def request_span(ended: list[Span]) -> Iterator[Span]:
    """The span of a sampled request in progress."""
    span = Span(ended.append, Kind.SERVER, trace_id=TRACE, parent_id=None)
    token = context.enter(context.RequestContext("r", "c", traceparent=span.traceparent, span=span))
    yield span
    context.leave(token)


@pytest.mark.parametrize(
    "malformed",
    ["", "00", f"00-{TRACE}-b7ad6b7169203331-01\n", f"00-{TRACE.upper()}-b7ad6b7169203331-01", f"00-{TRACE}-1-01"],
)
def test_a_malformed_traceparent_is_ignored(malformed: str) -> None:
    assert not is_valid(malformed)


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True), ("fe", False)]
)
def test_the_lowest_flag_says_whether_a_trace_is_sampled(flags: str, sampled: bool) -> None:
    assert is_sampled(f"00-{TRACE}-b7ad6b7169203331-{flags}") is sampled


def test_what_is_written_is_well_formed_and_every_id_another_one() -> None:
    made = [format_traceparent(new_trace_id(), new_span_id(), sampled=bool(number % 2)) for number in range(100)]

    assert all(map(is_valid, made))
    assert len({header[:52] for header in made}) == 100
    assert [is_sampled(header) for header in made] == [bool(number % 2) for number in range(100)]


async def test_each_attempt_of_a_call_has_its_own_span_and_is_its_callees_parent(
    request_span: Span, ended: list[Span]
) -> None:
    transport = ScriptedTransport(NotSent("refused"), UNAVAILABLE, OK)

    await scripted_dispatcher(transport).call("analytics", PATH, params={"token": "hunter2"})

    assert [span.attributes.get("error.type") for span in ended] == ["NotSent", "503", None]
    assert [span.attributes.get("http.request.resend_count") for span in ended] == [None, 1, 2]
    assert [request.headers["traceparent"] for request in transport.requests] == [span.traceparent for span in ended]
    assert {span.parent_id for span in ended} == {request_span.span_id}
    assert len({span.span_id for span in ended}) == 3
    assert not any("hunter2" in str(value) for span in ended for value in span.attributes.values())


async def test_a_cancelled_call_ends_its_span(request_span: Span, ended: list[Span]) -> None:
    transport = ScriptedTransport(OK, before=asyncio.Event().wait)

    with pytest.raises((TimeoutError, DispatchError)):
        async with asyncio.timeout(0.01):
            await scripted_dispatcher(transport).call("analytics", PATH)

    assert [span.attributes["error.type"] for span in ended] == ["cancelled"]


async def test_outside_of_a_request_a_call_has_neither_span_nor_context(ended: list[Span]) -> None:
    transport = ScriptedTransport(OK)

    await scripted_dispatcher(transport).call("analytics", PATH)

    assert "traceparent" not in transport.requests[0].headers
    assert ended == []


async def test_a_failed_and_a_cancelled_statement_end_their_spans(
    postgres_url: str, request_span: Span, ended: list[Span]
) -> None:
    engine = postgres.create_engine(SecretStr(postgres_url), application="test", traced=True)
    untraced = postgres.create_engine(SecretStr(postgres_url), application="test")

    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    with pytest.raises(DBAPIError):
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1/0"))
    async with engine.connect() as connection, untraced.connect() as other:
        asleep = asyncio.create_task(connection.execute(text("SELECT pg_sleep(60)")))
        while not await other.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")):
            await asyncio.sleep(0.01)
        asleep.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asleep
    await engine.dispose()
    await untraced.dispose()

    assert [span.attributes.get("error.type") for span in ended] == [None, "22012", "cancelled"]
    assert {span.parent_id for span in ended} == {request_span.span_id}


@pytest.mark.parametrize(
    ("statement", "described"),
    [
        ("SELECT users.id FROM users WHERE users.id = $1", ("SELECT", "users")),
        ("INSERT INTO outbox (id) VALUES ($1)", ("INSERT", "outbox")),
        ("UPDATE accounts.users SET a = $1", ("UPDATE", "accounts.users")),
        ('DELETE FROM "group" WHERE x', ("DELETE", "group")),
        ("\nselect pg_try_advisory_xact_lock($1)", ("SELECT", "")),
        ("SELECT count(*) FROM (SELECT 1)", ("SELECT", "")),
        ("WITH free AS (SELECT 1 FROM outbox) UPDATE outbox SET a = 1", ("WITH", "outbox")),
        ("-- nothing", ("", "")),
    ],
)
def test_a_statement_is_named_by_operation_and_table(statement: str, described: tuple[str, str]) -> None:
    assert _described(statement) == described


def _started(command: dict[str, object], request_id: int) -> CommandStartedEvent:
    return CommandStartedEvent(command, "notes", request_id, ("127.0.0.1", 27017), request_id)


def test_a_command_that_never_ends_ends_with_its_request(request_span: Span, ended: list[Span]) -> None:
    """The driver says nothing more of a command that was cancelled."""
    listener = CommandSpans()
    listener.started(_started({"find": "notes", "filter": {"title": "hunter2"}}, 1))
    listener.started(_started({"getMore": 77, "collection": "notes"}, 2))
    failure = {"code": 11000, "codeName": "DuplicateKey", "errmsg": "hunter2"}
    listener.failed(CommandFailedEvent(timedelta(), failure, "getMore", 2, ("127.0.0.1", 27017), None))

    request_span.end()

    assert [span.name for span in ended] == ["getMore notes", "find notes", ""]
    assert [span.attributes.get("error.type") for span in ended] == ["DuplicateKey", "cancelled", None]
    assert not any("hunter2" in str(span.attributes) for span in ended)
