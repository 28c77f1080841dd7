"""The files of the page: libraries as pinned, and nothing that the Content-Security-Policy refuses."""

import hashlib
import re
from pathlib import Path

import console_service

PAGE = Path(console_service.__file__).parent / "page"
VENDOR = PAGE / "vendor"
MODULES = [path for path in PAGE.rglob("*.js") if path.parent != VENDOR]


def test_libraries_have_the_recorded_hashes() -> None:
    recorded = dict(line.split("  ")[::-1] for line in (VENDOR / "SHA256SUMS").read_text().splitlines())

    assert recorded == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path.name != "SHA256SUMS" and not path.name.endswith(".d.ts")
    }


def test_each_library_has_its_licence_beside_it() -> None:
    libraries = {path.stem.removesuffix("-hooks") for path in VENDOR.glob("*.js")}

    assert {path.stem for path in VENDOR.glob("*.LICENSE")} == libraries


def test_modules_import_only_files_of_the_page() -> None:
    imports = {
        (module, name)
        for module in [*MODULES, *VENDOR.glob("*.js")]
        for name in re.findall(r"""(?:\bfrom|\bimport\()\s*["']([^"'\s]+)["']""", module.read_text())
        # Types are for the checker; a browser sees comments.
        if name != "preact" and not name.endswith("/shapes")
    }

    missing = {
        f"{module.name}: {name}"
        for module, name in imports
        if not (name.startswith(".") and (module.parent / name).is_file())
    }
    assert imports
    assert not missing


def test_markup_has_no_inline_script_style_or_handler() -> None:
    document = (PAGE / "index.html").read_text()

    assert re.findall(r"<script[^>]*>(.*?)</script>", document, re.DOTALL) == [""]
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|https?:", document)
    for module in MODULES:
        # As an object, a style is set by script, which the policy allows.
        assert not re.search(r"""\sstyle="|setAttribute\("style""", module.read_text()), module.name
