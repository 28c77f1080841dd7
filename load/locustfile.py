"""The mix of load/k6/mixed.js for Locust, with the same objectives: load/mixes.json.

    locust --locustfile load/locustfile.py --headless --host http://127.0.0.1:8080 --run-time 30s

RATE (200 requests per second) and CLIENTS (40) come from the environment, and SUMMARY names a file for the result.
Start the platform without rate limits. The exit status is 1 if an objective is missed.
"""

import json
import os
import random
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gevent.pool import Pool
from geventhttpclient import HTTPClient
from locust import FastHttpUser, constant_throughput, events, task
from locust.env import Environment
from locust.runners import Runner

API = "/api/v1"
RATE = float(os.environ.get("RATE", "200"))
CLIENTS = int(os.environ.get("CLIENTS", "40"))
MIX: Mapping[str, int] = json.loads(Path(__file__).with_name("mixes.json").read_text())["mixed"]
# Milliseconds in which 95 % of the requests have to be done.
OBJECTIVES = {"read": 100, "write": 200}
QUANTILES = {"p(5)": 0.05, "p(25)": 0.25, "med": 0.5, "p(75)": 0.75, "p(90)": 0.9, "p(95)": 0.95, "p(99)": 0.99}
NOTES, NOTES_KEPT = 5, 50
WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet", "jetty")
FILE = b"A line of a small text file, as people upload them.\n" * 320


class Results:
    """The milliseconds of each request by its name, and why requests failed."""

    def __init__(self) -> None:
        self.times: dict[tuple[str, str], list[float]] = {}
        self.failures: Counter[str] = Counter()

    def add(self, kind: str, name: str, milliseconds: float, problem: str | None) -> None:
        self.times.setdefault((kind, name), []).append(milliseconds)
        if problem is not None:
            self.failures[f"{name}: {problem}"] += 1

    def of_kind(self, kind: str) -> list[float]:
        return [value for (one, _), values in self.times.items() if one == kind for value in values]

    def document(self, seconds: float) -> dict[str, Any]:
        count = sum(map(len, self.times.values()))
        return {
            "requests": count,
            "rate": count / seconds,
            "failed": self.failures.total(),
            "reasons": dict(self.failures),
            "kinds": {kind: summary(self.of_kind(kind)) for kind in OBJECTIVES},
            "names": {name: {"kind": kind, **summary(values)} for (kind, name), values in self.times.items()},
            "objectives": dict(self.objectives()),
        }

    def objectives(self) -> Iterator[tuple[str, bool]]:
        yield "no request failed", not self.failures
        for kind, limit in OBJECTIVES.items():
            yield f"p(95) of {kind}s < {limit} ms", summary(self.of_kind(kind)).get("p(95)", float("inf")) < limit


def summary(values: list[float]) -> dict[str, float]:
    """Return the quantiles of some times."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0}
    found = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in QUANTILES.items()}
    return {"count": len(ordered), "min": ordered[0], **found, "max": ordered[-1]}


results = Results()
clients: list[dict[str, Any]] = []


def new_account() -> dict[str, str]:
    username = f"locust-{secrets.token_hex(10)}"
    return {"username": username, "email": f"{username}@mail.dev", "password": secrets.token_urlsafe(16)}


def new_note() -> dict[str, Any]:
    first, second, third = random.choices(WORDS, k=3)
    return {"title": f"{first} {second}", "body": f"{second} {third} {'what was written ' * 8}", "tags": [third]}


def file_headers() -> dict[str, str]:
    return {"Content-Type": "text/plain", "X-Filename": "locust.txt", "Idempotency-Key": secrets.token_hex(16)}


def credentials(account: Mapping[str, str]) -> dict[str, str]:
    return {"username_or_email": account["username"], "password": account["password"]}


@events.init.add_listener
def make_clients(environment: Environment, **_: Any) -> None:
    """Make accounts with some notes and a file before the load begins, so that this does not disturb it."""
    target = urlsplit(environment.host or "")
    http = HTTPClient(target.hostname, target.port or 80, concurrency=8)

    def post(path: str, body: Any, headers: Mapping[str, str]) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body)
        response = http.post(f"{API}{path}", body=content, headers={"Content-Type": "application/json", **headers})
        received = response.read()
        if response.status_code not in (200, 201):
            raise RuntimeError(f"{path}: {response.status_code} {received!r}")
        return json.loads(received), response.get("ETag")

    def make(_: int) -> dict[str, Any]:
        account = new_account()
        post("/users/register", account, {})
        tokens, _etag = post("/users/login", credentials(account), {})
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        notes = []
        for _number in range(NOTES):
            key, note = secrets.token_hex(16), new_note()
            stored, etag = post("/notes", note, {**headers, "Idempotency-Key": key})
            notes.append({"id": stored["id"], "etag": etag})
        file, _etag = post("/assets", FILE, {**headers, **file_headers()})
        created = (key, note, stored["id"])
        return {"account": account, "headers": headers, "notes": notes, "files": [file["id"]], "created": created}

    clients.extend(Pool(8).map(make, range(CLIENTS)))
    http.close()


@events.request.add_listener
def record(name: str, response_time: float, exception: Exception | None, context: Mapping[str, str], **_: Any) -> None:
    if "kind" in context:
        results.add(context["kind"], name, response_time, None if exception is None else str(exception))


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Write the summary, and fail if an objective is missed."""
    runner: Runner | None = environment.runner
    # `stats` hold the time from the first to the last request of the load.
    total = environment.stats.total
    seconds = max(1.0, (total.last_request_timestamp or time.time()) - total.start_time)
    document = results.document(seconds)
    missed = [text for text, holds in document["objectives"].items() if not holds]
    if "SUMMARY" in os.environ:
        Path(os.environ["SUMMARY"]).write_text(json.dumps(document, indent=2) + "\n")
    for text in missed:
        print(f"MISSED: {text}")
    if missed or runner is None or not document["requests"]:
        environment.process_exit_code = 1


