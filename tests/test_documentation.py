"""The commands and programs of the documentation, run as they stand against the platform.

Only its address and the name of the account are those of the test.
"""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from uuid import uuid4

import pytest

from tests.conftest import Running

ROOT = Path(__file__).parents[1]
# Without it, curl succeeds whatever the response is.
STRICT = 'set -euo pipefail; curl() { command curl --silent --show-error --fail-with-body "$@"; }\n'


def _blocks(document: str, containing: str) -> str:
    """Return the code blocks of a document that contain a word, one after the other."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)
    return "".join(block for block in blocks if containing in block)


async def _run(running: Running, *command: str, given: str, **variables: str) -> str:
    """Run a program on the given text, with the platform's address in it; return its output."""
    text = given.replace("http://127.0.0.1:8080", running.gateway_url)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={**os.environ, **variables}, stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    output, _ = await process.communicate(text.encode())
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.needs("analytics", "notes")
async def test_the_commands_of_the_readme_and_of_the_page_on_api_keys_work_one_after_the_other(
    running: Running,
) -> None:
    name = f"u{uuid4().hex[:20]}"
    documents = ("README.md", "docs/api-keys.md")
    commands = "".join(_blocks(document, "curl ") for document in documents)

    output = await _run(running, "bash", given=STRICT + re.sub(r"\bada\b", name, commands))

    assert name in output
    assert '"name":"nightly export"' in output


@pytest.mark.needs("notes")
async def test_the_program_in_the_readme_of_the_python_client_works(running: Running) -> None:
    program = _blocks("clients/python/README.md", "import")

    output = await _run(running, sys.executable, "-", given=program, PYTHONPATH="clients/python")

    assert output == "Shopping list\n"


def test_each_make_command_of_the_documentation_names_a_target() -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("*/*/README.md")]
    named = {
        (str(page.relative_to(ROOT)), target)
        for page in pages
        if "node_modules" not in page.parts
        for command in re.findall(r"(?:^|`|&& |; )make ([a-z][a-z0-9 -]*)", page.read_text(), re.MULTILINE)
        for target in command.split(" # ")[0].split()[:1]
    }

    assert len(named) > 30
    assert {(page, target) for page, target in named if target not in targets} == set()
