from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request

from .config import settings
from .middleware import install_middleware
from .schemas import Message
from .service_client import ServiceClient


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.client = ServiceClient(settings.callee_url)
    yield
    await app.state.client.close()


app = FastAPI(title="Caller", lifespan=lifespan)
install_middleware(app)


@app.post("/call", response_model=Message)
async def call(message: Message, request: Request) -> Message:
    body = await request.app.state.client.post("/reply", message.model_dump_json().encode())
    return Message.model_validate_json(body)
