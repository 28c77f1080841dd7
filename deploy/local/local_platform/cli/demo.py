"""`make demo`: a tour of the running platform. Each step yields claims: the text, what is expected, what is found."""

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from httpx2 import Client, HTTPError, Response
from typer import echo, style

from local_platform.platform.running import read_run_file, running_layout
from local_platform.platform.service_environment import keys_directory
from servicekit.dispatcher.transport import CannotOpen
from servicekit.sealing.client import MessageSealer
from servicekit.sealing.keyring import Keyring

USERS, NOTES, ASSETS, ANALYTICS = "/api/v1/users", "/api/v1/notes", "/api/v1/assets", "/api/v1/analytics"
Claims = Iterator[tuple[str, object, object]]
Step = Callable[["Tour"], Claims]


class Tour:
    """The running platform, used by a visitor with an account and by a stranger. Raises NotRunning."""

    def __init__(self, data_dir: Path) -> None:
        layout = running_layout(data_dir)
        document = read_run_file(layout)
        base = document["gateway"]
        # A proxy of the environment does not lead to this machine.
        self.visitor, self.stranger = (Client(base_url=base, timeout=20, trust_env=False) for _ in range(2))
        self.processes, self.keys, self.user_id, self.token = document["processes"], keys_directory(layout), "", ""

    def urls(self, service: str) -> list[str]:
        return [process["url"] for process in self.processes if process["service"] == service]

    def refusals(self, route: str) -> float:
        """Count the requests to a route that the user service itself has refused with 401."""
        lines = [line for url in self.urls("user") for line in self.stranger.get(f"{url}/metrics").text.splitlines()]
        parts = ("service_http_request_duration_seconds_count{", f'route="{route}"', 'status="401"')
        return sum(float(line.split()[-1]) for line in lines if all(part in line for part in parts))

    def a_new_account(self) -> Claims:
        name, password = f"demo-{secrets.token_hex(6)}", secrets.token_urlsafe(24)
        account = {"username": name, "email": f"{name}@example.com", "password": password}
        created = self.stranger.post(f"{USERS}/register", json=account)
        yield "POST /users/register creates an account", 201, created
        yield "the response does not contain the password", False, password in created.text
        login = self.stranger.post(f"{USERS}/login", json={"username_or_email": name.upper(), "password": password})
        yield "POST /users/login returns tokens; the case of the name does not matter", 200, login
        self.user_id, self.token = created.json()["id"], login.json()["access_token"]
        self.visitor.headers["Authorization"] = f"Bearer {self.token}"

    def a_sealed_message_and_its_replay(self) -> Claims:
        sealer, path = MessageSealer("user", Keyring("user", self.keys / "user"), "fernet"), f"{ANALYTICS}/events"
        event = json.dumps({"type": "demo.sealed", "user_id": self.user_id}).encode()
        inside = {"content-type": "application/json"}
        message, other = (sealer.seal_request("analytics", "POST", path, inside, body) for body in (event, b"{}"))
        echo(f"   {event.decode()}\n   is sent as {message.body[:48].decode()}… ({len(message.body)} bytes)")
        yield "it cannot be read on the way", False, b"demo.sealed" in message.body
        first, *_, last = 2 * self.urls("analytics")
        sends = (message, first), (message, first), (message, last), (other, f"{first}/elsewhere")
        sent = [self.stranger.post(url + path, headers=dict(m.headers), content=m.body) for m, url in sends]
        yield "the analytics service accepts it from the user service", 202, sent[0]
        parts = sent[0].status_code, sent[0].headers, sent[0].content
        opened = [sealer.open_response("analytics", message, *parts).body]
        yield "the response is sealed, too", (True, False), (b"accepted" in opened[0], b"accepted" in sent[0].content)
        with suppress(CannotOpen):
            opened.append(sealer.open_response("analytics", other, *parts).body)
        yield "it opens as the response to this request only", 1, len(opened)
        yield "the same message is refused a second time, by every replica", {401}, {r.status_code for r in sent[1:3]}
        yield "a message that was sealed for another path is refused", 401, sent[3]

    def events_and_statistics(self) -> Claims:
        kind, now = f"demo.{secrets.token_hex(4)}", datetime.now(UTC)
        times = [(now + timedelta(minutes=minute)).isoformat() for minute in range(-59, 2)]
        events = [{"type": kind, "occurred_at": at} for i, at in enumerate(times[:-1]) for _ in range(1 + i % 8)]
        headers, batch = {"Idempotency-Key": kind}, {"events": events}
        first, again = (self.visitor.post(f"{ANALYTICS}/events", headers=headers, json=batch) for _ in range(2))
        yield f"POST /analytics/events accepts {len(events)} events at once", 202, first
        yield "sent again with its Idempotency-Key, the batch gets the same response", first.text, again.text
        query = {"type": kind, "interval": "minute", "since": times[0], "until": times[-1]}
        series = self.visitor.get(f"{ANALYTICS}/stats/series", params=query)
        yield "GET /analytics/stats/series counts them per minute", 200, series
        yield "each of them once, at once", len(events), sum(point["count"] for point in series.json()["items"])
        stats = self.visitor.get(f"{ANALYTICS}/stats").json()
        yield "the user service counts the accounts, by a sealed call", None, stats["user_count_reason"]

    def a_note_private_and_public(self) -> Claims:
        note = {"title": "A note from the tour", "body": f"Written on {secrets.token_hex(8)}.", "tags": ["demo"]}
        yield "POST /notes creates a note", 201, (created := self.visitor.post(NOTES, json=note))
        path, edit = created.headers["Location"], {"If-Match": created.headers["ETag"]}
        yield "a stranger does not learn that it exists", 401, self.stranger.get(path)
        yield "its first version can be changed", 200, self.visitor.patch(path, headers=edit, json={"tags": []})
        yield "but only once: the version is gone", 412, self.visitor.patch(path, headers=edit, json={"title": "Late"})
        yield "POST /notes/{id}/publish makes it public", 200, (published := self.visitor.post(f"{path}/publish"))
        yield "a stranger can read it", 200, (page := self.stranger.get(url := published.json()["url"]))
        yield "as it was written", note["body"], page.json()["body"]
        cached = any(self.stranger.get(url).headers.get("x-cache") == "HIT" for _ in range(5))
        yield "one of the next responses comes from the gateway's cache", True, cached

    def a_file_and_a_link_to_it(self) -> Claims:
        content = f"A small file, {secrets.token_hex(8)}.\n".encode() * 40
        headers = {"Content-Type": "text/plain", "X-Filename": "tour.txt"}
        yield "POST /assets stores a file", 201, (stored := self.visitor.post(ASSETS, headers=headers, content=content))
        yield "and returns the digest of its content", sha256(content).hexdigest(), stored.json()["sha256"]
        path = f"{ASSETS}/{stored.json()['id']}"
        yield "a stranger cannot read it", 401, self.stranger.get(f"{path}/content")
        yield "POST /assets/{id}/link returns a signed link", 200, (link := self.visitor.post(f"{path}/link"))
        yield "with the link, a stranger can read it", 200, (fetched := self.stranger.get(url := link.json()["url"]))
        yield "byte for byte", content, fetched.content
        part = self.stranger.get(url, headers={"Range": "bytes=2-6"})
        yield "or a part of it", (206, content[2:7]), (part.status_code, part.content)
        address, signature = url.split("signature=")
        forged = f"{address}signature={'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
        yield "but not with a forged link", 4, self.stranger.get(forged).status_code // 100

    def a_forged_token(self) -> Claims:
        header, payload, signature = self.token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "==")) | {"roles": ["admin"]}
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        before = self.refusals(USERS)
        refused = self.stranger.get(USERS, headers={"Authorization": f"Bearer {header}.{payload}.{signature}"})
        yield "GET /users is refused with the role admin written into the token", 401, refused
        yield "with a problem document", "application/problem+json", refused.headers["content-type"]
        yield "by the gateway: no replica of the user service has seen it", before, self.refusals(USERS)
        yield "with the genuine token, the service refuses what only an admin may do", 403, self.visitor.get(USERS)

    def the_end_of_the_account(self) -> Claims:
        before = self.refusals(profile := f"{USERS}/profile")
        yield "DELETE /users/profile deletes the account", 204, self.visitor.delete(profile)
        deadline = time.monotonic() + 1
        while (refused := self.visitor.get(profile)).status_code != 401 and time.monotonic() < deadline:
            time.sleep(0.05)
        yield "within a second its token is refused, minutes before it expires", 401, refused
        yield "by the service: the signature is good, so the gateway let it pass", True, self.refusals(profile) > before


