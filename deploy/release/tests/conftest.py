"""Two fakes: an orchestrator in memory for a release's decisions, and a docker client for docker compose."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import orjson
import pytest

from deploy.release.tests.fake_cluster import FakeCluster, deployment
from release_tool.errors import CommandFailed, NotHealthy, Refused, StepFailed
from release_tool.orchestrator import CURRENT, PREVIOUS, Commands, Container, canary_of
from release_tool.programs import Options

CATALOG = """
[user]
prefix = "users"
development_port = 8002
store = "postgres"
well_known = ["/.well-known/jwks.json"]

[notes]
prefix = "notes"
development_port = 8003
store = "mongo"
keeps_files = true
"""

Event = tuple[str, ...]


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


@dataclass
class FakeOrchestrator:
    """Two replicas of each of two services, in memory. `before` and `after` see every change, as `events` does."""

    commands: Commands = field(default_factory=Commands)
    drains: bool = False

    containers: dict[str, Container] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    shares: dict[str, int] = field(default_factory=dict)
    sick_images: set[str] = field(default_factory=set)
    log: Callable[["FakeOrchestrator"], list[dict[str, Any]]] = lambda _orchestrator: []
    failing: set[str] = field(default_factory=set)
    before: Callable[[Event], None] = lambda _event: None
    after: Callable[[Event], None] = lambda _event: None
    events: list[Event] = field(default_factory=list)
    runs: bool = True
    _count: int = 0

    def start(self, name: str, image: str) -> None:
        self._count += 1
        health = "unhealthy" if image in self.sick_images else "healthy"
        container = Container(f"id{self._count}", f"{name}-{self._count}", name, image, "running", health, 0, 0, now())
        self.containers[container.id] = container

    def change(self, container: Container, **fields: Any) -> None:
        self.containers[container.id] = dataclasses.replace(container, **fields)

    def stop_everything(self) -> None:
        self.runs = False

    def images_of(self, name: str) -> list[str]:
        return [replica.image for replica in self.replicas(name)]

    def prepare_image(self, service: str, tag: str | None) -> tuple[str, str]:
        tag = tag or "built"
        return tag, self.tags.setdefault(f"{service}:{tag}", tag)

    def image_in_service(self, service: str) -> str:
        return self.tags[f"{service}:{CURRENT}"]

    def put_in_service(self, service: str, image: str, former: str | None = None) -> None:
        if former is not None:
            self._event("tag", service, PREVIOUS, change=lambda: self._tag(service, PREVIOUS, former))
        self._event("tag", service, CURRENT, change=lambda: self._tag(service, CURRENT, image))

    def replicas(self, name: str) -> list[Container]:
        return [container for container in self.containers.values() if container.service == name]

    def wait_healthy(self, name: str) -> list[Container]:
        found = self.replicas(name)
        if not found:
            raise NotHealthy(f"no container of {name} exists")
        for replica in found:
            if not replica.healthy:
                raise NotHealthy(f"{replica.name} is {replica.state}", "its log")
        return found

    def migrate(self, service: str, image: str) -> None:
        self._event("migrate", service, image)

    def start_canary(self, service: str, image: str, count: int) -> None:
        while len(self.replicas(canary_of(service))) < count:
            self._start(canary_of(service), image)

    def remove_canary(self, service: str) -> None:
        for replica in self.replicas(canary_of(service)):
            self._remove(replica)

    def replace(self, service: str, count: int, is_outdated: Callable[[Container], bool]) -> None:
        for replica in self.replicas(service):
            if not replica.healthy:
                self._remove(replica)
        while outdated := [replica for replica in self.replicas(service) if is_outdated(replica)]:
            if len(self.replicas(service)) <= count:
                self._start(service, self.image_in_service(service))
            self.wait_healthy(service)
            self._remove(outdated[0])
        while len(self.replicas(service)) < count:
            self._start(service, self.image_in_service(service))
        for replica in self.wait_healthy(service)[count:]:
            self._remove(replica)

    def weights(self) -> Mapping[str, int]:
        if not self.runs:
            raise Refused("gateway does not run")
        return dict(self.shares)

    def shift(self, service: str, weight: int) -> None:
        self._event("shift", service, str(weight), change=lambda: self.shares.update({service: weight}))

    def end_shift(self, service: str) -> None:
        self._event("shift", service, "off", change=lambda: self.shares.pop(service, None))

    def check_canary(self, service: str) -> None:
        self._event("check", service)
        if not all(replica.healthy for replica in self.replicas(canary_of(service))):
            raise StepFailed("a replica of v2 responds with 500")

    def access_log(self, since: float, until: float | None = None) -> list[str]:
        return [json.dumps(entry) for entry in self.log(self)]

    def address(self) -> str:
        return "http://127.0.0.1:8080"

    def _tag(self, service: str, tag: str, image: str) -> None:
        self.tags[f"{service}:{tag}"] = image

    def _start(self, name: str, image: str) -> None:
        self._event("start", name, change=lambda: self.start(name, image))

    def _remove(self, replica: Container) -> None:
        self._event("remove", replica.service, replica.id, change=lambda: self.containers.pop(replica.id))

    def _event(self, *words: str, change: Callable[[], object] = lambda: None) -> None:
        self.before(words)
        if words[0] in self.failing:
            raise CommandFailed(f"{words[0]} failed")
        change()
        self.events.append(words)
        self.after(words)


@dataclass
class FakeDocker:
    """Understands the docker commands that the tool gives, and no other. `before` and `after` see each of them."""

    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    sick_images: set[str] = field(default_factory=set)
    volumes: set[str] = field(default_factory=set)
    before: Callable[[Event], None] = lambda _words: None
    after: Callable[[Event], None] = lambda _words: None
    commands: list[Event] = field(default_factory=list)
    # Those of the last command.
    variables: Mapping[str, str] = field(default_factory=dict)
    _count: int = 0

    def run(self, *words: str, **options: Unpack[Options]) -> str:
        self.before(words)
        self.commands.append(words)
        self.variables = options.get("environment", {})
        if words[0] == "compose" and words[1] == "--file":
            words = words[3:]
        name = next(word for word in words if not word.startswith("--") and word != "*")
        output: str = getattr(self, f"_{name}")(*words[1:])
        self.after(words)
        return output

    def start(self, service: str) -> None:
        self._count += 1
        image = self.tags[f"baseplate/{service.removesuffix('-v2')}:{'next' if service.endswith('-v2') else 'current'}"]
        self.containers[f"id{self._count}"] = {
            "Id": f"id{self._count}",
            "Name": f"/{service}-{self._count}",
            "Image": image,
            "Created": now(),
            "Config": {"Labels": {"com.docker.compose.service": service}},
            "State": {
                "Status": "running",
                "ExitCode": 0,
                "Health": {"Status": "unhealthy" if image in self.sick_images else "healthy"},
            },
            "RestartCount": 0,
        }

    def stop_everything(self) -> None:
        self.containers.clear()

    def of(self, service: str) -> list[dict[str, Any]]:
        return [c for c in self.containers.values() if c["Config"]["Labels"]["com.docker.compose.service"] == service]

    def images_of(self, service: str) -> list[str]:
        return [container["Image"] for container in self.of(service)]

    def _version(self, *_words: str) -> str:
        return "28"

    def _compose(self, *_words: str) -> str:
        return "2.40"

    def _config(self, *_words: str) -> str:
        images = {
            name: {"image": f"baseplate/{name}:current", "restart": "unless-stopped"} for name in ("user", "notes")
        }
        gateway = {"ports": [{"host_ip": "127.0.0.1", "published": "8080"}], "restart": "unless-stopped"}
        return json.dumps({"name": "baseplate", "services": {**images, "gateway": gateway}})

    def _ps(self, *_words: str) -> str:
        return "\n".join(self.containers)

    def _inspect(self, *words: str) -> str:
        # Tests that kill a release at each command ask tens of thousands of times, so this is orjson.
        return orjson.dumps([self.containers[word] for word in words if word in self.containers]).decode()

    def _volume(self, *words: str) -> str:
        name = words[-1].removeprefix("label=com.docker.compose.volume=")
        return f"baseplate_{name}\n" if name in self.volumes else ""

    def _image(self, *words: str) -> str:
        if words[-2] == "{{.Created}}":
            return "2026-01-01T00:00:00Z"
        if words[-1] not in self.tags:
            raise CommandFailed("no such image")
        return self.tags[words[-1]]

    def _build(self, *words: str) -> str:
        if "--tag" in words:
            self.tags[words[words.index("--tag") + 1]] = "built"
        return ""

    def _tag(self, source: str, target: str) -> str:
        self.tags[target] = source
        return ""

    def _run(self, *_words: str) -> str:
        return ""

    def _up(self, *words: str) -> str:
        service, count = next(word for word in words if word.startswith("--scale"))[8:].split("=")
        while len(self.of(service)) < int(count):
            self.start(service)
        return ""

    def _stop(self, *words: str) -> str:
        for word in words[2:]:
            self.containers[word]["State"]["Status"] = "exited"
        return ""

    def _rm(self, *words: str) -> str:
        for word in words[2:]:
            self.containers.pop(word, None)
        return ""

    def _top(self, *_words: str) -> str:
        return "nginx: worker process"

    def _logs(self, *words: str) -> str:
        return "the log of a replica" if "--tail" in words else ""

    def _exec(self, *words: str) -> str:
        match words[2:]:
            case ("traffic",):
                return json.dumps({service: {"weight": weight} for service, weight in self.weights.items()})
            case ("traffic", "check", service):
                if any(container["State"]["Health"]["Status"] != "healthy" for container in self.of(f"{service}-v2")):
                    raise CommandFailed("a replica of v2 responds with 500")
            case ("traffic", service, "off"):
                self.weights.pop(service)
            case ("traffic", service, weight):
                self.weights[service] = int(weight)
            case other:
                raise AssertionError(other)
        return ""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository's root: as much of it as the tool reads."""
    monkeypatch.delenv("SECRETS_DIR", raising=False)
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "services.toml").write_text(CATALOG)
    return tmp_path


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fakes change at once, so no time has to pass."""
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)


@pytest.fixture
def orchestrator(no_waiting: None) -> FakeOrchestrator:
    """A running platform in memory."""
    tags = {"user:current": "old", "notes:current": "old", "notes:2": "new", "user:2": "new"}
    orchestrator = FakeOrchestrator(tags=tags)
    for service in ("user", "user", "notes", "notes"):
        orchestrator.start(service, "old")
    return orchestrator


@pytest.fixture
def docker(no_waiting: None) -> FakeDocker:
    """A running platform in containers: two replicas of each service and a gateway."""
    docker = FakeDocker(tags={"baseplate/user:current": "old", "baseplate/notes:current": "old"})
    docker.tags["baseplate/gateway:current"] = "gateway"
    docker.tags["baseplate/notes:2"] = "new"
    for service in ("gateway", "user", "user", "notes", "notes"):
        docker.start(service)
    return docker


@pytest.fixture
def cluster(no_waiting: None) -> FakeCluster:
    """A running platform in a cluster: two replicas of each service and two gateways."""
    cluster = FakeCluster()
    cluster.add(deployment("gateway", "gateway", "baseplate/gateway:old", 2))
    for service in ("user", "notes"):
        cluster.add(deployment(service, service, f"baseplate/{service}:old", 2, **{"baseplate/track": "v1"}))
    return cluster
