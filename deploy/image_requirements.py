"""Print a pyproject.toml of the third-party packages that an image needs, given those of the kit and of its service.

    python image_requirements.py shared/pyproject.toml notes/pyproject.toml

The image contains a copy of the kit's code. So the requirement of the kit is replaced by the kit's own requirements,
with those of the extras that the service needs, such as `servicekit[mongo]`.
"""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

_KIT = re.compile(r"servicekit(?:\[(?P<extras>[^]]*)\])?")


def requirements(kit: dict[str, Any], service: dict[str, Any]) -> list[str]:
    """Return the requirements of both, each once. Both are `[project]` tables."""
    found = list(kit["dependencies"])
    for requirement in service["dependencies"]:
        if kit_requirement := _KIT.fullmatch(requirement):
            for extra in filter(None, (kit_requirement["extras"] or "").split(",")):
                found += kit["optional-dependencies"][extra.strip()]
        else:
            found.append(requirement)
    return sorted(set(found))


if __name__ == "__main__":
    projects = [tomllib.loads(Path(path).read_text(encoding="utf-8"))["project"] for path in sys.argv[1:]]
    sys.stdout.write(
        f'[project]\nname = "image"\nversion = "0"\ndependencies = {json.dumps(requirements(*projects))}\n'
    )
