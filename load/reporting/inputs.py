"""What `load/reports/` holds, and which command makes what is missing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

Document = Mapping[str, Any]
OBJECTIVE_SCENARIOS = ("k6-auth", "k6-notes", "k6-assets-upload", "k6-mixed", "locust")
LOAD_SECTIONS = {
    **dict.fromkeys((*OBJECTIVE_SCENARIOS, "limits"), "load"),
    **{"replicas": "scaling", "rows": "scaling", "timeline": "changes"},
}
# Scenarios of `make evidence` whose time line the page shows.
TIME_LINES = ("kill", "release")


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that a section of the page cannot show, and the command that makes it."""

    section: str
    what: str
    command: str
    reason: str = "has not been measured"


@dataclass
class Inputs:
    """All documents that could be read."""

    benches: list[Document] = field(default_factory=list)
    load: dict[str, Document] = field(default_factory=dict)
    evidence: list[Document] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)

    @property
    def results(self) -> list[Document]:
        """All results of the benches, each with the name of its bench."""
        return [{**result, "bench": bench["bench"]} for bench in self.benches for result in bench["results"]]

    @property
    def scenes(self) -> list[Document]:
        """The scenarios that have a time line: those of `make run`, then those of the production stack."""
        local = [{**scene, "where": "make run"} for scene in self.load.get("timeline", {}).get("scenes", [])]
        production = [{**row, "where": "make prod"} for row in self.evidence if row["scenario"] in TIME_LINES]
        return [scene for scene in [*local, *production] if scene.get("timeline")]


def read(folder: Path) -> Inputs:
    """Read a folder. A file that is absent or damaged becomes an entry of `missing`, never an exception."""
    inputs = Inputs()
    for path in sorted(folder.glob("*.json")):
        if path.name.startswith("load-") or path.name in ("bench.json", "evidence.json"):
            continue
        missing = Missing("aims", path.name, f"make bench ONLY={path.stem}")
        if document := _read(path, inputs, missing, ("bench", "subjects", "results")):
            inputs.benches.append(document)
    if not inputs.benches:
        inputs.missing.append(Missing("aims", "the ratios of the benchmarks", "make bench"))
    if not any(is_peers(bench) for bench in inputs.benches):
        inputs.missing.append(Missing("peers", "the same work by peers", "make bench ONLY=peers"))
    for name, section in LOAD_SECTIONS.items():
        path, missing = folder / f"load-{name}.json", Missing(section, name, f"make load ONLY={name}")
        if not path.exists():
            inputs.missing.append(missing)
        elif document := _read(path, inputs, missing, ("scenario", "machine")):
            inputs.load[name] = document
    _read_evidence(folder / "evidence.json", inputs)
    return inputs


def is_peers(bench: Document) -> bool:
    return str(bench["bench"]).startswith("peers")


def _read_evidence(path: Path, inputs: Inputs) -> None:
    command = 'make evidence ARGS="--json load/reports/evidence.json"'
    missing = Missing("changes", "a release on the production stack", command)
    if not path.exists():
        inputs.missing.append(missing)
        return
    try:
        rows: Sequence[Document] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list):
            raise TypeError("it is not a list")
        inputs.evidence = [row for row in rows if isinstance(row["scenario"], str)]
    except (ValueError, KeyError, TypeError) as error:
        inputs.missing.append(replace(missing, what=path.name, reason=f"cannot be read ({error})"))


def _read(path: Path, inputs: Inputs, missing: Missing, keys: Sequence[str]) -> Document | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        inputs.missing.append(replace(missing, reason=f"cannot be read ({error})"))
        return None
    if not isinstance(document, dict) or (absent := [key for key in keys if key not in document]):
        reason = f"has no {', '.join(absent)}" if isinstance(document, dict) else "is not a JSON object"
        inputs.missing.append(replace(missing, reason=reason))
        return None
    return document
