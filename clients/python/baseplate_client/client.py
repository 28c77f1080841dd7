"""The client that all operations take, and what generated code cannot know."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx2

from baseplate_client.errors import ApiError, EditConflict
from baseplate_client.generated import AuthenticatedClient
from baseplate_client.generated.contract import REPEATABLE_PATHS
from baseplate_client.generated.types import Response, Unset
from baseplate_client.session import MemoryStore, Session, Tokens, TokenStore

T = TypeVar("T")
C = TypeVar("C")
R = TypeVar("R")

LOGIN = "/api/v1/users/login"
REFRESH = "/api/v1/users/refresh"
LOGOUT = "/api/v1/users/logout"
UPLOAD = "/api/v1/assets"
# These bring their own credentials.
_WITHOUT_TOKEN = frozenset({LOGIN, REFRESH})
_UNAVAILABLE = frozenset({502, 503, 504})
_MAX_WAIT_SECONDS = 60.0
_PIECE_BYTES = 256 * 1024


class ApiClient(AuthenticatedClient):
    """A client of the platform, whose session refreshes itself.

    async with ApiClient("http://127.0.0.1:8080") as api:
        await api.log_in("ada", "correct horse battery")
        note = await notes_create_note.asyncio(client=api, body=NoteIn(title="Shopping list"))

    A failed operation raises ApiError. GET requests, and creations, which get an Idempotency-Key, are sent up to
    `tries` times after failures of the network and of a service.
    """

    def __init__(
        self,
        base_url: str,
        *,
        store: TokenStore | None = None,
        tries: int = 4,
        timeout: float = 30.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(base_url=base_url, token="")  # nosec B106
        self.http = _SessionHttp(base_url, store or MemoryStore(), tries, timeout, transport)
        self.session = self.http.session
        self.set_async_httpx_client(self.http)

    async def log_in(self, username_or_email: str, password: str) -> None:
        """Begin a session."""
        credentials = {"username_or_email": username_or_email, "password": password}
        self.session.store.tokens = Tokens.of((await self.http.post(LOGIN, json=credentials)).json())

    async def log_out(self) -> None:
        """End the session here and on the server."""
        tokens, self.session.store.tokens = self.session.store.tokens, None
        if tokens is not None:
            await self.http.post(LOGOUT, json={"refresh_token": tokens.refresh_token})

    async def upload(
        self,
        content: bytes | Path,
        *,
        filename: str,
        media_type: str = "application/octet-stream",
        on_progress: Callable[[int, int], None] = lambda _sent, _total: None,
    ) -> dict[str, Any]:
        """Store a file, whose bytes are streamed, and return what the API says of it.

        All tries have one Idempotency-Key, so it is stored once.
        """
        size = len(content) if isinstance(content, bytes) else (await asyncio.to_thread(content.stat)).st_size
        headers = {
            "Content-Type": media_type,
            "Content-Length": str(size),
            "X-Filename": quote(filename, safe=""),
            "Idempotency-Key": str(uuid4()),
        }

        async def pieces() -> AsyncIterator[bytes]:
            sent = 0
            async for piece in _pieces(content):
                yield piece
                sent += len(piece)
                on_progress(sent, size)

        response = await self.http.send_repeatedly(
            lambda: self.http.build_request("POST", UPLOAD, headers=headers, content=pieces()), repeatable=True
        )
        # A platform without this service has no model of it.
        stored: dict[str, Any] = response.json()
        return stored


class _SessionHttp(httpx2.AsyncClient):
    """Sends requests with the session's token, again where that is safe, and raises ApiError."""

    def __init__(
        self,
        base_url: str,
        store: TokenStore,
        tries: int,
        timeout: float,
        transport: httpx2.AsyncBaseTransport | None,
    ) -> None:
        super().__init__(base_url=base_url, timeout=timeout, transport=transport)
        self.session = Session(store, self._exchange)
        self._tries = tries

    def build_request(self, *args: Any, **options: Any) -> httpx2.Request:
        # Generated code passes an optional body on as JSON also when it is left out.
        if isinstance(options.get("json"), Unset):
            options["json"] = None
            options["headers"] = {name: text for name, text in options["headers"].items() if name != "Content-Type"}
        return super().build_request(*args, **options)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        path = request.url.path
        repeatable = request.method in ("GET", "HEAD") or (request.method == "POST" and path in REPEATABLE_PATHS)
        if repeatable and request.method == "POST":
            request.headers.setdefault("Idempotency-Key", str(uuid4()))
        # The body may be a stream that can be read once, and that of a file is a synchronous one.
        if isinstance(request.stream, httpx2.AsyncByteStream):
            await request.aread()
        else:
            request.read()
        return await self.send_repeatedly(lambda: request, repeatable=repeatable, **options)

    async def send_repeatedly(
        self, build: Callable[[], httpx2.Request], *, repeatable: bool, **options: Any
    ) -> httpx2.Response:
        """Send what `build` returns for each try. Raises ApiError."""
        refreshed = False
        attempt = 0
        while True:
            attempt += 1
            request = build()
            token = None if request.url.path in _WITHOUT_TOKEN else await self.session.access_token()
            if token is not None:
                request.headers["Authorization"] = f"Bearer {token}"
            try:
                response = await super().send(request, **options)
            except httpx2.TransportError:
                if not repeatable or attempt >= self._tries:
                    raise
                await _pause(None, attempt)
                continue
            if response.status_code < 400:
                return response
            await response.aread()
            error = ApiError(response)
            if error.code == "token-expired" and token is not None and not refreshed:
                refreshed = True
                await self.session.refresh(token)
            elif attempt < self._tries and _may_repeat(error, repeatable):
                await _pause(response, attempt)
            else:
                raise error

    async def _exchange(self, refresh_token: str) -> Tokens:
        try:
            return Tokens.of((await self.post(REFRESH, json={"refresh_token": refresh_token})).json())
        except ApiError as error:
            if error.status == 401:
                # The session has ended: the next request goes without a token, and says so.
                self.session.store.tokens = None
            raise


