"""A docker engine of a few lines: containers that start at once, and a gateway that knows shares of traffic."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import pytest

from release_tool import compose_orchestrator, release, replacement, rollback
from release_tool.errors import CommandFailed
from release_tool.runner import Options

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


@dataclass
class FakeEngine:
    """Understands the commands that the tool gives, and no other. `before` and `after` see each of them."""

    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    sick_images: set[str] = field(default_factory=set)
    volumes: set[str] = field(default_factory=set)
    log: Callable[["FakeEngine"], list[dict[str, Any]]] = lambda _engine: []
    migration_fails: bool = False
    before: Callable[[tuple[str, ...]], None] = lambda _words: None
    after: Callable[[tuple[str, ...]], None] = lambda _words: None
    commands: list[tuple[str, ...]] = field(default_factory=list)
    _count: int = 0

    def docker(self, *words: str, **_options: Unpack[Options]) -> str:
        self.before(words)
        self.commands.append(words)
        if words[0] == "compose" and words[1] == "--file":
            words = words[3:]
        name = words[2] if words[:2] == ("--profile", "*") else words[0]
        answer: str = getattr(self, f"_{name}")(*words[1:])
        self.after(words)
        return answer

    def start(self, service: str) -> None:
        self._count += 1
        image = self.tags[f"baseplate/{service.removesuffix('-v2')}:{'next' if service.endswith('-v2') else 'current'}"]
        sick = image in self.sick_images
        self.containers[f"id{self._count}"] = {
            "Id": f"id{self._count}",
            "Name": f"/{service}-{self._count}",
            "Image": image,
            "Created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z"),
            "Config": {"Labels": {"com.docker.compose.service": service}},
            "State": {
                "Status": "running",
                "ExitCode": 0,
                "Health": {"Status": "unhealthy" if sick else "healthy"},
            },
            "RestartCount": 0,
        }

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
        gateway = {"ports": [{"host_ip": "127.0.0.1", "published": "8080"}]}
        return json.dumps({"name": "baseplate", "services": {**images, "gateway": gateway}})

    def _ps(self, *_words: str) -> str:
        return "\n".join(self.containers)

    def _inspect(self, *words: str) -> str:
        return json.dumps([self.containers[word] for word in words if word in self.containers])

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
        self.tags[words[words.index("--tag") + 1]] = "built"
        return ""

    def _tag(self, source: str, target: str) -> str:
        self.tags[target] = source
        return ""

    def _run(self, *_words: str) -> str:
        if self.migration_fails:
            raise CommandFailed("the migration failed")
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
        return "the log of a replica" if "--tail" in words else "\n".join(map(json.dumps, self.log(self)))

    def _exec(self, *words: str) -> str:
        match words[2:]:
            case ("traffic",):
                return json.dumps({service: {"weight": weight} for service, weight in self.weights.items()})
            case ("traffic", "check", service):
                if any(container["State"]["Health"]["Status"] != "healthy" for container in self.of(f"{service}-v2")):
                    raise CommandFailed("a replica of v2 answers 500")
            case ("traffic", service, "off"):
                self.weights.pop(service)
            case ("traffic", service, weight):
                self.weights[service] = int(weight)
            case other:
                raise AssertionError(other)
        return ""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository's root: as much of it as the tool reads."""
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "services.toml").write_text(CATALOG)
    return tmp_path


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """A platform that runs: two replicas of each service and a gateway. Nothing has to be waited for in it."""
    monkeypatch.delenv("SECRETS_DIR", raising=False)
    for module in (release, replacement, rollback, compose_orchestrator):
        monkeypatch.setattr(module.time, "sleep", lambda _seconds: None)
    engine = FakeEngine(tags={"baseplate/user:current": "old", "baseplate/notes:current": "old"})
    engine.tags["baseplate/gateway:current"] = "gateway"
    engine.tags["baseplate/notes:2"] = "new"
    for service in ("gateway", "user", "user", "notes", "notes"):
        engine.start(service)
    return engine
