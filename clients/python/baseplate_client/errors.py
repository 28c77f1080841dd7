"""What operations raise."""

import re
from typing import Generic, TypeVar

import httpx2

from baseplate_client.generated.models import Problem

T = TypeVar("T")
C = TypeVar("C")
_CODE = re.compile(r"urn:[a-z0-9-]+:problem:(.+)")


class ApiError(Exception):
    """An error that the platform responded with. `code` says which: docs/errors.md; it is empty for `about:blank`."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.status = response.status_code
        self.problem = _problem(response)
        found = _CODE.fullmatch(self.problem.type_) if self.problem else None
        self.code = found[1] if found else ""
        super().__init__(
            f"{self.status} {self.code}: {self.problem.detail if self.problem else response.reason_phrase}"
        )


class EditConflict(Exception, Generic[T, C]):
    """A change of what someone else has changed: `mine` was not stored, `theirs` is.

    `base` is what was read before the edit. With `etag`, the version of `theirs`, the change can be sent again.
    """

    def __init__(self, base: T, mine: C, theirs: T, etag: str) -> None:
        super().__init__("it has changed since it was read")
        self.base = base
        self.mine = mine
        self.theirs = theirs
        self.etag = etag


def _problem(response: httpx2.Response) -> Problem | None:
    if response.headers.get("Content-Type", "").split(";")[0] != "application/problem+json":
        return None
    try:
        return Problem.from_dict(response.json())
    except (ValueError, KeyError, TypeError):
        return None
