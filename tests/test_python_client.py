"""The Python client against the platform."""

import asyncio
import importlib
import inspect
import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from baseplate_client import ApiClient, ApiError, EditConflict, MemoryStore, Tokens, edit, items
from baseplate_client.generated.api.assets import assets_read_content
from baseplate_client.generated.api.notes import notes_change_note, notes_create_note, notes_list_notes, notes_read_note
from baseplate_client.generated.api.user import users_delete_profile, users_log_out, users_read_profile
from baseplate_client.generated.models import NoteChange, NoteIn, NoteOut
from baseplate_client.generated.types import UNSET, File, Response
from tests.conftest import PASSWORD, Running, SignUp

pytestmark = pytest.mark.needs("analytics", "notes", "assets")

DESCRIPTION = json.loads((Path(__file__).parents[1] / "clients" / "openapi.json").read_text())


class Interference(httpx2.AsyncHTTPTransport):
    """A network that counts requests, and loses or replaces responses."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[httpx2.Request] = []
        self.lose: list[str] = []
        self.expire: list[str] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        path = request.url.path
        if path in self.expire:
            self.expire.remove(path)
            problem = {"type": "urn:baseplate:problem:token-expired", "title": "Unauthorized", "status": 401}
            problem |= {"detail": "", "instance": path, "request_id": ""}
            return httpx2.Response(401, json=problem, headers={"Content-Type": "application/problem+json"})
        response = await super().handle_async_request(request)
        if path in self.lose:
            self.lose.remove(path)
            await response.aread()
            raise httpx2.ReadError("the connection was lost")
        return response

    def to(self, path: str) -> list[httpx2.Request]:
        return [request for request in self.requests if request.url.path == path]


@pytest.fixture
async def network() -> Interference:
    return Interference()


@pytest.fixture
async def api(
    running: Running, gateway: httpx2.AsyncClient, sign_up: SignUp, network: Interference
) -> AsyncIterator[ApiClient]:
    account = await sign_up(gateway)
    async with ApiClient(running.gateway_url, transport=network) as api:
        await api.log_in(account.username, PASSWORD)
        yield api


def _example(schema: dict[str, Any]) -> Any:
    if "$ref" in schema:
        return _example(DESCRIPTION["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
    if "examples" in schema or "const" in schema:
        return schema["examples"][0] if "examples" in schema else schema["const"]
    if choices := schema.get("oneOf") or schema.get("anyOf"):
        return _example(choices[0])
    if schema["type"] != "object":
        return schema.get("enum", [schema.get("default", "x")])[0]
    return {name: _example(schema["properties"][name]) for name in schema.get("required", ())}


def _arguments(function: Any, operation: dict[str, Any]) -> dict[str, Any]:
    """Return arguments for a generated function: examples of what it requires."""
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        kinds = getattr(parameter.annotation, "__args__", (parameter.annotation,))
        if name == "body":
            content = next(iter(operation["requestBody"]["content"].values()))
            if File in kinds:
                arguments["body"] = File(io.BytesIO(b"a text"))
                arguments["x_filename"] = "a.txt"
            else:
                example = _example(content["schema"])
                # Of several models, the one whose required fields the example has.
                models = [kind for kind in kinds if hasattr(kind, "from_dict")]
                model = next(model for model in models if _required(model) <= set(example))
                arguments["body"] = model.from_dict(example)
        elif name != "client" and parameter.default is inspect.Parameter.empty:
            arguments[name] = uuid4() if "UUID" in str(parameter.annotation) else '"1"'
    return arguments


def _required(model: Any) -> set[str]:
    parameters = inspect.signature(model).parameters.values()
    # `type` is `type_` in Python.
    return {parameter.name.rstrip("_") for parameter in parameters if parameter.default is inspect.Parameter.empty}


async def test_every_operation_reaches_the_platform_and_responds_as_the_description_says(
    api: ApiClient, running: Running
) -> None:
    account = await users_read_profile.asyncio(client=api)
    command = [sys.executable, "-m", "local_platform", "admin", "--data-dir", str(running.data_dir), account.username]
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0
    await api.log_in(account.username, PASSWORD)
    unexpected = []
    # The session of this test is used until the end.
    last = ["users_log_out", "users_delete_profile"]
    for operations in DESCRIPTION["paths"].values():
        for operation in operations.values():
            name, tag = operation["operationId"], operation["tags"][0]
            function = importlib.import_module(f"baseplate_client.generated.api.{tag}.{name}").asyncio_detailed
            if name in last:
                continue
            arguments = _arguments(function, operation)
            try:
                response: Response[Any] = await function(client=api, **arguments)
                status = int(response.status_code)
            except ApiError as error:
                status = error.status
            # No example has a token that a mail has brought.
            is_right = status not in (400, 415) or hasattr(arguments.get("body"), "token")
            if str(status) not in operation["responses"] or not is_right:
                unexpected.append((name, status))
    assert unexpected == []
    await users_log_out.asyncio_detailed(client=api)
    await api.log_in(account.username, PASSWORD)
    await users_delete_profile.asyncio_detailed(client=api)
    api.session.store.tokens = None
    with pytest.raises(ApiError) as refusal:
        await users_read_profile.asyncio(client=api)
    assert (refusal.value.code, refusal.value.status) == ("token-missing", 401)


async def test_many_callers_that_need_a_new_access_token_share_one_refresh(
    api: ApiClient, network: Interference
) -> None:
    store = api.session.store
    assert isinstance(store, MemoryStore)
    assert store.tokens is not None
    old = store.tokens
    store.tokens = Tokens(old.access_token, old.refresh_token, expires_at=0)

    await asyncio.gather(*(users_read_profile.asyncio(client=api) for _ in range(20)))

    assert len(network.to("/api/v1/users/refresh")) == 1
    assert store.tokens.refresh_token != old.refresh_token


async def test_a_request_whose_token_has_expired_is_sent_again_with_a_new_one(
    api: ApiClient, network: Interference
) -> None:
    network.expire = ["/api/v1/users/profile"] * 1

    await users_read_profile.asyncio(client=api)

    first, second = network.to("/api/v1/users/profile")
    assert first is not None
    assert second.headers["Authorization"] == f"Bearer {await api.session.access_token()}"
    assert len(network.to("/api/v1/users/refresh")) == 1


async def test_a_creation_whose_response_is_lost_is_sent_again_with_the_same_key_and_has_one_effect(
    api: ApiClient, network: Interference
) -> None:
    network.lose = ["/api/v1/notes"]

    created = await notes_create_note.asyncio_detailed(client=api, body=NoteIn(title="once"))

    assert created.headers["Idempotency-Replayed"] == "true"
    assert len({request.headers["Idempotency-Key"] for request in network.to("/api/v1/notes")}) == 1
    page = await notes_list_notes.asyncio(client=api)
    assert [note.title for note in page.items] == ["once"]


async def test_an_edit_of_what_someone_else_has_changed_tells_both_versions(api: ApiClient) -> None:
    note = await notes_create_note.asyncio(client=api, body=NoteIn(title="first"))

    async def read() -> Response[NoteOut]:
        return await notes_read_note.asyncio_detailed(note.id, client=api)

    async def write(change: NoteChange, etag: str) -> Response[Any]:
        return await notes_change_note.asyncio_detailed(note.id, client=api, body=change, if_match=etag)

    async def write_late(change: NoteChange, etag: str) -> Response[Any]:
        await write(NoteChange(title="theirs"), etag)
        return await write(change, etag)

    assert (await edit(read, lambda _note: NoteChange(title="second"), write)).parsed.title == "second"
    with pytest.raises(EditConflict) as found:
        await edit(read, lambda _note: NoteChange(title="mine"), write_late)

    conflict = found.value
    assert [conflict.base.title, conflict.mine.title, conflict.theirs.title] == ["second", "mine", "theirs"]
    assert (await write(conflict.mine, conflict.etag)).parsed.title == "mine"


@pytest.mark.parametrize("kind", ["bytes", "file"])
async def test_an_upload_tells_its_progress_and_is_stored_once_although_a_response_is_lost(
    api: ApiClient, network: Interference, tmp_path: Path, kind: str
) -> None:
    text = b"a line of text\n" * 60_000
    (tmp_path / "text").write_bytes(text)
    network.lose = ["/api/v1/assets"]
    progress: list[float] = []

    asset = await api.upload(
        text if kind == "bytes" else tmp_path / "text",
        filename="café.txt",
        media_type="text/plain",
        on_progress=lambda sent, total: progress.append(sent / total),
    )

    assert (asset["filename"], asset["size"]) == ("café.txt", len(text))
    assert len(progress) > 4
    assert progress[-1] == 1
    assert len(network.to("/api/v1/assets")) == 2
    content = await assets_read_content.asyncio_detailed(UUID(asset["id"]), client=api)
    assert content.content == text


async def test_a_list_is_one_sequence_whatever_its_pages(api: ApiClient) -> None:
    for title in "abcde":
        await notes_create_note.asyncio(client=api, body=NoteIn(title=title))

    pages = items(lambda cursor: notes_list_notes.asyncio(client=api, cursor=cursor or UNSET, limit=2))

    assert [note.title async for note in pages] == ["e", "d", "c", "b", "a"]


async def test_an_error_has_a_code_and_says_what_is_wrong(api: ApiClient) -> None:
    with pytest.raises(ApiError) as refusal:
        await notes_create_note.asyncio(client=api, body=NoteIn(title=""))

    error = refusal.value
    assert (error.code, error.status) == ("validation", 422)
    assert error.problem is not None
    assert error.problem.errors[0].field == "body.title"
