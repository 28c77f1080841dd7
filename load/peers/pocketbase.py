"""PocketBase: a Go backend in one process, with SQLite in it. Built from its own example of a server.

Its defaults stay: bcrypt of cost 10, SQLite with a write-ahead log and `synchronous=NORMAL`, no limits of rates. Only
its mails about new devices are off. A list asks for no total, because this platform counts none either. A second
server differs in `synchronous=FULL` alone: a commit waits for the disk, as it does in the platform's stores.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from local_platform.supervision.jobs import run_job
from local_platform.supervision.ports import HOST, PortAllocator
from local_platform.supervision.process import Command
from local_platform.supervision.supervisor import Supervisor
from peers.notes_api import PASSWORD, Call, NotesApi, NotesClient, User
from peers.obtaining import GoProgram
from peers.side import PeerFailed, Side, healthy, parts_of, start

NAME = "pocketbase"
DURABLE_NAME = "pocketbase, synchronous=FULL"
_DURABLE = """package main

import (
	"log"

	"github.com/pocketbase/dbx"
	"github.com/pocketbase/pocketbase"
)

// PocketBase's own pragmas, except for the last one.
const pragmas = "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=journal_size_limit(200000000)" +
	"&_pragma=foreign_keys(ON)&_pragma=temp_store(MEMORY)&_pragma=cache_size(-32000)&_pragma=synchronous(FULL)"

func main() {
	connect := func(path string) (*dbx.DB, error) { return dbx.Open("sqlite", path+pragmas) }
	if err := pocketbase.NewWithConfig(pocketbase.Config{DBConnect: connect}).Start(); err != nil {
		log.Fatal(err)
	}
}
"""
PROGRAM = GoProgram(
    name=NAME,
    module="github.com/pocketbase/pocketbase",
    version="v0.40.4",
    commands=["./examples/base", "./examples/durable"],
    minutes=2,
    added={"examples/durable/main.go": _DURABLE},
)
ADMINISTRATOR = "bench@example.com"
COLLECTIONS = "/api/collections"
NOTES = f"{COLLECTIONS}/notes/records"
OWN = "owner = @request.auth.id"


@asynccontextmanager
async def running(folder: Path, name: str = NAME, command: str = "base") -> AsyncIterator[Side]:
    """Start the server on an empty folder and create the collection. Raises CannotObtain."""
    binary = str(PROGRAM.obtain() / command)
    home = folder / f"{NAME}-{command}"
    home.mkdir()
    password = secrets.token_hex()
    storage = ["--dir", str(home / "data")]
    upsert = [binary, "superuser", "upsert", ADMINISTRATOR, password, *storage]
    await run_job("pocketbase-superuser", Command(argv=upsert, directory=home, log=home / "superuser.log"))
    supervisor = Supervisor()
    with PortAllocator(home / "ports.json") as ports:
        address = f"{HOST}:{ports.allocate(NAME)}"
        url = f"http://{address}"
        serve = [binary, "serve", "--http", address, *storage]
        try:
            await start(supervisor, NAME, serve, url, home, probe=healthy(f"{url}/api/health"))
            await _create_collection(url, password)
            yield Side(name, NotesClient(api(url)).work, parts_of(supervisor))
        finally:
            await supervisor.stop(supervisor.processes.values())


def running_durable(folder: Path) -> AbstractAsyncContextManager[Side]:
    """Start the server whose commits wait for the disk."""
    return running(folder, DURABLE_NAME, "durable")


async def _create_collection(url: str, password: str) -> None:
    async with aiohttp.ClientSession(url) as http:

        async def send(method: str, path: str, body: object) -> Any:
            async with http.request(method, path, json=body) as response:
                if response.status != 200:
                    raise PeerFailed(f"{url}{path}: status {response.status}: {await response.text()}")
                return await response.json()

        credentials = {"identity": ADMINISTRATOR, "password": password}
        signed_in = await send("POST", f"{COLLECTIONS}/_superusers/auth-with-password", credentials)
        http.headers["Authorization"] = signed_in["token"]
        users = await send("PATCH", f"{COLLECTIONS}/users", {"authAlert": {"enabled": False}})
        fields = [
            {
                "name": "owner",
                "type": "relation",
                "collectionId": users["id"],
                "maxSelect": 1,
                "required": True,
                "cascadeDelete": True,
            },
            {"name": "title", "type": "text", "required": True, "max": 200},
            {"name": "body", "type": "text", "max": 1024 * 1024},
            {"name": "tags", "type": "json"},
            {"name": "created", "type": "autodate", "onCreate": True},
            {"name": "updated", "type": "autodate", "onCreate": True, "onUpdate": True},
        ]
        rules = dict.fromkeys(("listRule", "viewRule", "createRule", "updateRule", "deleteRule"), OWN)
        index = "CREATE INDEX by_owner ON notes (owner, created)"
        collection = {"name": "notes", "type": "base", "fields": fields, "indexes": [index], **rules}
        await send("POST", COLLECTIONS, collection)


def api(url: str) -> NotesApi:
    def register(name: str) -> Call:
        body = {"email": f"{name}@example.com", "password": PASSWORD, "passwordConfirm": PASSWORD}
        return Call("POST", url, f"{COLLECTIONS}/users/records", 200, body)

    def login(name: str) -> Call:
        body = {"identity": f"{name}@example.com", "password": PASSWORD}
        return Call("POST", url, f"{COLLECTIONS}/users/auth-with-password", 200, body)

    return NotesApi(
        register=register,
        login=login,
        user=lambda response: User(response["record"]["id"], response["token"]),
        create=lambda user, content: Call("POST", url, NOTES, 200, {**content, "owner": user.id}),
        read=lambda identifier: Call("GET", url, f"{NOTES}/{identifier}"),
        list=Call("GET", url, f"{NOTES}?perPage=20&sort=-created&skipTotal=1"),
    )
