"""Actions of operators leave an audit entry; without one nothing happens."""

import asyncio
import sys
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from console_service.audit.actions import AuditEntry, AuditTrail, AuditUnavailable
from console_service.intake.telemetry import Telemetry
from console_service.keys.actions import KeyActions
from console_service.keys.queries import KeyQueries
from console_service.keys.rotation import MAX_LINES, KeyRotation, RotationRunning
from console_service.memory.budget import Budget
from console_service.peers import AuditLog, ServiceOutboxes, UserAccounts
from console_service.sessions.memory import OperatorSession
from servicekit.auth.access_tokens import RoleRequired, SessionEnded
from servicekit.core.errors import NotFound, ServiceUnavailable
from servicekit.dispatcher import PeerTimeout, PeerUnreachable
from servicekit.testing.dispatch import FakeDispatcher


class MemoryAudit:
    """Keeps entries as the user service does, unless it is unavailable."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.unavailable = False

    async def write(self, entry: AuditEntry) -> None:
        if self.unavailable:
            raise ServiceUnavailable
        self.entries.append(entry)

    async def page(self, limit: int, before: UUID | None) -> list[AuditEntry]:
        return self.entries[-limit:]

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(entry.action, entry.outcome) for entry in self.entries]


@pytest.fixture
def audit() -> MemoryAudit:
    return MemoryAudit()


@pytest.fixture
def operator() -> OperatorSession:
    return OperatorSession(uuid4(), "ada", "token", "refresh")


async def test_an_action_is_recorded_before_and_after(audit: MemoryAudit, operator: OperatorSession) -> None:
    async with AuditTrail(audit).recorded(operator, "user.delete", "someone"):
        assert audit.outcomes == [("user.delete", "started")]
    first, last = audit.entries
    assert (first.id, first.actor, first.actor_id, first.target) == (last.id, "ada", operator.user_id, "someone")
    assert audit.outcomes == [("user.delete", "started"), ("user.delete", "done")]


async def test_a_failed_action_is_recorded_as_failed(audit: MemoryAudit, operator: OperatorSession) -> None:
    with pytest.raises(NotFound):
        async with AuditTrail(audit).recorded(operator, "user.delete", "nobody"):
            raise NotFound
    assert audit.outcomes == [("user.delete", "started"), ("user.delete", "failed")]
    assert audit.entries[-1].detail == "NotFound"


async def test_without_an_audit_entry_nothing_is_done(audit: MemoryAudit, operator: OperatorSession) -> None:
    audit.unavailable = True
    with pytest.raises(AuditUnavailable):
        async with AuditTrail(audit).recorded(operator, "user.delete", "someone"):
            pytest.fail("the action was begun")


async def test_an_action_stays_done_when_its_outcome_cannot_be_recorded(
    audit: MemoryAudit, operator: OperatorSession
) -> None:
    async with AuditTrail(audit).recorded(operator, "user.delete", "someone"):
        audit.unavailable = True
    assert audit.outcomes == [("user.delete", "started")]


@pytest.fixture
async def waiting_rotation() -> AsyncIterator[KeyRotation]:
    """A rotation that waits until it is stopped."""
    rotation = KeyRotation(f"{sys.executable} -c 'import time; print(\"begun\", flush=True); time.sleep(600)'")
    async with rotation.stopping():
        yield rotation


async def test_one_rotation_of_keys_runs_at_a_time(
    audit: MemoryAudit, operator: OperatorSession, waiting_rotation: KeyRotation
) -> None:
    actions = KeyActions(waiting_rotation, AuditTrail(audit))
    results = await asyncio.gather(*(actions.rotate(operator) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), *[RotationRunning] * 4]
    while not waiting_rotation.lines:
        await asyncio.sleep(0.01)
    assert waiting_rotation.view() == {"state": "running", "lines": ["begun"]}


async def test_a_refused_rotation_can_be_begun_later(
    audit: MemoryAudit, operator: OperatorSession, waiting_rotation: KeyRotation
) -> None:
    actions = KeyActions(waiting_rotation, AuditTrail(audit))
    audit.unavailable = True
    with pytest.raises(AuditUnavailable):
        await actions.rotate(operator)
    assert waiting_rotation.state == "idle"
    audit.unavailable = False
    await actions.rotate(operator)
    assert waiting_rotation.state == "running"


COMMANDS = {
    "done": ("print('phase 1'); print('x' * 9000)", "done"),
    "failed": ("import sys; sys.exit('no worker responds')", "failed"),
    "talkative": (f"[print(n) for n in range({MAX_LINES * 3})]", "done"),
    "secret": ("import os; print(os.environ.get('FINGERPRINT_SECRET'))", "done"),
}


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_rotation_shows_what_its_command_says(
    name: str, audit: MemoryAudit, operator: OperatorSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINGERPRINT_SECRET", "s" * 32)
    code, state = COMMANDS[name]
    rotation = KeyRotation(f'{sys.executable} -c "{code}"')
    await KeyActions(rotation, AuditTrail(audit)).rotate(operator)
    while rotation.state == "running" or len(audit.entries) < 2:
        await asyncio.sleep(0.01)
    assert (rotation.state, audit.outcomes[-1]) == (state, ("keys.rotate", state))
    assert len(rotation.lines) <= MAX_LINES
    assert max(map(len, rotation.lines)) <= 500
    expected = {
        "done": "phase 1", "failed": "no worker responds", "talkative": str(MAX_LINES * 2), "secret": "None",
    }  # fmt: skip
    assert rotation.lines[0] == expected[name]


def test_without_a_command_the_page_says_how_keys_are_rotated() -> None:
    def command(rotation: str = "", environment: str = "production", **variables: str) -> str:
        telemetry = Telemetry(Budget.of(16))
        queries = KeyQueries(telemetry, KeyRotation(rotation), environment=environment, variables=variables)
        return str(queries.keys()["command"])

    assert command() == "make rotate-keys PROD=1"
    assert command(KUBERNETES_SERVICE_HOST="10.0.0.1") == "make rotate-keys CLUSTER=1"
    assert command("rotate") == command(environment="development") == "make rotate-keys"


async def test_without_a_command_keys_are_not_rotated(audit: MemoryAudit, operator: OperatorSession) -> None:
    with pytest.raises(NotFound):
        await KeyActions(KeyRotation(""), AuditTrail(audit)).rotate(operator)
    assert audit.entries == []


async def test_a_command_that_does_not_exist_fails_the_rotation(audit: MemoryAudit, operator: OperatorSession) -> None:
    rotation = KeyRotation("/nowhere/rotate")
    await KeyActions(rotation, AuditTrail(audit)).rotate(operator)
    while len(audit.entries) < 2:
        await asyncio.sleep(0.01)
    assert (rotation.state, audit.outcomes[-1]) == ("failed", ("keys.rotate", "failed"))


async def test_an_account_is_changed_with_the_operators_own_token() -> None:
    dispatcher, user_id = FakeDispatcher(), uuid4()
    path = f"/api/v1/users/{user_id}/role"
    dispatcher.will_return("user", path, method="PUT", json={"role": "admin"})
    await UserAccounts(dispatcher).set_role("token", user_id, "admin")
    (call,) = dispatcher.calls
    assert (call.headers, call.json, call.encrypted) == ({"Authorization": "Bearer token"}, {"role": "admin"}, False)


@pytest.mark.parametrize(
    ("status", "error"), [(401, SessionEnded), (403, RoleRequired), (404, NotFound)], ids=["401", "403", "404"]
)
async def test_a_refusal_of_the_user_service_reaches_the_page(status: int, error: type[Exception]) -> None:
    dispatcher, user_id = FakeDispatcher(), uuid4()
    dispatcher.will_return("user", f"/api/v1/users/{user_id}", method="DELETE", status=status)
    with pytest.raises(error):
        await UserAccounts(dispatcher).delete("token", user_id)


@pytest.mark.parametrize("fault", ["timeout", "refusal", "rubbish"])
async def test_a_peer_without_a_usable_response_is_unavailable(fault: str) -> None:
    dispatcher = FakeDispatcher()
    if fault == "timeout":
        dispatcher.will_fail("user", "/internal/audit", PeerTimeout("user", "late"))
    else:
        dispatcher.will_return("user", "/internal/audit", status=418 if fault == "refusal" else 200, content=b"<html>")
    with pytest.raises(ServiceUnavailable):
        await AuditTrail(AuditLog(dispatcher)).page(100, None)


async def test_an_account_is_shown_whole_from_the_list() -> None:
    dispatcher, user_id = FakeDispatcher(), uuid4()
    dispatcher.will_return("user", f"/api/v1/users/{user_id}", json={"id": str(user_id), "username": "ada"})
    whole = {"id": str(user_id), "username": "ada", "role": "admin"}
    dispatcher.will_return("user", "/api/v1/users", json={"items": [{"id": "other"}, whole], "next_cursor": None})
    assert await UserAccounts(dispatcher).one("token", user_id) == {**whole, "sessions": None}


async def test_audit_entries_and_retries_go_by_sealed_calls() -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_return("user", "/internal/audit", method="POST", status=204)
    entry = AuditEntry(uuid4(), uuid4(), "ada", "keys.rotate", "all pairs", "started")
    await AuditLog(dispatcher).write(entry)
    dispatcher.will_return("notes", "/internal/outbox/retry", method="POST", json={"retried": 2})
    assert await ServiceOutboxes(dispatcher).retry("notes", None) == 2
    assert [call.encrypted for call in dispatcher.calls] == [True, True]
    assert dispatcher.calls[0].json["outcome"] == "started"
    assert dispatcher.calls[0].idempotency_key is not None
    assert dispatcher.calls[1].json == {"ids": None}


async def test_an_unavailable_user_service_refuses_the_action(operator: OperatorSession) -> None:
    dispatcher = FakeDispatcher()
    dispatcher.will_fail("user", "/internal/audit", PeerUnreachable("user", "down"), method="POST")
    with pytest.raises(AuditUnavailable):
        await AuditTrail(AuditLog(dispatcher)).begin(operator, "user.delete", "someone")
