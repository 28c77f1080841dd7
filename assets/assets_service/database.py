"""The declarative base of this service's models."""

from typing import Any, ClassVar

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from servicekit.storage.postgres_models import COLUMN_TYPES, CONSTRAINT_NAMES


class Base(DeclarativeBase):
    """Base of this service's models; migrations are written from its metadata."""

    metadata = MetaData(naming_convention=CONSTRAINT_NAMES)
    type_annotation_map: ClassVar[Any] = COLUMN_TYPES
