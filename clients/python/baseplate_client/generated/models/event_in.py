from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from attrs import define as _attrs_define

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.event_in_properties import EventInProperties


T = TypeVar("T", bound="EventIn")


@_attrs_define
class EventIn:
    """One event.

    Attributes:
        type_ (str):
        event_id (None | str | Unset):
        occurred_at (datetime.datetime | None | Unset): From 30 days ago to 5 minutes ahead; now, if absent.
        user_id (None | Unset | UUID): The user whom the event is about. Only services set it.
        properties (EventInProperties | Unset): At most 8192 bytes as JSON and 8 levels; no key begins with `$`.
    """

    type_: str
    event_id: None | str | Unset = UNSET
    occurred_at: datetime.datetime | None | Unset = UNSET
    user_id: None | Unset | UUID = UNSET
    properties: EventInProperties | Unset = UNSET

    def to_dict(self) -> dict[str, Any]:
        type_ = self.type_

        event_id: None | str | Unset
        if isinstance(self.event_id, Unset):
            event_id = UNSET
        else:
            event_id = self.event_id

        occurred_at: None | str | Unset
        if isinstance(self.occurred_at, Unset):
            occurred_at = UNSET
        elif isinstance(self.occurred_at, datetime.datetime):
            occurred_at = self.occurred_at.isoformat()
        else:
            occurred_at = self.occurred_at

        user_id: None | str | Unset
        if isinstance(self.user_id, Unset):
            user_id = UNSET
        elif isinstance(self.user_id, UUID):
            user_id = str(self.user_id)
        else:
            user_id = self.user_id

        properties: dict[str, Any] | Unset = UNSET
        if not isinstance(self.properties, Unset):
            properties = self.properties.to_dict()

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "type": type_,
            }
        )
        if event_id is not UNSET:
            field_dict["event_id"] = event_id
        if occurred_at is not UNSET:
            field_dict["occurred_at"] = occurred_at
        if user_id is not UNSET:
            field_dict["user_id"] = user_id
        if properties is not UNSET:
            field_dict["properties"] = properties

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.event_in_properties import EventInProperties  # noqa: PLC0415

        d = dict(src_dict)
        type_ = d.pop("type")

        def _parse_event_id(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(None | str | Unset, data)

        event_id = _parse_event_id(d.pop("event_id", UNSET))

        def _parse_occurred_at(data: object) -> datetime.datetime | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                occurred_at_type_0 = datetime.datetime.fromisoformat(data)

                return occurred_at_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(datetime.datetime | None | Unset, data)

        occurred_at = _parse_occurred_at(d.pop("occurred_at", UNSET))

        def _parse_user_id(data: object) -> None | Unset | UUID:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                user_id_type_0 = UUID(data)

                return user_id_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | Unset | UUID, data)

        user_id = _parse_user_id(d.pop("user_id", UNSET))

        _properties = d.pop("properties", UNSET)
        properties: EventInProperties | Unset
        if isinstance(_properties, Unset):
            properties = UNSET
        else:
            properties = EventInProperties.from_dict(_properties)

        event_in = cls(
            type_=type_,
            event_id=event_id,
            occurred_at=occurred_at,
            user_id=user_id,
            properties=properties,
        )

        return event_in