class Client(FastHttpUser):
    """A person with an account, notes and files."""

    wait_time = constant_throughput(RATE / CLIENTS)
    # One connection, kept alive.
    concurrency = 1
    network_timeout = 30.0
    account: dict[str, str]
    headers: dict[str, str]
    notes: list[dict[str, str]]
    files: list[str]
    created: tuple[str, dict[str, Any], str]

    def on_start(self) -> None:
        vars(self).update(clients.pop())
        # Otherwise all clients would send at the same moments.
        time.sleep(random.uniform(0, CLIENTS / RATE))

    @task
    def send_one(self) -> None:
        getattr(self, random.choices(list(MIX), list(MIX.values()))[0])()

    def exchange(
        self,
        name: str,
        kind: str,
        method: str,
        path: str,
        status: int,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a request whose response has to have a status; return the response, or None."""
        content = {"data": body} if isinstance(body, bytes) else {"json": body}
        with self.client.request(
            method,
            API + path,
            name=name,
            headers={**self.headers, **(headers or {})},
            context={"kind": kind},
            catch_response=True,
            **(content if body is not None else {}),
        ) as response:
            if response.status_code == status:
                response.success()
                return response
            response.failure(f"{response.status_code}")
            return None

    def read(self, name: str, path: str) -> None:
        self.exchange(name, "read", "GET", path, 200)

    def read_profile(self) -> None:
        self.read("read_profile", "/users/profile")

    def read_statistics(self) -> None:
        self.read("read_statistics", "/analytics/stats")

    def read_note(self) -> None:
        self.read("read_note", f"/notes/{random.choice(self.notes)['id']}")

    def list_notes(self) -> None:
        self.read("list_notes", "/notes?limit=20")

    def search_notes(self) -> None:
        self.read("search_notes", f"/notes?limit=20&q={random.choice(WORDS)}")

    def download_file(self) -> None:
        self.read("download_file", f"/assets/{random.choice(self.files)}/content")

    def log_in(self) -> None:
        body = credentials(self.account)
        if response := self.exchange("log_in", "write", "POST", "/users/login", 200, body=body):
            self.headers = {"Authorization": f"Bearer {response.json()['access_token']}"}

    def create_note(self) -> None:
        key, note = secrets.token_hex(16), new_note()
        headers = {"Idempotency-Key": key}
        if response := self.exchange("create_note", "write", "POST", "/notes", 201, body=note, headers=headers):
            identifier = response.json()["id"]
            self.created = (key, note, identifier)
            self.notes = [*self.notes, {"id": identifier, "etag": response.headers["ETag"]}][-NOTES_KEPT:]

    def repeat_note(self) -> None:
        key, note, identifier = self.created
        headers = {"Idempotency-Key": key}
        response = self.exchange("repeat_note", "write", "POST", "/notes", 201, body=note, headers=headers)
        if response is not None and response.json()["id"] != identifier:
            results.failures["repeat_note: another id than before"] += 1

    def change_note(self) -> None:
        note = random.choice(self.notes)
        headers, body = {"If-Match": note["etag"]}, {"tags": [random.choice(WORDS)]}
        path = f"/notes/{note['id']}"
        if response := self.exchange("change_note", "write", "PATCH", path, 200, body=body, headers=headers):
            note["etag"] = response.headers["ETag"]

    def record_event(self) -> None:
        body = {"type": "page.viewed", "properties": {"page": f"/{random.choice(WORDS)}"}}
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        self.exchange("record_event", "write", "POST", "/analytics/events", 202, body=body, headers=headers)

    def upload_file(self) -> None:
        if response := self.exchange("upload_file", "write", "POST", "/assets", 201, body=FILE, headers=file_headers()):
            self.files = [*self.files, response.json()["id"]][-NOTES_KEPT:]
