"""The examples in the API's description: requests that work as they stand, and errors as they are really sent."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.conftest import PASSWORD, Run, Running, SignedIn, SignUp

pytestmark = pytest.mark.needs("analytics", "notes", "assets")

# Operations that others need come first; those that end accounts or sessions come last.
FIRST = ["users_register_account", "users_log_in", "users_issue_token"]
LAST = [
    *("users_end_sessions_of", "users_delete_account", "users_end_session", "users_change_password"),
    *("users_refresh_session", "users_delete_profile", "users_log_out"),
]
# Members of a body that only a mail holds: no example can have a value that works.
SECRETS = {"token"}


class Caller:
    """Calls operations with the examples of their description, as one account, and remembers what responses name."""

    def __init__(self, gateway: httpx2.AsyncClient, description: dict[str, Any], other: SignedIn) -> None:
        self._gateway = gateway
        self._schemas = description["components"]["schemas"]
        self._tokens: dict[str, str] = {}
        self._known: dict[str, str] = {"{user_id}": other.account["id"]}
        self._etag = "*"

    async def call(self, method: str, path: str, operation: dict[str, Any]) -> httpx2.Response:
        names = {parameter["name"] for parameter in operation.get("parameters", ())}
        headers = {"If-Match": self._etag} if "If-Match" in names else {}
        if "security" in operation:
            headers["Authorization"] = f"Bearer {self._tokens['access_token']}"
        url = path
        for known, value in self._known.items():
            url = url.replace(known, value)
        body: dict[str, Any] = {}
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            if media_type == "application/json":
                body = {"json": self._example(content["schema"])}
            elif media_type == "application/x-www-form-urlencoded":
                body = {"data": self._example(content["schema"])}
            else:
                body = {"files": {"file": ("note.txt", b"a file", "text/plain")}}
        response = await self._gateway.request(method, url, headers=headers, **body)
        self._remember(operation["operationId"], path, response)
        return response

    def needs_a_secret(self, operation: dict[str, Any]) -> bool:
        """Whether the body needs what only a mail holds."""
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        return bool(schema) and not SECRETS.isdisjoint(self._example(schema))

    def _example(self, schema: dict[str, Any]) -> Any:
        """Return the example of a body, with the refresh token and the file of this account."""
        while "examples" not in schema:
            schema = self._schemas[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else _first_choice(schema)
        example = dict(schema["examples"][0])
        own = {"refresh_token": self._tokens.get("refresh_token"), "ids": [self._known.get("{asset_id}")]}
        return example | {name: value for name, value in own.items() if name in example}

    def _remember(self, name: str, path: str, response: httpx2.Response) -> None:
        is_json = response.content and "json" in response.headers.get("Content-Type", "")
        document = response.json() if is_json else {}
        if name in ("users_log_in", "users_issue_token", "users_refresh_session"):
            self._tokens = document
        self._etag = response.headers.get("ETag", self._etag) if "/notes" in path else self._etag
        if "slug" in document:
            self._known["{slug}"] = document["slug"] or ""
        # `/notes/{note_id}` is what `/notes` has created or listed.
        last = (document.get("items") or [document])[-1]
        if "id" in last and path != "/api/v1/users":
            parameter = f"{{{path.rsplit('/', 1)[1].removesuffix('s')}_id}}"
            self._known[parameter.replace("-", "_").replace("api_", "")] = last["id"]


def _first_choice(schema: dict[str, Any]) -> dict[str, Any]:
    choices: list[dict[str, Any]] = schema.get("oneOf") or schema["anyOf"]
    return choices[0]


@pytest.fixture
async def description(gateway: httpx2.AsyncClient) -> dict[str, Any]:
    document: dict[str, Any] = (await gateway.get("/openapi.json")).json()
    return document


@pytest.fixture(scope="module")
async def running(run: Run, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A platform of its own: elsewhere the accounts of the examples may exist, and their mails may be used up."""
    async with run(tmp_path_factory.mktemp("platform")) as running:
        yield running


def _order(method: str, path: str, name: str) -> tuple[int, int]:
    if name in FIRST:
        return 0, FIRST.index(name)
    if name in LAST:
        return 5, LAST.index(name)
    # A page is published after the last change of its note, whose version changes then, too.
    return (4 if method == "delete" else 3 if "publi" in path else 2 if "{" in path else 1), "public" in path