def _may_repeat(error: ApiError, repeatable: bool) -> bool:
    # A rate limit refuses a request before it has any effect.
    if error.code == "rate-limited":
        return True
    return repeatable and (error.status in _UNAVAILABLE or error.code == "key-in-flight")


async def _pause(response: httpx2.Response | None, attempt: int) -> None:
    """Wait as long as the response asks for, or ever longer; randomness keeps clients from coming back together."""
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    seconds = float(asked) if asked.isdigit() else 0.2 * 2**attempt * (0.5 + random.random() / 2)
    await asyncio.sleep(min(seconds, _MAX_WAIT_SECONDS))


async def _pieces(content: bytes | Path) -> AsyncIterator[bytes]:
    if isinstance(content, bytes):
        for start in range(0, len(content), _PIECE_BYTES):
            yield content[start : start + _PIECE_BYTES]
        return
    file = await asyncio.to_thread(content.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            yield piece
    finally:
        file.close()


async def items(page: Callable[[str | None], Awaitable[Any]]) -> AsyncIterator[Any]:
    """Iterate over the items of all pages of a list.

    async for note in items(lambda cursor: notes_list_notes.asyncio(client=api, cursor=cursor or UNSET)): ...
    """
    cursor: str | None = None
    while True:
        found = await page(cursor)
        for item in found.items:
            yield item
        if not found.next_cursor:
            return
        cursor = found.next_cursor


async def edit(
    read: Callable[[], Awaitable[Response[T]]],
    change: Callable[[T], C],
    write: Callable[[C, str], Awaitable[R]],
) -> R:
    """Read something, change it, and write it with If-Match. Raises EditConflict if it has changed in the meantime."""
    before = await read()
    base = _parsed(before)
    mine = change(base)
    try:
        return await write(mine, before.headers["ETag"])
    except ApiError as error:
        if error.code != "stale-version":
            raise
    now = await read()
    raise EditConflict(base, mine, _parsed(now), now.headers["ETag"])


def _parsed(response: Response[T]) -> T:
    if response.parsed is None:
        raise ValueError("the response holds nothing to edit")
    return response.parsed
