"""A span for each attempt of an outgoing call, and its trace context on the wire."""

from collections.abc import Awaitable
from urllib.parse import urlsplit

from servicekit.dispatcher.response import PeerResponse
from servicekit.dispatcher.transport import Transport, TransportError, WireRequest
from servicekit.observability.tracing.spans import CANCELLED, Span, start_child


def send_traced(
    transport: Transport, request: WireRequest, *, peer: str, attempt: int, sealed: bool
) -> Awaitable[PeerResponse]:
    """Send the request, within a span if the request in progress is sampled."""
    span = start_child()
    if span is None:
        return transport.send(request)
    _describe(span, request, peer, attempt)
    if sealed:
        span.attributes["rpc.sealed"] = "yes"
    return _send_in(span, transport, request._replace(headers={**request.headers, "traceparent": span.traceparent}))


def _describe(span: Span, request: WireRequest, peer: str, attempt: int) -> None:
    url = urlsplit(request.url)
    # The path may hold ids, so the peer's name stands for it; the peer's own span has the route.
    span.name = f"{request.method} {peer}"
    span.attributes |= {
        "http.request.method": request.method,
        "service.peer.name": peer,
        "peer.service": peer,
        "server.address": url.hostname or "",
        # Without the query, which may hold a signature.
        "url.full": f"{url.scheme}://{url.netloc}{url.path}",
    }
    if url.port is not None:
        span.attributes["server.port"] = url.port
    if attempt > 1:
        span.attributes["http.request.resend_count"] = attempt - 1


async def _send_in(span: Span, transport: Transport, request: WireRequest) -> PeerResponse:
    try:
        response = await transport.send(request)
    except TransportError as error:
        span.fail(type(error).__name__)
        raise
    except BaseException:
        span.fail(CANCELLED)
        raise
    else:
        span.attributes["http.response.status_code"] = response.status
        if response.status >= 400:
            span.fail(str(response.status))
        return response
    finally:
        span.end()
