"""Checks that a route makes before it reads its body.

    @before_body(require_user)
    async def current_user(...) -> Principal: ...

FastAPI reads the body of a request before it calls the dependencies of the route. `servicekit.web.body_limit` makes the
checks of these dependencies first, so that nobody's body is read, stored or parsed before it is known who sends it.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from starlette.requests import Request

Check = Callable[[Request], Awaitable[Any]]
Dependency = TypeVar("Dependency", bound=Callable[..., Any])

_MARK: Final = "check_before_body"


def before_body(check: Check) -> Callable[[Dependency], Dependency]:
    """Return a decorator of dependencies. `check` raises what makes reading the body useless."""

    def mark(dependency: Dependency) -> Dependency:
        setattr(dependency, _MARK, check)
        return dependency

    return mark


def check_of(dependency: object) -> Check | None:
    """Return the check of a dependency, if it has one."""
    check: Check | None = getattr(dependency, _MARK, None)
    return check
