from typing import Any

import httpx
from cryptography.fernet import Fernet
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from .config import settings


class ServiceClient:
    def __init__(self, base_url: str) -> None:
        self.client = httpx.AsyncClient(base_url=base_url, timeout=10.0)

    async def close(self) -> None:
        await self.client.aclose()

    @retry(
        stop=stop_after_attempt(3),
        wait=wait_exponential(multiplier=0.1, max=2),
        retry=retry_if_exception_type(httpx.TransportError),
        reraise=True,
    )
    async def post(self, path: str, body: bytes) -> Any:
        fernet = Fernet(settings.service_key)
        response = await self.client.post(
            path,
            content=fernet.encrypt(body),
            headers={"X-Encrypted": "true", "Content-Type": "application/json"},
        )
        response.raise_for_status()
        return fernet.decrypt(response.content)
