"""The base of all models of this service."""

from typing import Any, ClassVar

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from servicekit.storage.postgres_models import COLUMN_TYPES, CONSTRAINT_NAMES


class Base(DeclarativeBase):
    """Belongs to this service alone: its tables are those that its migrations make."""

    metadata = MetaData(naming_convention=CONSTRAINT_NAMES)
    type_annotation_map: ClassVar[Any] = COLUMN_TYPES
