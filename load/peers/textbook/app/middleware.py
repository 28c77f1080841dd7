import logging
import time
import uuid

from cryptography.fernet import Fernet, InvalidToken
from fastapi import FastAPI, Request, Response
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.middleware import SlowAPIMiddleware
from slowapi.util import get_remote_address
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from .config import settings

logger = logging.getLogger("app.access")
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
# It would log every call a second time.
logging.getLogger("httpx").setLevel(logging.WARNING)


class LoggingMiddleware(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        request_id = request.headers.get("X-Request-ID", str(uuid.uuid4()))
        start = time.perf_counter()
        response = await call_next(request)
        response.headers["X-Request-ID"] = request_id
        elapsed = (time.perf_counter() - start) * 1000
        logger.info("%s %s %s %d %.1fms", request_id, request.method, request.url.path, response.status_code, elapsed)
        return response


class EncryptionMiddleware(BaseHTTPMiddleware):
    """Decrypts requests from other services, and encrypts the responses to them."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        if request.headers.get("X-Encrypted") != "true":
            return await call_next(request)
        fernet = Fernet(settings.service_key)
        try:
            # The wrapped request keeps its body here.
            request._body = fernet.decrypt(await request.body(), ttl=60)
        except InvalidToken:
            return Response(status_code=401)
        response = await call_next(request)
        body = b"".join([chunk async for chunk in response.body_iterator])
        return Response(fernet.encrypt(body), status_code=response.status_code, media_type="application/octet-stream")


limiter = Limiter(
    key_func=get_remote_address, default_limits=[settings.rate_limit], enabled=settings.rate_limit_enabled
)


def install_middleware(app: FastAPI) -> None:
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
    app.add_middleware(EncryptionMiddleware)
    app.add_middleware(SlowAPIMiddleware)
    app.add_middleware(LoggingMiddleware)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}
