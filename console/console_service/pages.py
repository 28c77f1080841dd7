"""The page of the console: static files, public and without data."""

import hashlib
import mimetypes
from pathlib import Path
from typing import Final, NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import Response

from servicekit.core.errors import NotFound

PAGE: Final = Path(__file__).parent / "page"
INDEX: Final = "index.html"
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Browsers ask each time whether the file is still the same.
    "Cache-Control": "no-cache",
}
_TYPES: Final = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".map": "application/json",
    ".ico": "image/x-icon",
}


class PageFile(NamedTuple):
    """A file, and the state in which it was read."""

    modified: int
    content: bytes
    etag: str


class PageFiles:
    """The files below a folder. Names of others cannot be asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths = {
            path.relative_to(folder).as_posix(): path
            for path in (folder.rglob("*") if folder.is_dir() else ())
            if path.is_file() and not path.name.startswith(".")
        }
        self._read: dict[str, PageFile] = {}

    def get(self, name: str) -> PageFile:
        """Return a file, read anew when it has changed. Raises `NotFound`."""
        path = self._paths.get(name)
        if path is None:
            raise NotFound
        try:
            modified = path.stat().st_mtime_ns
            known = self._read.get(name)
            if known is None or known.modified != modified:
                content = path.read_bytes()
                etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
                known = self._read[name] = PageFile(modified, content, etag)
        except FileNotFoundError:
            raise NotFound from None
        return known

    def response(self, name: str, if_none_match: str) -> Response:
        """Return the response to a request for a file."""
        file = self.get(name)
        headers = {**HEADERS, "ETag": file.etag}
        # A compressed response has a weak tag.
        tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
        if file.etag in tags or "*" in tags:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=media_type(name), headers=headers)


def media_type(name: str) -> str:
    """Return the media type of a file by its name."""
    known = _TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0]
    return known or "application/octet-stream"


def page_router(folder: Path = PAGE) -> APIRouter:
    """Return the routes of the page. They come after those of the API."""
    router = APIRouter(prefix="/console", include_in_schema=False)
    files = PageFiles(folder)

    @router.get("")
    @router.get("/")
    async def read_page(request: Request) -> Response:
        return files.response(INDEX, request.headers.get("if-none-match", ""))

    @router.get("/{name:path}")
    async def read_file(name: str, request: Request) -> Response:
        return files.response(name, request.headers.get("if-none-match", ""))

    return router
