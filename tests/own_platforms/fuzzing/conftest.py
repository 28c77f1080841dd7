"""A service's API document as a source of requests, and a target that they are sent to.

Bodies are JSON texts, because Python objects cannot express all of them: lone surrogates, 5,000-digit numbers, NaN.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from opskit.catalog import read_catalog
from servicekit.testing.serving import http_client
from tests.conftest import Run, Running

MEMBERS = {"type", "title", "status", "detail", "instance", "request_id"}

# Some routes of a service answer 503 without the service that they call.
_CALLED: Mapping[str, str] = {"assets": "notes", "notes": "assets"}
SERVICES = [
    pytest.param(name, id=name, marks=pytest.mark.needs(_CALLED[name]) if name in _CALLED else ())
    for name in read_catalog()
]

# Values of fields whose format is in no schema.
_KNOWN: Mapping[str, Callable[[], str]] = {
    "username": lambda: f'"h{uuid4().hex[:20]}"',
    "email": lambda: f'"h{uuid4().hex[:20]}@mail.dev"',
    "password": lambda: '"correct horse battery staple"',
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `body` is the schema of its JSON body."""

    method: str
    path: str
    sealed: bool
    parameters: tuple[Mapping[str, Any], ...]
    body: Mapping[str, Any] | None

    @property
    def label(self) -> str:
        return f"{self.method} {self.path}"

    def names(self, location: str) -> list[str]:
        """Return the names of its parameters in the path, the query or the headers."""
        return [parameter["name"] for parameter in self.parameters if parameter["in"] == location]


class Document:
    """An OpenAPI document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._schemas = document.get("components", {}).get("schemas", {})
        self.operations = [
            Operation(
                method.upper(),
                path,
                operation["x-service-policy"]["mode"] == "sealed",
                tuple(operation.get("parameters", ())),
                operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema"),
            )
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        ]

    def sample(self, schema: Mapping[str, Any], name: str = "") -> str:
        """Return a small valid value as JSON."""
        schema = self._resolved(schema)
        if name in _KNOWN:
            return _KNOWN[name]()
        for key in ("examples", "enum"):
            if key in schema:
                return json.dumps(schema[key][0])
        match schema.get("type"):
            case "object":
                required = {field: schema["properties"][field] for field in schema.get("required", ())}
                return _object({field: self.sample(inner, field) for field, inner in required.items()})
            case "array":
                return f"[{self.sample(schema['items'])}]"
            case "string":
                return json.dumps(_text(schema.get("format", "")))
        return "1"

    def variants(self, schema: Mapping[str, Any], value: str) -> Iterator[tuple[str, bool]]:
        """Put the JSON text `value` into each field of a valid body in turn; tell whether the field takes any value."""
        schema = self._resolved(schema)
        free = schema.get("additionalProperties") is True
        yield value, free
        if free:
            yield _object({"key": value}), True
            yield f'{{"key": [{value}]}}', True
        fields = schema.get("properties", {})
        valid = {field: self.sample(fields[field], field) for field in schema.get("required", ())}
        for field, inner in fields.items():
            for text, anything in self.variants(inner, value):
                yield _object(valid | {field: text}), anything
        if "items" in schema:
            for text, anything in self.variants(schema["items"], value):
                yield f"[{text}]", anything
        for other in schema.get("oneOf", ())[1:]:
            yield from self.variants(other, value)

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" in schema:
            return self._resolved(self._schemas[schema["$ref"].rpartition("/")[2]])
        for key in ("anyOf", "oneOf"):
            if key in schema:
                first = self._resolved(schema[key][0])
                return {**first, "oneOf": schema[key]} if key == "oneOf" else first
        return schema


def _object(fields: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in fields.items()) + "}"


def _text(format_: str) -> str:
    return {"uuid": str(uuid4()), "date-time": datetime.now(UTC).isoformat()}.get(format_, "text")


class Target:
    """A service, called directly as an administrator."""

    def __init__(self, document: Document, client: httpx2.AsyncClient, headers: Mapping[str, str]) -> None:
        self.operations = document.operations
        self.document = document
        self.headers = dict(headers)
        self._client = client
        self._busy = asyncio.Semaphore(8)
        self.failures: list[str] = []

    async def send(
        self, operation: Operation, what: str, *, refused: bool = False, url: str = "", **request: Any
    ) -> None:
        """Send a request and note what is wrong with the response. With `refused`, only a refusal is right."""
        headers = ({} if operation.path.endswith("/logout") else self.headers) | request.pop("headers", {})
        path = url or operation.path
        for name in operation.names("path"):
            path = path.replace(f"{{{name}}}", str(uuid4()))
        async with self._busy:
            response = await self._client.request(operation.method, path, headers=headers, **request)
        fault = _fault(response, refused=refused, sealed=operation.sealed)
        if fault:
            self.failures.append(f"{operation.label}, {what}: {fault}: {response.status_code} {response.text[:200]}")

    async def expect_no_failures(self, sending: Iterable[Awaitable[None]]) -> None:
        await asyncio.gather(*sending)
        assert not self.failures, "\n".join(self.failures)


def _fault(response: httpx2.Response, *, refused: bool, sealed: bool) -> str:
    if response.status_code >= 500:
        return "a server error"
    if sealed and response.status_code != 401:
        return "a plain request accepted by a route for sealed ones"
    if response.status_code < 400:
        return "accepted" if refused else ""
    if response.headers["content-type"] != "application/problem+json" or not response.json().keys() >= MEMBERS:
        return "no problem document"
    return "shows its code" if "Traceback" in response.text or 'File "' in response.text else ""


@pytest.fixture(scope="module")
async def running(run: Run, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A platform of its own: generated requests take minutes, and another process can send them meanwhile."""
    async with run(tmp_path_factory.mktemp("platform"), replicas=2) as running:
        yield running


@pytest.fixture(scope="module")
async def admin(running: Running) -> AsyncIterator[dict[str, str]]:
    """The headers of an administrator."""
    name, password = f"h{uuid4().hex[:20]}", "correct horse battery staple"
    async with http_client(running.gateway_url) as client:
        account = {"username": name, "email": f"{name}@mail.dev", "password": password}
        assert (await client.post("/api/v1/users/register", json=account)).status_code == 201
        command = [sys.executable, "-m", "local_platform", "admin", "--data-dir", str(running.data_dir), name]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
        login = await client.post("/api/v1/users/login", json={"username_or_email": name, "password": password})
        headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
        yield headers
        # The session is still alive, so every request was sent as an administrator.
        assert (await client.get("/api/v1/users", headers=headers)).status_code == 200


@pytest.fixture(params=SERVICES)
async def target(request: pytest.FixtureRequest, running: Running, admin: dict[str, str]) -> AsyncIterator[Target]:
    # Failed logins are counted for this address, which no other test uses.
    async with http_client(running.urls(request.param)[0], headers={"X-Real-IP": "198.51.100.8"}, timeout=30) as client:
        yield Target(Document((await client.get("/openapi.json")).json()), client, admin)
