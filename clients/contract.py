"""Refuses a breaking change of the API that the changelog does not declare: `make contract [AGAINST=revision]`.

`clients/openapi.json` is compared with that of a revision, by default the last tag. A line of the changelog's
`Unreleased` declares the changes of one operation:

    - **Breaking:** `notes_create_note` requires a body.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
OASDIFF = REPOSITORY / ".tools" / "oasdiff" / "bin" / "oasdiff"
DESCRIPTION = "clients/openapi.json"
# For a change that belongs to no operation.
WHOLE_API = "api"
# Generated clients name their functions by these ids.
_SEVERITIES = "api-operation-id-removed err\n"
_UNRELEASED = re.compile(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_DECLARATION = re.compile(r"^[-*] \*\*Breaking:\*\*.*", re.MULTILINE)


def breaking_changes(before: str, after: str) -> list[dict[str, Any]]:
    """Return the breaking changes between two descriptions, as oasdiff describes them."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("before.json", "after.json", "severities.txt")]
        for file, text in zip(files, (before, after, _SEVERITIES), strict=True):
            file.write_text(text, encoding="utf-8")
        options = ["--format", "json", "--allow-external-refs=false", "--severity-levels", str(files[2])]
        command = [str(OASDIFF), "breaking", str(files[0]), str(files[1]), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: oasdiff failed: {done.stderr.strip()}")
    changes: list[dict[str, Any]] = json.loads(done.stdout or "[]") or []
    return changes


def declared_operations(changelog: str) -> set[str]:
    """Return the operations that the changelog's `Unreleased` declares as changed."""
    unreleased = _UNRELEASED.search(changelog)
    lines = _DECLARATION.findall(unreleased[1]) if unreleased else []
    return {name for line in lines for name in re.findall(r"`([a-z0-9_]+)`", line)}


def operation_of(change: dict[str, Any]) -> str:
    """Return the id of the operation that a change belongs to."""
    return str(change.get("operationId") or WHOLE_API)


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description="Compare the API's description with that of a revision.")
    parser.add_argument("--against", default="", help="a revision of git (default: the last tag)")
    revision = parser.parse_args().against or _git("describe", "--tags", "--abbrev=0")
    if not revision:
        print("contract: there is no tag to compare with; name a revision: make contract AGAINST=…")
        return 0
    revision = revision.strip()
    if _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}") is None:
        sys.exit(f"error: {revision} is no revision of this repository")
    before = _git("show", f"{revision}:{DESCRIPTION}")
    if before is None:
        print(f"contract: {revision} has no {DESCRIPTION}, so there is nothing to compare with")
        return 0
    changes = breaking_changes(before, (REPOSITORY / DESCRIPTION).read_text(encoding="utf-8"))
    declared = declared_operations((REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"))
    undeclared = [change for change in changes if operation_of(change) not in declared]
    for change in undeclared:
        print(f"{operation_of(change)}: {change['text']} ({change['id']})")
    if undeclared:
        names = ", ".join(dict.fromkeys(f"`{operation_of(change)}`" for change in undeclared))
        print(f"error: the API breaks clients of {revision}; declare it in CHANGELOG.md, below Unreleased:")
        print(f"- **Breaking:** {names} …")
        return 1
    print(f"contract: {len(changes)} breaking changes since {revision}, all declared")
    return 0


def _git(*arguments: str) -> str | None:
    """Return what git prints, or None if it fails."""
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
