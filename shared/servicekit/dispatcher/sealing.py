"""What the dispatcher needs from whoever seals its messages. `servicekit.sealing.envelope` does it in production."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class CannotOpen(Exception):
    """An answer is not sealed, was altered, or belongs to another request."""


class SealedRequest(Protocol):
    """A sealed request: what goes on the wire, and whatever its sealer needs to open the answer."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that carry or mark the envelope, `Content-Type` included."""

    @property
    def body(self) -> bytes:
        """The envelope, or nothing where a header carries it."""


class Opened(NamedTuple):
    """The content of a sealed answer: the headers and the body that the peer sealed."""

    headers: Mapping[str, str]
    body: bytes


class Sealer(Protocol):
    """Seals each attempt anew and opens the answer to exactly that attempt."""

    def seal_request(
        self, peer: str, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> SealedRequest:
        """Seal one request to `peer`.

        `target` is path and query as they stand on the request line. `headers`, with names in lower case, are those
        that mean something to the peer's routes; none of them goes out in plain text. Raises InvalidCall for what
        cannot be sealed.
        """

    def open_response(
        self, peer: str, request: SealedRequest, status: int, headers: Mapping[str, str], body: bytes
    ) -> Opened:
        """Open the answer to `request`, one of this sealer's own. Raises CannotOpen, also for an unsealed answer."""
