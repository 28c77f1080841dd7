"""The rules, the names of metrics in expressions, and promtool."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1]
ROOT = FOLDER.parents[1]
FILES = sorted((FOLDER / "rules").glob("*.yml"))
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def tool(name: str) -> str | None:
    """Return the path of a tool that `make observability-tools` builds, if it is there."""
    return shutil.which(name, path=f"{ROOT / '.tools' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")


def rules() -> Iterator[Mapping[str, Any]]:
    """Return all rules of all files."""
    for path in FILES:
        for group in yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)["groups"]:
            yield from group["rules"]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


def metrics_of(expression: str) -> set[str]:
    """Return the names in an expression that may be metrics: they have a prefix of this platform, or a colon."""
    bare = re.sub(r'"[^"]*"', "", expression)
    return {word for word in _WORD.findall(bare) if ":" in word or re.match(r"(?:service|gateway)_", word)}
