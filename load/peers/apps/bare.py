"""A caller and a callee on plain FastAPI and aiohttp. `CALLEE_URL` is the callee itself, or the caller's sidecar."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from fastapi import FastAPI, Request
from pydantic import BaseModel


class Message(BaseModel):
    name: str
    text: str


@asynccontextmanager
async def _client(app: FastAPI) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as app.state.http:
        yield


def _with_health(app: FastAPI) -> FastAPI:
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def create_caller() -> FastAPI:
    app = _with_health(FastAPI(lifespan=_client))
    url = f"{os.environ['CALLEE_URL']}/reply"

    @app.post("/call")
    async def call(message: Message, request: Request) -> Message:
        async with request.app.state.http.post(url, data=message.model_dump_json()) as response:
            response.raise_for_status()
            return Message.model_validate_json(await response.read())

    return app


def create_callee() -> FastAPI:
    app = _with_health(FastAPI())

    @app.post("/reply")
    async def reply(message: Message) -> Message:
        return message

    return app
