"""Audit what requirements.lock installs: known vulnerabilities, and licences.

    python deploy/audit.py [option of `uv audit`]…

uv asks the advisory database OSV for the pinned versions, those for other systems included. Licences are read from the
installed packages. The exit status is 0 when nothing was found, 1 for a vulnerability or a licence that is not in
ACCEPTED, and 3 when no database could be asked: what was not audited must not look as if it were sound.
"""

import re
import subprocess  # nosec B404
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
UV: Final = ROOT / ".tools/bin/uv"
FOUND: Final = 1
NOT_AUDITED: Final = 3

# They ask for a notice only or, like the MPL, for the changes of their own files.
ACCEPTED: Final = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "HPND", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0"),
    *("PostgreSQL", "Unlicense", "Zlib"),
}
# What packages without an SPDX expression call them.
_SPDX: Final = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\]+)(?: ; (.*?))?(?: \\)?$", re.MULTILINE)


def main(options: Sequence[str]) -> int:
    pins = _PIN.findall((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    refused = [f"{name}: {licence}" for name, licence in licences([pin[0] for pin in pins]) if not accepted(licence)]
    sys.stdout.write(f"licences of {len(pins)} packages: {', '.join(refused) or 'all accepted'}\n")
    status = audit(pins, options)
    return FOUND if refused else status


def licences(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the licence of each installed package, as an SPDX expression where possible."""
    for name in names:
        try:
            found = metadata(name)
        except PackageNotFoundError:
            # It is for another system or another version of Python.
            continue
        classifiers = [text.rpartition(" :: ")[2] for text in found.get_all("Classifier", []) if "License ::" in text]
        texts = [found.get("License-Expression")] if found.get("License-Expression") else classifiers
        texts = texts or [(found.get("License") or "unknown").partition("\n")[0]]
        yield name, " OR ".join(_SPDX.get(text, text) for text in texts)


def accepted(expression: str) -> bool:
    """Return whether a licence may be chosen that is in ACCEPTED. Understands AND, OR and parentheses."""
    while inner := re.search(r"\(([^()]*)\)", expression):
        expression = expression.replace(inner[0], "MIT" if accepted(inner[1]) else "refused")
    return any(all(part.strip() in ACCEPTED for part in choice.split(" AND ")) for choice in expression.split(" OR "))


def audit(pins: Sequence[tuple[str, str, str]], options: Sequence[str]) -> int:
    """Ask for advisories on all pins, by a project that requires exactly these."""
    requirements = [f"{name}=={version}{f' ; {marker}' if marker else ''}" for name, version, marker in pins]
    lines = "".join(f"    '''{requirement}''',\n" for requirement in requirements)
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "pyproject.toml").write_text(
            f'[project]\nname = "locked"\nversion = "0"\nrequires-python = ">=3.11"\ndependencies = [\n{lines}]\n',
            encoding="utf-8",
        )
        status = subprocess.run(  # nosec B603
            [UV, "audit", "--preview-features", "audit-command", "--directory", directory, *options], check=False
        ).returncode
    if status in (0, FOUND):
        return status
    sys.stderr.write("error: NOT AUDITED: no advisory database could be asked, or not for all packages; see above\n")
    return NOT_AUDITED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
