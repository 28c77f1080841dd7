from fastapi import FastAPI

from .middleware import install_middleware
from .schemas import Message

app = FastAPI(title="Callee")
install_middleware(app)


@app.post("/reply", response_model=Message)
async def reply(message: Message) -> Message:
    return message
