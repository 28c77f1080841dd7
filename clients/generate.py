"""Writes the generated code of both clients from `clients/openapi.json`: `make clients` runs it.

The generators know nothing of error codes and of requests that may be repeated; two small files tell the clients.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

CLIENTS = Path(__file__).parent.resolve()
TOOLS = CLIENTS.parent / ".tools" / "clients" / "bin"
DESCRIPTION = CLIENTS / "openapi.json"
PYTHON = Path("python", "baseplate_client", "generated")
TYPESCRIPT = Path("typescript", "src", "generated")
# Rules of its own: those of the repository would depend on where the code is written.
_RUFF = "ruff {} --isolated --line-length 120"
_PYTHON_SETTINGS = {
    "post_hooks": [_RUFF.format("check --fix-only --quiet --select I,F401"), _RUFF.format("format --quiet")],
}
_HEAD = "This file is written by `make clients`."


def generate(target: Path) -> None:
    """Write the code of both clients below this folder, in place of what is there."""
    description = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    _generate_typescript(target / TYPESCRIPT, description)
    _generate_python(target / PYTHON, description)


def problem_codes(description: dict[str, Any]) -> list[str]:
    """Return the codes of all errors."""
    return sorted(description["components"]["examples"])


def repeatable_paths(description: dict[str, Any]) -> list[str]:
    """Return the paths whose POST takes an Idempotency-Key."""
    return sorted(
        path
        for path, operations in description["paths"].items()
        for parameter in operations.get("post", {}).get("parameters", ())
        if parameter["name"] == "Idempotency-Key"
    )


def _generate_typescript(folder: Path, description: dict[str, Any]) -> None:
    _run(["npx", "openapi-ts"], CLIENTS / "typescript", GENERATED=str(folder.resolve()), NO_COLOR="1")
    codes = "".join(f"  | '{code}'\n" for code in problem_codes(description))
    paths = "".join(f"  '{path}',\n" for path in repeatable_paths(description))
    text = (
        f"// {_HEAD}\n\n/** The code of an error: docs/errors.md. */\nexport type ProblemCode =\n{codes.rstrip()};\n\n"
        "/** The paths whose POST takes an Idempotency-Key. */\n"
        f"export const repeatablePaths: readonly string[] = [\n{paths}];\n"
    )
    (folder / "contract.gen.ts").write_text(text, encoding="utf-8")


def _generate_python(folder: Path, description: dict[str, Any]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    settings = folder.parent / "generator.json"
    settings.write_text(json.dumps(_PYTHON_SETTINGS), encoding="utf-8")
    options = ["--path", str(DESCRIPTION), "--output-path", str(folder.resolve()), "--config", str(settings.resolve())]
    try:
        _run(["openapi-python-client", "generate", "--meta", "none", "--fail-on-warning", *options], folder.parent)
    finally:
        settings.unlink()
    for file in folder.rglob("*.py"):
        # httpx2 has the same interface, and takes half of the CPU.
        file.write_text(re.sub(r"\bhttpx\b", "httpx2", file.read_text(encoding="utf-8")), encoding="utf-8")
    lists = {"PROBLEM_CODES": problem_codes(description), "REPEATABLE_PATHS": repeatable_paths(description)}
    text = "".join(f"\n{name} = (\n" + "".join(f'    "{item}",\n' for item in lists[name]) + ")\n" for name in lists)
    (folder / "contract.py").write_text(f'"""{_HEAD}"""\n{text}', encoding="utf-8")


def _run(command: list[str], folder: Path, **variables: str) -> None:
    environment = {**os.environ, "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}", **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {command[0]} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    generate(CLIENTS)
