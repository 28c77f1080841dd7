"""The textbook stack: `textbook/app`, two services with two workers each, on a PostgreSQL like the platform's.

Clients reach the services directly, without a gateway. Its limits of rates are off like the platform's, but the
middleware of the limiter stays.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from local_platform.environment import known_variables
from local_platform.stores import running_stores
from local_platform.supervision.jobs import run_job
from local_platform.supervision.ports import HOST, PortAllocator
from local_platform.supervision.process import Command
from local_platform.supervision.supervisor import Supervisor
from peers.notes_api import PASSWORD, Call, NotesApi, NotesClient, User
from peers.obtaining import python_environment
from peers.side import Side, parts_of, start

NAME = "textbook"
FOLDER = Path(__file__).with_name("textbook")
WORKERS = 2


def interpreter() -> str:
    """Return the interpreter that has the stack's packages. Raises CannotObtain."""
    return str(python_environment(NAME, FOLDER / "requirements.txt"))


def gunicorn(python: str, application: str, port: int, *, workers: int) -> list[str]:
    """Return the command of one service.

    Connections are kept as long as the platform keeps them. With the default of two seconds, a loop that hashes
    passwords takes waiting requests for idle connections and drops them.
    """
    return [
        *(python, "-m", "gunicorn", "--chdir", str(FOLDER), "--bind", f"{HOST}:{port}", "--no-control-socket"),
        *(
            "--keep-alive",
            "75",
            "--worker-class",
            "uvicorn_worker.UvicornWorker",
            "--workers",
            str(workers),
            application,
        ),
    ]


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Side]:
    """Start PostgreSQL and both services. Raises CannotObtain."""
    python = interpreter()
    home = folder / NAME
    home.mkdir()
    supervisor = Supervisor()
    async with running_stores(home / "stores", engines=["postgres"]) as stores:
        with PortAllocator(home / "ports.json") as ports:
            environment = {
                "DATABASE_URL": await stores.create_postgres_database(NAME),
                "JWT_SECRET": secrets.token_hex(),
                "RATE_LIMIT_ENABLED": "false",
            }
            migration = Command(
                argv=[python, "-m", "app.migrate"],
                directory=FOLDER,
                log=home / "migrate.log",
                environment={**known_variables(), **environment},
            )
            await run_job("textbook-migrate", migration)
            urls = {}
            try:
                for service in ("users", "notes"):
                    port = ports.allocate(service)
                    urls[service] = f"http://{HOST}:{port}"
                    command = gunicorn(python, f"app.{service}:app", port, workers=WORKERS)
                    await start(supervisor, service, command, urls[service], home, environment=environment)
                client = NotesClient(api(urls["users"], urls["notes"]))
                yield Side(NAME, client.work, parts_of(supervisor, stores.supervisor))
            finally:
                await supervisor.stop(supervisor.processes.values())


def api(users: str, notes: str) -> NotesApi:
    def register(name: str) -> Call:
        body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        return Call("POST", users, "/api/v1/users/register", 201, body)

    def login(name: str) -> Call:
        return Call("POST", users, "/api/v1/users/login", 200, {"username": name, "password": PASSWORD})

    return NotesApi(
        register=register,
        login=login,
        user=lambda response: User("", response["access_token"]),
        create=lambda _user, content: Call("POST", notes, "/api/v1/notes", 201, content),
        read=lambda identifier: Call("GET", notes, f"/api/v1/notes/{identifier}"),
        list=Call("GET", notes, "/api/v1/notes?limit=20"),
    )
