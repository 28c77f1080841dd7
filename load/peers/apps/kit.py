"""A caller and a callee built from the kit: its middleware, its dispatcher, sealed calls."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from servicekit.core.settings import ServiceSettings
from servicekit.kit import ServiceKit
from servicekit.sealing.route_policy import sealed
from servicekit.web.body_limit import route_with_body_limit

MAX_BODY_BYTES = 16 * 1024


class Message(BaseModel):
    name: str
    text: str


class _NoKeys:
    """Keys of access tokens, which these services do not take."""

    async def key(self, kid: str) -> None:
        return None

    def known(self, kid: str) -> None:
        return None


def create_caller() -> FastAPI:
    kit = _kit()
    router = APIRouter(route_class=route_with_body_limit(MAX_BODY_BYTES))

    @router.post("/call")
    async def call(message: Message) -> Message:
        response = await kit.dispatcher.call(
            "callee",
            "/reply",
            method="POST",
            content=message.model_dump_json().encode(),
            headers={"Content-Type": "application/json"},
            encrypted=True,
        )
        return Message.model_validate_json(response.body)

    return _build(kit, router)


def create_callee() -> FastAPI:
    router = APIRouter(route_class=route_with_body_limit(MAX_BODY_BYTES))

    @router.post("/reply", dependencies=[sealed("caller")])
    async def reply(message: Message) -> Message:
        return message

    return _build(_kit(), router)


def _kit() -> ServiceKit:
    return ServiceKit(ServiceSettings(), keys=_NoKeys())


def _build(kit: ServiceKit, router: APIRouter) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with kit.running():
            yield

    return kit.build(title="Bench", lifespan=lifespan, routers=[router], checks={}, is_unavailable=lambda _error: False)
