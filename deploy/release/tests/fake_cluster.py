"""A cluster in memory, for kubectl commands. Its controllers act at once."""

import copy
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Unpack

import orjson

from release_tool.errors import CommandFailed
from release_tool.programs import Options

KINDS = {"hpa": "horizontalpodautoscaler"}
# How many former ReplicaSets a Deployment keeps: its `revisionHistoryLimit`.
FORMER_REPLICA_SETS = 2


def deployment(name: str, component: str, image: str, replicas: int, **labels: str) -> dict[str, Any]:
    """Return a Deployment as the chart renders it."""
    own = {"app.kubernetes.io/instance": "baseplate", "app.kubernetes.io/component": component, **labels}
    container = {"name": component, "image": image}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": own, "annotations": {"baseplate/values-image": image}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": own},
            "template": {"metadata": {"labels": dict(own)}, "spec": {"containers": [container]}},
        },
        "status": {},
    }


@dataclass
class FakeCluster:
    """Understands the kubectl commands that the tool gives, and no other. `before` and `after` see each of them."""

    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    sick_images: set[str] = field(default_factory=set)
    gateways: dict[str, tuple[int, str]] = field(default_factory=dict)
    job_status: dict[str, Any] = field(default_factory=lambda: {"conditions": [{"type": "Complete", "status": "True"}]})
    before: Callable[[tuple[str, ...]], None] = lambda _words: None
    after: Callable[[tuple[str, ...]], None] = lambda _words: None
    commands: list[tuple[str, ...]] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def run(self, *words: str, **options: Unpack[Options]) -> str:
        words = words[2:] if words[0] == "--namespace" else words
        self.before(words)
        self.commands.append(words)
        named = [word for word in words[1:] if not word.startswith("--")]
        flags = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
        output: str = getattr(self, f"_{words[0]}")(named, flags, options.get("given", ""))
        self.after(words)
        return output

    def add(self, document: dict[str, Any]) -> None:
        """Create or replace an object, and let the controllers act."""
        kind, metadata = document["kind"].lower(), document["metadata"]
        before = self.objects.get((kind, metadata["name"]), {"metadata": {}})
        number = next(self._numbers)
        fixed = {
            key: before["metadata"][key]
            for key in ("uid", "creationTimestamp", "generation")
            if key in before["metadata"]
        }
        document = copy.deepcopy(document)
        document["metadata"] = {
            "uid": f"uid{number}",
            "creationTimestamp": f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z",
            "generation": 1,
            **metadata,
            **fixed,
            "resourceVersion": str(number),
        }
        self.objects[kind, metadata["name"]] = document
        if kind == "deployment":
            self._control(document)

    def stop_everything(self) -> None:
        self.objects.clear()

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Return the pods of a Deployment."""
        return [one for (kind, _), one in self.objects.items() if kind == "pod" and one["deployment"] == name]

    def images_of(self, name: str) -> list[str]:
        return [pod["spec"]["containers"][0]["image"] for pod in self.pods(name)]

    def _control(self, document: dict[str, Any]) -> None:
        """Let pods follow their Deployment: new ones first, and old ones end only when those are ready."""
        name, spec, metadata = document["metadata"]["name"], document["spec"], document["metadata"]
        template = json.dumps(spec["template"])
        sets = [one for (kind, _), one in self.objects.items() if kind == "replicaset" and one["deployment"] == name]
        newest = next((one for one in sets if one["template"] == template), None)
        revision = str(
            1
            + max((int(one["metadata"]["annotations"]["deployment.kubernetes.io/revision"]) for one in sets), default=0)
        )
        if newest is None:
            hash_ = f"hash{next(self._numbers)}"
            newest = {
                "kind": "ReplicaSet",
                "deployment": name,
                "template": template,
                "metadata": {
                    "name": f"{name}-{hash_}",
                    "labels": {**spec["template"]["metadata"]["labels"], "pod-template-hash": hash_},
                    "annotations": {},
                    "ownerReferences": [{"uid": metadata["uid"]}],
                },
            }
            self.add(newest)
        newest = self.objects["replicaset", newest["metadata"]["name"]]
        newest["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = revision
        metadata.setdefault("annotations", {})["deployment.kubernetes.io/revision"] = revision
        hash_ = newest["metadata"]["labels"]["pod-template-hash"]
        new = [pod for pod in self.pods(name) if pod["metadata"]["labels"]["pod-template-hash"] == hash_]
        old = [pod for pod in self.pods(name) if pod not in new]
        for _ in range(spec["replicas"] - len(new)):
            if not all(map(_ready, new)):
                break
            new.append(self._start(name, spec["template"], hash_))
        if all(map(_ready, new)):
            for pod in (*old, *new[spec["replicas"] :]):
                self._remove(pod)
            new, old = new[: spec["replicas"]], []
            for former in [one for one in sets if one is not newest][:-FORMER_REPLICA_SETS]:
                self.objects.pop(("replicaset", former["metadata"]["name"]))
        document["status"] = {
            "observedGeneration": metadata["generation"],
            "updatedReplicas": len(new),
            "replicas": len(new) + len(old),
            "availableReplicas": sum(map(_ready, (*new, *old))),
        }

    def _start(self, name: str, template: dict[str, Any], hash_: str) -> dict[str, Any]:
        number = next(self._numbers)
        ready = template["spec"]["containers"][0]["image"] not in self.sick_images
        waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "it ends"}}
        self.add(
            {
                "kind": "Pod",
                "deployment": name,
                "metadata": {
                    "name": f"{name}-{number}",
                    "labels": {**template["metadata"]["labels"], "pod-template-hash": hash_},
                },
                "spec": copy.deepcopy(template["spec"]),
                "status": {
                    "phase": "Running",
                    "podIP": f"10.0.0.{number}",
                    "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": ""}],
                    "containerStatuses": [
                        {
                            "name": template["spec"]["containers"][0]["name"],
                            "restartCount": 0,
                            "state": {"running": {"startedAt": "2026"}} if ready else waiting,
                        }
                    ],
                },
            }
        )
        return self.objects["pod", f"{name}-{number}"]

    def _remove(self, pod: dict[str, Any]) -> None:
        self.objects.pop(("pod", pod["metadata"]["name"]), None)
        self.gateways.pop(pod["metadata"]["name"], None)

    def _get(self, named: list[str], flags: dict[str, str], _given: str) -> str:
        # Tests that kill a release at each command ask tens of thousands of times, so this is orjson.
        kind = KINDS.get(named[0], named[0])
        if len(named) == 2:
            found = self.objects.get((kind, named[1]))
            return orjson.dumps(found).decode() if found else ""
        wanted = dict(pair.split("=") for pair in flags.get("selector", "").split(",") if pair)
        items = [
            one
            for (its_kind, _), one in self.objects.items()
            if its_kind + "s" == kind and wanted.items() <= one["metadata"].get("labels", {}).items()
        ]
        return orjson.dumps({"items": items}).decode()

    def _apply(self, _named: list[str], _flags: dict[str, str], given: str) -> str:
        self.add(json.loads(given))
        return ""

    def _create(self, named: list[str], flags: dict[str, str], given: str) -> str:
        if named[:1] == ["job"]:
            container = {"name": "migrate", "image": "of the template"}
            return json.dumps(
                {
                    "kind": "Job",
                    "metadata": {"name": named[1]},
                    "spec": {"template": {"spec": {"containers": [container]}}},
                }
            )
        document = json.loads(given)
        if (document["kind"].lower(), document["metadata"]["name"]) in self.objects:
            raise CommandFailed("AlreadyExists")
        if document["kind"] == "Job":
            document["status"] = self.job_status
        self.add(document)
        return json.dumps(self.objects[document["kind"].lower(), document["metadata"]["name"]])

    def _replace(self, _named: list[str], _flags: dict[str, str], given: str) -> str:
        document = json.loads(given)
        place = document["kind"].lower(), document["metadata"]["name"]
        if self.objects[place]["metadata"]["resourceVersion"] != document["metadata"]["resourceVersion"]:
            raise CommandFailed("Conflict")
        self.add(document)
        return json.dumps(self.objects[place])

    def _patch(self, named: list[str], flags: dict[str, str], _given: str) -> str:
        document = self.objects[KINDS.get(named[0], named[0]), named[1]]
        change = json.loads(flags["patch"])
        if flags["type"] == "json":
            for one in change:
                *path, last = one["path"].strip("/").split("/")
                part = document
                for step in path:
                    part = part[step]
                part[last] = one["value"]
        else:
            _merge(document, change)
        self.add(document)
        return ""

    def _scale(self, named: list[str], flags: dict[str, str], _given: str) -> str:
        document = self.objects["deployment", named[1]]
        document["spec"]["replicas"] = int(flags["replicas"])
        self._control(document)
        return ""

    def _delete(self, named: list[str], _flags: dict[str, str], _given: str) -> str:
        for name in named[1:]:
            self.objects.pop((named[0], name), None)
            if named[0] == "deployment":
                for pod in self.pods(name):
                    self._remove(pod)
        if named[0] == "pod":
            for (kind, _), document in list(self.objects.items()):
                if kind == "deployment":
                    self._control(document)
        return ""

    def _build(self, _named: list[str], _flags: dict[str, str], _given: str) -> str:
        return ""

    _push = _version = _build

    def _logs(self, named: list[str], flags: dict[str, str], _given: str) -> str:
        return "" if "since-time" in flags else "the log of a replica"

    def _exec(self, named: list[str], _flags: dict[str, str], _given: str) -> str:
        pod, words = named[0], named[1:]
        match words:
            case ["traffic", "apply", serial, state]:
                if int(serial) > self.gateways.get(pod, (0, ""))[0]:
                    self.gateways[pod] = int(serial), state
            case ["traffic", "check", service]:
                if not all(map(_ready, self.pods(f"{service}-v2"))):
                    raise CommandFailed("a replica of v2 responds with 500")
            case ["traffic", "drain"]:
                pass
            case ["python3", "-c", _, *services]:
                if missing := [name for name in services if not any(map(_ready, self.pods(name)))]:
                    raise CommandFailed(f"{missing[0]}: Name or service not known")
            case ["sh", "-c", query]:
                name = query.split("getent ahostsv4 ")[1].split()[0]
                return "\n".join(f"{pod['status']['podIP']} STREAM" for pod in self.pods(name))
            case _:
                raise AssertionError(words)
        return ""


def _ready(pod: dict[str, Any]) -> bool:
    return bool(pod["status"]["conditions"][0]["status"] == "True")


def _merge(document: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, dict):
            _merge(document.setdefault(key, {}), value)
        elif value is None:
            document.pop(key, None)
        else:
            document[key] = value
