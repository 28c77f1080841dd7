"""The console over HTTP: what arrives is shown, to administrators alone."""

import asyncio
import re
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from uuid_utils.compat import uuid7

from console.tests import senders
from console.tests.conftest import PeerServices, Replica
from console_service.otlp.body import JSON, MAX_BYTES, PROTOBUF
from console_service.stream import routes as stream_routes
from servicekit.testing.harness import Deployment

READS = [
    *("overview", "map", "requests", "requests/r-1", "logs", "routes", "users", f"users/{uuid4()}", "data", "events"),
    *("mail", "mail/a", "keys", "audit", "stream", "session"),
]
ACTIONS = [
    ("PUT", f"users/{uuid4()}/role"),
    ("DELETE", f"users/{uuid4()}/sessions"),
    ("DELETE", f"users/{uuid4()}"),
    ("POST", "events/retry"),
    ("POST", "keys/rotate"),
    ("DELETE", "session"),
]
ACTION_IDS = [f"{method} {re.sub(r'[0-9a-f-]{36}', 'id', path)}" for method, path in ACTIONS]


def api(path: str) -> str:
    return f"/console/api/{path}"


async def send(replica: Replica, signal: str, body: bytes, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await replica.http.post(f"/v1/{signal}", content=body, headers={"content-type": JSON, **named})


async def test_telemetry_is_taken_packed_or_plain_and_rubbish_is_a_problem(replica: Replica) -> None:
    line = senders.logs(senders.line("hello"))
    assert (await send(replica, "logs", line)).json() == {}
    assert (await send(replica, "logs", senders.packed(line), content_encoding="gzip")).status_code == 200
    empty = await send(replica, "metrics", b"", content_type=PROTOBUF)
    assert (empty.status_code, empty.content, empty.headers["content-type"]) == (200, b"", PROTOBUF)
    refused = {
        400: await send(replica, "traces", b"{"),
        413: await send(replica, "traces", b" " * (MAX_BYTES + 1)),
        415: await send(replica, "traces", b"{}", content_type="text/plain"),
    }
    for status, response in refused.items():
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert (await send(replica, "logs", line, content_encoding="br")).status_code == 415
    assert (await replica.http.get("/v1/logs")).status_code == 404


@pytest.mark.parametrize("path", READS, ids=[re.sub(r"[0-9a-f-]{36}", "id", path) for path in READS])
async def test_nobody_reads_without_a_session(path: str, replica: Replica) -> None:
    response = await replica.http.get(api(path))
    assert (response.status_code, response.headers["content-type"]) == (401, "application/problem+json")
    replica.http.cookies.set("console_session", "invented")
    response = await replica.http.get(api(path))
    assert response.status_code == 401
    # An access token alone is no session, not even an administrator's.
    replica.http.cookies.clear()
    headers = replica.headers(uuid7(), roles=["admin"])
    assert (await replica.http.get(api(path), headers=headers)).status_code == 401


@pytest.mark.parametrize(("method", "path"), ACTIONS, ids=ACTION_IDS)
async def test_no_action_without_session_origin_and_csrf_token(method: str, path: str, replica: Replica) -> None:
    async def act(**headers: str) -> tuple[int, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = await replica.http.request(method, api(path), headers=named)
        return response.status_code, response.json()["type"].rpartition(":")[2]

    assert (await act(origin=replica.origin))[0] == 401
    csrf_token = (await replica.log_in()).json()["csrf_token"]
    assert await act(x_csrf_token=csrf_token) == (403, "origin-refused")
    assert await act(x_csrf_token=csrf_token, origin="https://evil.example") == (403, "origin-refused")
    assert await act(x_csrf_token=csrf_token, sec_fetch_site="cross-site") == (403, "origin-refused")
    assert await act(origin=replica.origin) == (403, "csrf-refused")
    assert await act(origin=replica.origin, x_csrf_token="guessed") == (403, "csrf-refused")
    cookie = replica.http.cookies["console_session"]
    replica.http.cookies.clear()
    await replica.log_in()
    # The session of another operator, with the first one's token.
    assert await act(origin=replica.origin, x_csrf_token=csrf_token) == (403, "csrf-refused")
    assert replica.http.cookies["console_session"] != cookie


async def test_login_needs_an_administrator_and_the_consoles_own_page(replica: Replica) -> None:
    assert (await replica.log_in(roles=["user"])).status_code == 403
    tokens = {"access_token": replica.peers.issuer.token(uuid7(), roles=["admin"]), "refresh_token": "r"}
    foreign = await replica.http.post(api("session"), json=tokens, headers={"Origin": "https://evil.example"})
    assert (foreign.status_code, "set-cookie" in foreign.headers) == (403, False)
    forged = await replica.http.post(
        api("session"), json={**tokens, "access_token": "x"}, headers={"Origin": replica.origin}
    )
    assert forged.status_code == 401
    logged_in = await replica.log_in()
    assert (logged_in.status_code, logged_in.json()["username"]) == (200, "ada")
    cookie = logged_in.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/console" in cookie
    assert "secure" not in cookie
    assert (await replica.http.get(api("session"))).json() == logged_in.json()
    token = replica.peers.issuer.token(uuid7(), roles=["admin"])
    by_tls = await replica.http.post(
        api("session"), json={"access_token": token}, headers={"Origin": replica.origin, "X-Forwarded-Proto": "https"}
    )
    assert "; secure" in by_tls.headers["set-cookie"].lower()


async def test_logging_out_ends_the_session_and_removes_the_cookie(replica: Replica) -> None:
    csrf_token = (await replica.log_in()).json()["csrf_token"]
    kept = dict(replica.http.cookies)
    response = await replica.http.delete(api("session"), headers={"Origin": replica.origin, "X-CSRF-Token": csrf_token})
    assert response.status_code == 204
    replica.http.cookies.update(kept)
    assert (await replica.http.get(api("session"))).status_code == 401


async def test_an_expired_token_is_refreshed_once_for_many_requests(replica: Replica, peers: PeerServices) -> None:
    user_id = uuid7()
    peers.refresh_tokens[f"refresh-{user_id}"] = user_id
    peers.refreshed.clear()
    await replica.log_in(user_id, seconds=30)
    responses = await asyncio.gather(*(replica.http.get(api("overview")) for _ in range(10)))
    assert {response.status_code for response in responses} == {200}
    assert peers.refreshed == [f"refresh-{user_id}"]


async def test_a_request_leads_to_its_spans_and_lines(replica: Replica) -> None:
    error = senders.line(
        "unexpected ValueError", level="ERROR", request_id="r-1", traceback="Traceback\n  ValueError", logger="notes"
    )
    fields = {"path": "/api/v1/notes/7", "user_id": "u-1", "trace_id": senders.TRACE_ID, "method": "DELETE"}
    await send(replica, "logs", senders.logs(senders.access("r-1", status=500, ms=42.5, **fields), error))
    await send(replica, "logs", senders.logs(senders.access("r-2"), senders.line("quiet", request_id="r-2")))
    started = 10**18
    child = senders.span("find notes", kind=3, started=started + 10**6, spanId="b" * 16, parentSpanId=senders.SPAN_ID)
    await send(replica, "traces", senders.traces(senders.span(started=started, ms=42), child))
    await replica.log_in()

    listed = (await replica.http.get(api("requests"), params={"status": "5xx"})).json()["items"]
    assert [(each["request_id"], each["status"], each["ms"], each["replica"]) for each in listed] == [
        ("r-1", 500, 42.5, "notes-1")
    ]
    found = (await replica.http.get(api("requests/r-1"))).json()
    assert [(each["name"], each["start_ms"], each["duration_ms"]) for each in found["spans"]] == [
        ("GET /api/v1/notes", 0, 42), ("find notes", 1, 5),
    ]  # fmt: skip
    assert {each["message"]: each["traceback"] for each in found["logs"]} == {
        "DELETE /api/v1/notes/7 500": None, "unexpected ValueError": "Traceback\n  ValueError",
    }  # fmt: skip
    assert found["curl"] == ('curl -i -X DELETE -H "Authorization: Bearer $TOKEN" http://service/api/v1/notes/7')
    assert (await replica.http.get(api("requests/r-9"))).status_code == 404


FILTERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "all": ({}, ["r-3", "r-2", "r-1"]),
    "404": ({"status": "404"}, ["r-2"]),
    "4xx": ({"status": "4xx"}, ["r-2"]),
    "route": ({"route": "{note_id}"}, ["r-3"]),
    "path": ({"route": "/api/v1/notes/7"}, ["r-3"]),
    "slow": ({"min_ms": 100}, ["r-1"]),
    "user": ({"user": "ada"}, ["r-1"]),
    "service": ({"service": "user"}, []),
    "limit": ({"limit": 2}, ["r-3", "r-2"]),
}


async def test_requests_are_filtered_newest_first(replica: Replica) -> None:
    for number, changes in enumerate(
        [
            {"ms": 150.0, "user_id": "ada-1"},
            {"status": 404},
            {"route": "/api/v1/notes/{note_id}", "path": "/api/v1/notes/7"},
        ],
        1,
    ):
        record = senders.access(f"r-{number}", **changes)
        record["timeUnixNano"] = str(number * 10**9)
        await send(replica, "logs", senders.logs(record))
    await replica.log_in()
    for wanted, expected in FILTERS.values():
        items = (await replica.http.get(api("requests"), params=wanted)).json()["items"]
        assert [each["request_id"] for each in items] == expected, wanted
    assert (await replica.http.get(api("requests"), params={"status": "9xx"})).status_code == 422


async def test_logs_are_merged_filtered_and_paged(replica: Replica) -> None:
    for number in range(6):
        level = "ERROR" if number % 2 else "INFO"
        line = senders.line(f"line {number}", level=level, at=number + 1, request_id=f"r-{number}", tenant="Acme")
        await send(replica, "logs", senders.logs(line, replica=f"notes-{number % 2}"))
    await replica.log_in()

    async def messages(**params: Any) -> list[str]:
        return [each["message"] for each in (await replica.http.get(api("logs"), params=params)).json()["items"]]

    assert await messages() == [f"line {number}" for number in (5, 4, 3, 2, 1, 0)]
    assert await messages(level="WARNING") == ["line 5", "line 3", "line 1"]
    assert await messages(q="ACME", limit=1) == ["line 5"]
    assert await messages(request_id="r-2") == ["line 2"]
    assert await messages(service="user") == []
    first = (await replica.http.get(api("logs"), params={"limit": 4})).json()
    assert await messages(limit=4, before=first["next_before"]) == ["line 1", "line 0"]


async def test_the_page_is_public_with_a_strict_policy_and_asks_whether_files_changed(replica: Replica) -> None:
    page = await replica.http.get("/console")
    assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;")
    assert "unsafe" not in policy
    for tag in (page.headers["etag"], f"W/{page.headers['etag']}", f'"other", {page.headers["etag"]}'):
        unchanged = await replica.http.get("/console", headers={"If-None-Match": tag})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
    script = await replica.http.get("/console/main.js")
    assert script.headers["content-type"].partition(";")[0] == "text/javascript"
    for path in ("../app.py", "%2e%2e/app.py", "..%2fapp.py", "page/../../app.py", "nothing.js", "api/nothing"):
        assert (await replica.http.get(f"/console/{path}")).status_code == 404, path


@pytest.fixture
def on_socket(deployment: Deployment[Any, Replica], monkeypatch: pytest.MonkeyPatch) -> Deployment[Any, Replica]:
    monkeypatch.setattr(stream_routes, "CHECK_SECONDS", 0.0)
    deployment.on_socket = True
    return deployment


async def test_a_stream_shows_what_is_new_and_ends_with_the_session(on_socket: Deployment[Any, Replica]) -> None:
    async with on_socket.replica() as replica:
        await send(replica, "logs", senders.logs(senders.access("before")))
        csrf_token = (await replica.log_in()).json()["csrf_token"]
        async with replica.http.stream("GET", api("stream"), params={"topics": "overview,requests"}) as stream:
            assert stream.headers["content-type"].partition(";")[0] == "text/event-stream"
            lines = stream.aiter_lines()
            assert await until(lines, "event: overview")
            await send(replica, "logs", senders.logs(senders.access("after")))
            shown = await until(lines, '"request_id":"')
            assert '"request_id":"after"' in shown
            assert "before" not in shown
            await replica.http.delete(api("session"), headers={"Origin": replica.origin, "X-CSRF-Token": csrf_token})
            # It ends by itself.
            async for _ in lines:
                pass


async def test_a_stream_ends_when_the_role_is_withdrawn(on_socket: Deployment[Any, Replica]) -> None:
    async with on_socket.replica() as replica:
        user_id = uuid7()
        await replica.log_in(user_id)
        async with replica.http.stream("GET", api("stream")) as stream:
            lines = stream.aiter_lines()
            assert await until(lines, "event: overview")
            assert replica.app is not None
            (session,) = replica.app.state.components.session_actions._sessions._sessions.values()
            session.access_token = replica.peers.issuer.token(user_id, roles=["user"])
            async for _ in lines:
                pass
        assert (await replica.http.get(api("overview"))).status_code == 401


async def test_unknown_topics_are_refused(replica: Replica) -> None:
    await replica.log_in()
    assert (await replica.http.get(api("stream"), params={"topics": "overview,secrets"})).status_code == 422


async def until(lines: Any, text: str) -> str:
    async with asyncio.timeout(60):
        async for line in lines:
            if text in line:
                return str(line)
    raise AssertionError(f"the stream ended without {text}")
