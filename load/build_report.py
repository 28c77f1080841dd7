"""Draw one page from the figures in `load/reports/`: `make report`.

    .venv/bin/python load/build_report.py [--reports load/reports] [--publish]

It writes `load/reports/index.html`, and says which figures are missing and what makes them. With --publish it also
writes the copy that the repository shows: `docs/report/`, and the figures in `docs/evidence.md`.
"""

import argparse
import sys
from pathlib import Path

from reporting import evidence, inputs, page, plots

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "load" / "reports"
EVIDENCE = "docs/evidence.md"
PUBLISHED = "docs/report"


def publish(root: Path, found: inputs.Inputs, parts: list[page.Section], html: str) -> list[Path]:
    """Write the published copy; return its files."""
    folder = root / PUBLISHED
    folder.mkdir(parents=True, exist_ok=True)
    written = {folder / "index.html": html}
    for section in parts:
        if section.id in ("load", "changes") and (block := next((one for one in section.blocks if one.svg), None)):
            written[folder / f"{section.id}.svg"] = plots.standalone(block.svg)
    document = root / EVIDENCE
    written[document] = evidence.replace_section(document.read_text(encoding="utf-8"), found)
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    return list(written)


def main(reports: Path, *, published: bool, root: Path = ROOT) -> None:
    """Read, draw, write, and say what is missing."""
    found = inputs.read(reports)
    parts = page.sections(found)
    html = page.render(found, parts)
    reports.mkdir(parents=True, exist_ok=True)
    target = reports / "index.html"
    target.write_text(html, encoding="utf-8")
    files = [target, *(publish(root, found, parts, html) if published else [])]
    for path in files:
        print(f"wrote {path} ({path.stat().st_size / 1000:,.0f} kB)")
    if found.missing:
        print("missing:")
    for one in found.missing:
        print(f"  {one.what} {one.reason}: {one.command}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, default=REPORTS, help="where the figures are (load/reports)")
    parser.add_argument("--publish", action="store_true", help="also write the copy that the repository shows")
    given = parser.parse_args()
    try:
        main(given.reports, published=given.publish)
    except evidence.NoMarkers as error:
        sys.exit(f"error: {EVIDENCE}: {error}")
