"""The command `traffic`, on a real NGINX: what it changes, when it returns, and what it leaves when it fails."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway_config.container import shares
from gateway_config.container.nginx import ReloadFailed
from gateway_config.container.traffic import main
from gateway_config.testing import RunningGateway
from servicekit.testing.kept_alive import KeptAliveClients
from servicekit.testing.wire_server import Received, answering, reply

Traffic = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def traffic(contained: Any, capsys: pytest.CaptureFixture[str]) -> Traffic:
    """Runs the command and returns its exit status and what it said."""

    async def run(*words: str, **changed: Any) -> tuple[int, str, str]:
        status = await asyncio.to_thread(main, words, replace(contained.installation, **changed))
        return status, *capsys.readouterr()

    return run


async def answers(gateway: RunningGateway, requests: int = 20) -> set[bytes]:
    return {(await gateway.get("/api/v1/notes")).body for _ in range(requests)}


async def test_a_release_from_nothing_to_everything_and_back(contained: Any, traffic: Traffic) -> None:
    """When the command has returned, every new connection is served by the new share."""
    gateway = contained.gateway
    assert await traffic() == (0, "{}\n", "")

    assert await traffic("notes", "0") == (0, '{"notes": {"weight": 0}}\n', "")
    assert await answers(gateway) == {b"stable"}
    assert (await gateway.get("/api/v1/notes", headers={"X-Release": "v2"})).body == b"candidate"

    assert (await traffic("notes", "100"))[0] == 0
    assert await answers(gateway) == {b"candidate"}
    assert (await gateway.get("/api/v1/assets")).body == b"stable"
    assert await traffic() == (0, '{"notes": {"weight": 100}}\n', "")

    assert await traffic("notes", "off") == (0, "{}\n", "")
    assert await answers(gateway) == {b"stable"}
    assert (await gateway.get("/api/v1/notes", headers={"X-Release": "v2"})).body == b"stable"


async def test_no_request_is_lost_while_traffic_moves(contained: Any, traffic: Traffic) -> None:
    async with KeptAliveClients(contained.gateway.port, path="/api/v1/notes", count=8) as clients:
        await clients.more(20)
        for share in ("50", "100", "0", "off"):
            assert (await traffic("notes", share))[0] == 0
            await clients.more(50)

    assert clients.lost == {}
    assert set(clients.statuses) == {200}
    assert contained.candidate.seen()


async def test_a_request_in_flight_holds_nothing_up(contained: Any, traffic: Traffic) -> None:
    arrived, may_answer = asyncio.Event(), asyncio.Event()

    async def slowly(_request: Received, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await may_answer.wait()
        writer.write(reply(body=b"late"))

    contained.stable.answer = slowly
    pending = asyncio.create_task(contained.gateway.get("/api/v1/notes"))
    await arrived.wait()

    assert (await traffic("notes", "100"))[0] == 0
    may_answer.set()
    assert (await pending).body == b"late"


async def test_two_changes_at_once_both_count(contained: Any) -> None:
    runs = [(name, share) for name, share in (("notes", "10"), ("assets", "20"))]

    assert await asyncio.gather(*(asyncio.to_thread(main, run, contained.installation) for run in runs)) == [0, 0]

    assert json.loads(contained.installation.release_file.read_text()) == {
        "notes": {"weight": 10},
        "assets": {"weight": 20},
    }


async def test_a_candidate_that_is_away_gets_no_traffic(
    contained: Any, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "REACHED_SECONDS", 0.2)
    await contained.candidate.__aexit__(None, None, None)

    status, said, reason = await traffic("notes", "25")

    assert (status, said) == (1, "")
    assert reason == f"traffic: {contained.candidate.address} does not answer through the gateway (502)\n"
    assert await traffic() == (0, "{}\n", "")
    assert await answers(contained.gateway) == {b"stable"}


def rendered(contained: Any) -> dict[str, str]:
    folder = contained.installation.target / "rendered"
    return {str(path): path.read_text() for path in folder.rglob("*.conf")}


async def test_a_configuration_that_nginx_refuses_changes_nothing(contained: Any, traffic: Traffic) -> None:
    before = rendered(contained)

    # A port that no pattern of ours excludes, and NGINX does.
    status, _, reason = await traffic("assets", "0", candidate_server="[::1]:99999")

    assert status == 1
    assert "NGINX refuses the configuration" in reason
    assert await traffic() == (0, "{}\n", "")
    assert rendered(contained) == before
    assert await answers(contained.gateway) == {b"stable"}


async def test_a_reload_that_fails_is_undone(contained: Any, traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    await traffic("notes", "0")
    before = rendered(contained)
    original, calls = shares.reload, iter([ReloadFailed("NGINX goes on")])

    def failing_once(target: Any) -> None:
        for error in calls:
            raise error
        original(target)

    monkeypatch.setattr(shares, "reload", failing_once)

    assert await traffic("notes", "100") == (1, "", "traffic: NGINX goes on\n")
    assert await traffic() == (0, '{"notes": {"weight": 0}}\n', "")
    assert rendered(contained) == before
    assert await answers(contained.gateway) == {b"stable"}


async def test_without_nginx_nothing_changes(contained: Any, traffic: Traffic) -> None:
    await contained.gateway.finish()

    status, _, reason = await traffic("notes", "0")

    assert (status, reason.split(":")[:2]) == (1, ["traffic", " NGINX does not run"])
    assert await traffic() == (0, "{}\n", "")


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"notes": 5}', '{"notes": {}}', '{"notes": {"weight": 101}}', '{"notes": {"weight": true}}']
)
async def test_a_damaged_state_is_named_and_not_guessed_at(contained: Any, traffic: Traffic, text: str) -> None:
    contained.installation.release_file.write_text(text)

    for words in ((), ("notes", "5")):
        status, _, reason = await traffic(*words)
        assert (status, str(contained.installation.release_file) in reason) == (1, True)
    assert contained.installation.release_file.read_text() == text


@pytest.mark.parametrize(
    "words",
    [
        ["notes"],
        ["nowhere", "5"],
        ["notes", "101"],
        ["notes", "5.5"],
        ["notes", "on"],
        ["check"],
        ["check", "nowhere"],
        ["notes", "5", "now"],
    ],
)
async def test_a_wrong_call_is_explained(contained: Any, words: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words, contained.installation)

    assert ended.value.code == 2
    assert "notes, assets" in capsys.readouterr().err
    assert not contained.installation.release_file.exists()


# The smoke test


@pytest.fixture
def candidate(contained: Any) -> Any:
    """A candidate whose paths answer as told: `answers[path]` is a status, by default 200."""
    paths = {"/api/v1/notes": {"get": {}}, "/api/v1/notes/{id}": {"get": {}}, "/api/v1/write": {"post": {}}}
    contained.candidate.statuses = {"/api/v1/notes": 401, "/api/v1/notes/{id}": 500, "/api/v1/write": 500}
    contained.candidate.document = json.dumps({"paths": paths}).encode()

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        status = contained.candidate.statuses.get(request.target, 200)
        body = contained.candidate.document if request.target == "/openapi.json" else b"reasons"
        await answering(reply(status, body, content_type="application/json"))(request, writer)

    contained.candidate.answer = behave
    return contained.candidate


async def test_a_candidate_whose_paths_work_passes(candidate: Any, traffic: Traffic) -> None:
    status, said, _ = await traffic("check", "notes")

    assert (status, said) == (0, f"{candidate.address} is ready, and its 1 readable paths answer\n")
    assert [request.target for request in candidate.requests] == ["/ready", "/openapi.json", "/api/v1/notes"]


@pytest.mark.parametrize(
    ("path", "answered", "reason"),
    [
        ("/ready", 503, "/ready answers 503: reasons"),
        ("/openapi.json", 500, "/openapi.json answers 500 and names no path"),
        ("/api/v1/notes", 500, "/api/v1/notes answers 500"),
    ],
)
async def test_a_candidate_that_does_not_work_is_told_why(
    candidate: Any, traffic: Traffic, path: str, answered: int, reason: str
) -> None:
    candidate.statuses[path] = answered

    status, _, said = await traffic("check", "notes")

    assert (status, said) == (1, f"{candidate.address} fails: {reason}\n")


async def test_a_document_that_is_none_fails(candidate: Any, traffic: Traffic) -> None:
    candidate.document = b"<html>"

    assert (await traffic("check", "notes"))[0] == 1


async def test_a_candidate_that_is_nowhere_fails(contained: Any, traffic: Traffic) -> None:
    assert (await traffic("check", "notes", candidate_server="127.0.0.1:1"))[0] == 1
    status, _, said = await traffic("check", "notes", candidate_server="{service}-v2.invalid:8000")
    assert (status, "notes-v2.invalid has no address" in said) == (1, True)