async def test_every_example_of_a_request_works_as_it_stands(
    gateway: httpx2.AsyncClient, description: dict[str, Any], sign_up: SignUp, running: Running
) -> None:
    caller = Caller(gateway, description, await sign_up(gateway))
    operations = [
        (method, path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    statuses: dict[str, int] = {}
    for method, path, operation in sorted(operations, key=lambda found: _order(*found[:2], found[2]["operationId"])):
        name = operation["operationId"]
        if caller.needs_a_secret(operation):
            continue
        statuses[name] = (await caller.call(method, path, operation)).status_code
        if name == "users_register_account":
            await _make_admin(running, "ada")

    assert {name: status for name, status in statuses.items() if status >= 300} == {}


async def _make_admin(running: Running, username: str) -> None:
    command = [sys.executable, "-m", "local_platform", "admin", "--data-dir", str(running.data_dir), username]
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


NOTES = "/api/v1/notes"
# Requests that fail, by the code of the error. `signed` ones bring a token.
FAILURES: dict[str, dict[str, Any]] = {
    "token-missing": {"method": "GET", "url": NOTES},
    "token-invalid": {"method": "GET", "url": NOTES, "headers": {"Authorization": "Bearer a.b.c"}},
    "role-required": {"method": "GET", "url": "/api/v1/users", "signed": True},
    "not-found": {"method": "GET", "url": f"{NOTES}/{uuid4()}", "signed": True},
    "invalid-json": {"method": "POST", "url": NOTES, "signed": True, "content": b"{", "type": "application/json"},
    "validation": {"method": "POST", "url": NOTES, "signed": True, "json": {}},
    "unsupported-media-type": {"method": "POST", "url": NOTES, "signed": True, "content": b"x", "type": "text/csv"},
    "too-large": {"method": "POST", "url": "/api/v1/users/login", "json": {"password": "x" * 20_000}},
    "version-required": {"method": "DELETE", "url": f"{NOTES}/{{note}}", "signed": True},
    "stale-version": {"method": "DELETE", "url": f"{NOTES}/{{note}}", "signed": True, "headers": {"If-Match": '"0"'}},
    "malformed-condition": {
        "method": "DELETE",
        "url": f"{NOTES}/{{note}}",
        "signed": True,
        "headers": {"If-Match": "0"},
    },
    "key-reused": {
        "method": "POST",
        "url": NOTES,
        "signed": True,
        "json": {"title": "x"},
        "headers": {"Idempotency-Key": "k"},
    },
    "conflict": {"method": "PATCH", "url": "/api/v1/users/profile", "signed": True, "json": {"email": "{taken}"}},
    "invalid-credentials": {
        "method": "POST",
        "url": "/api/v1/users/login",
        "json": {"username_or_email": "nobody", "password": "x"},
    },
    "refresh-token-invalid": {"method": "POST", "url": "/api/v1/users/refresh", "json": {"refresh_token": "x"}},
    "invalid-token-request": {"method": "POST", "url": "/api/v1/users/token", "data": {"grant_type": "password"}},
    "unsupported-grant-type": {"method": "POST", "url": "/api/v1/users/token", "data": {"grant_type": "magic"}},
    "invalid-grant": {
        "method": "POST",
        "url": "/api/v1/users/token",
        "data": {"grant_type": "refresh_token", "refresh_token": "x"},
    },
    "wrong-password": {
        "method": "POST",
        "url": "/api/v1/users/password",
        "signed": True,
        "json": {"current_password": "x", "new_password": PASSWORD},
    },
    "unsupported-file-type": {
        "method": "POST",
        "url": "/api/v1/assets",
        "signed": True,
        "content": b"\x7fELF\0\0\0\0",
        "type": "application/octet-stream",
        "headers": {"X-Filename": "x"},
    },
    "file-type-mismatch": {
        "method": "POST",
        "url": "/api/v1/assets",
        "signed": True,
        "content": b"text",
        "type": "image/png",
        "headers": {"X-Filename": "x"},
    },
    "invalid-filename": {
        "method": "POST",
        "url": "/api/v1/assets",
        "signed": True,
        "content": b"text",
        "type": "text/plain",
    },
    "range-not-satisfiable": {
        "method": "GET",
        "url": "/api/v1/assets/{asset}/content",
        "signed": True,
        "headers": {"Range": "bytes=99-"},
    },
    "link-refused": {"method": "GET", "url": "/api/v1/assets/{asset}/content?expires=1&signature=x"},
}


async def test_the_example_of_an_error_is_what_is_sent(
    gateway: httpx2.AsyncClient, description: dict[str, Any], sign_up: SignUp
) -> None:
    account, taken = await sign_up(gateway), await sign_up(gateway)
    note = await gateway.post(NOTES, json={"title": "n"}, headers={**account.headers, "Idempotency-Key": "k"})
    upload = {"Content-Type": "text/plain", "X-Filename": "a.txt", **account.headers}
    asset = await gateway.post("/api/v1/assets", content=b"a text", headers=upload)
    ended = await sign_up(gateway)
    await gateway.post("/api/v1/users/logout", headers=ended.headers)
    profile = "/api/v1/users/profile"
    async with asyncio.timeout(10):
        # All workers hear of it within a second.
        while [(await gateway.get(profile, headers=ended.headers)).status_code for _ in range(8)] != [401] * 8:
            await asyncio.sleep(0.05)
    failures = FAILURES | {"session-ended": {"method": "GET", "url": profile, "headers": ended.headers}}

    examples = description["components"]["examples"]
    for code, failure in failures.items():
        request = {name: value for name, value in failure.items() if name not in ("signed", "type", "url")}
        headers = {**request.pop("headers", {}), **(account.headers if "signed" in failure else {})}
        if "type" in failure:
            headers["Content-Type"] = failure["type"]
        if code == "conflict":
            request["json"] = {"email": taken.account["email"]}
        url = failure["url"].replace("{note}", note.json()["id"]).replace("{asset}", asset.json()["id"])
        response = await gateway.request(url=url, headers=headers, **request)
        sent, example = response.json(), examples[code]["value"]
        assert set(sent) == set(example), code
        assert [sent[name] for name in ("type", "title", "status")] == [
            example[name] for name in ("type", "title", "status")
        ]
        assert {type(sent[name]) for name in sent} == {type(example[name]) for name in example}, code
