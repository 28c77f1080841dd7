"""The code of both clients is what their generators make of the API's description."""

import runpy
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parents[1] / "clients"
TOOLS = CLIENTS.parent / ".tools" / "clients" / ".complete"


@pytest.mark.servers
@pytest.mark.skipif(not TOOLS.exists(), reason="it needs: make client-tools")
def test_the_generated_code_is_that_of_the_description(tmp_path: Path) -> None:
    generator = runpy.run_path(str(CLIENTS / "generate.py"))

    generator["generate"](tmp_path)

    for folder in (generator["PYTHON"], generator["TYPESCRIPT"]):
        assert _texts(tmp_path / folder) == _texts(CLIENTS / folder), "run `make clients`"


def _texts(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.suffix in (".py", ".ts"))
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in files}
