"""A span for each attempt of an outgoing call, and its trace context on the wire."""

from collections.abc import Awaitable
from urllib.parse import urlsplit

from servicekit.dispatcher.response import PeerResponse
from servicekit.dispatcher.transport import Transport, TransportError, WireRequest
from servicekit.observability.tracing.spans import CANCELLED, Span, start_child


def send_traced(transport: Transport, request: WireRequest, *, peer: str, attempt: int) -> Awaitable[PeerResponse]:
    """Send the request, with a span if the request in progress is sampled, else as it is."""
    span = start_child()
    if span is None:
        return transport.send(request)
    url = urlsplit(request.url)
    # The path may hold ids, so the peer's name stands for it; the span below has the route.
    span.name = f"{request.method} {peer}"
    span.attributes |= {
        "http.request.method": request.method,
        "service.peer.name": peer,
        "server.address": url.hostname or "",
        # Without the query, which may hold a signature.
        "url.full": f"{url.scheme}://{url.netloc}{url.path}",
    }
    if url.port is not None:
        span.attributes["server.port"] = url.port
    if attempt > 1:
        span.attributes["http.request.resend_count"] = attempt - 1
    return _sent(transport, request._replace(headers={**request.headers, "traceparent": span.traceparent}), span)


async def _sent(transport: Transport, request: WireRequest, span: Span) -> PeerResponse:
    try:
        answer = await transport.send(request)
    except TransportError as error:
        span.fail(type(error).__name__)
        raise
    except BaseException:
        span.fail(CANCELLED)
        raise
    else:
        span.attributes["http.response.status_code"] = answer.status
        if answer.status >= 400:
            span.fail(str(answer.status))
        return answer
    finally:
        span.end()
