"""Files as their owners see them."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator


class AssetOut(BaseModel):
    """A file. `media_type` is what its leading bytes say; `size` is in bytes."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    id: UUID
    filename: str
    media_type: str
    size: int
    sha256: str = Field(description="Of the content, in hexadecimal digits.")
    created_at: datetime

    @field_validator("sha256", mode="before")
    @classmethod
    def _hexadecimal(cls, value: bytes | str) -> str:
        return value.hex() if isinstance(value, bytes) else value

    @property
    def etag(self) -> str:
        """The strong entity tag of the content, which never changes."""
        return f'"{self.sha256}"'
