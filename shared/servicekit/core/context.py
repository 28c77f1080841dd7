"""The context of the request in progress: its ids, its deadline and its caller.

The middleware of `servicekit.web.application` enters one context per request. Logs, outgoing calls and error responses
read it, so no function has to pass it on.
"""

import time
from contextvars import ContextVar, Token
from dataclasses import dataclass, field


@dataclass(slots=True)
class RequestContext:
    """What the code of a service knows about the request in progress.

    `deadline` is a `time.monotonic()` value in seconds, or None when the caller set none. `traceparent` and
    `tracestate` are the W3C headers that outgoing calls carry. `span` belongs to `servicekit.observability.tracing`:
    nothing else looks into it, and it is None unless this request is sampled.
    """

    request_id: str
    correlation_id: str
    traceparent: str | None = None
    tracestate: str | None = None
    deadline: float | None = None
    user_id: str | None = None
    caller: str | None = None
    span: object | None = None
    # Further fields for the access line of this request.
    log_fields: dict[str, str | int | float] = field(default_factory=dict)

    @property
    def trace_id(self) -> str | None:
        """The trace id inside `traceparent`, 32 hexadecimal digits (W3C Trace Context, section 3.2)."""
        return self.traceparent[3:35] if self.traceparent else None

    def remaining(self) -> float | None:
        """Seconds until the caller gives up; zero or less when it already has; None without a deadline."""
        return None if self.deadline is None else self.deadline - time.monotonic()


_current: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)


def current() -> RequestContext | None:
    """Return the context of the request in progress, or None outside of one."""
    return _current.get()


def enter(context: RequestContext) -> Token[RequestContext | None]:
    """Make `context` the current one; hand the token to `leave` afterwards."""
    return _current.set(context)


def leave(token: Token[RequestContext | None]) -> None:
    """Restore the context that was current before `enter`."""
    _current.reset(token)