STEPS: Mapping[Step, str] = {
    Tour.a_new_account: "user",
    Tour.a_sealed_message_and_its_replay: "user analytics",
    Tour.events_and_statistics: "analytics",
    Tour.a_note_private_and_public: "notes",
    Tour.a_file_and_a_link_to_it: "assets",
    Tour.a_forged_token: "user",
    Tour.the_end_of_the_account: "user",
}


def take_tour(data_dir: Path, steps: Mapping[Step, str] = STEPS) -> int:
    """Take the steps whose services run; return 0 if every claim holds, else 1. Raises NotRunning."""
    tour = Tour(data_dir)
    possible = [step for step, services in steps.items() if all(map(tour.urls, services.split()))]
    for number, step in enumerate(possible, start=1):
        echo(f"\n{number}  {style(step.__name__.replace('_', ' ').capitalize(), bold=True)}")
        try:
            for claim, expected, found in step(tour):
                actual = found.status_code if isinstance(found, Response) else found
                if actual != expected:
                    echo(f"   {style('✗', fg='red')} {claim}\n     found: {actual}, not {expected}")
                    echo(getattr(found, "text", "")[:300] + "\nThe tour ends here: this is not as claimed.")
                    return 1
                echo(f"   {style('✓', fg='green')} {claim}")
        except HTTPError as error:
            echo(f"   {style('✗', fg='red')} {error!r}\nThe tour ends here: is the platform still running?")
            return 1
    echo(style(f"\n{len(possible)} steps, everything as claimed.", fg="green", bold=True))
    # The account of the tour is gone, and its pages with it; this link lives.
    echo(f"The APIs of all services: {tour.visitor.base_url.join('/docs')}")
    return 0
