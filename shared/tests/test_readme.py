"""The reading path of shared/README.md."""

import re
from pathlib import Path

SHARED = Path(__file__).parents[1]
# An hour of reading, at thirty lines a minute.
LINES_IN_AN_HOUR = 1_900


def test_the_reading_path_exists_and_takes_an_hour() -> None:
    text = (SHARED / "README.md").read_text()
    path = [SHARED / name for name in re.findall(r"\((servicekit/[^)]+\.py)\)", text)]
    assert len(path) == 12
    assert sum(len(file.read_text().splitlines()) for file in path) < LINES_IN_AN_HOUR


def test_the_map_names_every_package() -> None:
    named = set(re.findall(r"^\| `(\w+)/?", (SHARED / "README.md").read_text(), re.MULTILINE))
    assert named >= {folder.parent.name for folder in (SHARED / "servicekit").glob("*/__init__.py")}
