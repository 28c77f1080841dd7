"""How routes get what `create_app` has composed."""

from typing import Any

from fastapi import Request, params


def provided(name: str) -> params.Depends:
    """Return a dependency on the collaborator that `create_app` has put into `app.state` by this name."""

    def from_state(request: Request) -> Any:
        return getattr(request.app.state, name)

    return params.Depends(from_state)
