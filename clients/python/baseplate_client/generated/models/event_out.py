from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.event_out_properties import EventOutProperties


T = TypeVar("T", bound="EventOut")


@_attrs_define
class EventOut:
    """A recorded event. `sender` is the id of a user or the name of a service.

    Attributes:
        event_id (str):
        type_ (str):
        occurred_at (datetime.datetime):
        received_at (datetime.datetime):
        sender (str):
        user_id (None | UUID):
        properties (EventOutProperties):
    """

    event_id: str
    type_: str
    occurred_at: datetime.datetime
    received_at: datetime.datetime
    sender: str
    user_id: None | UUID
    properties: EventOutProperties
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        event_id = self.event_id

        type_ = self.type_

        occurred_at = self.occurred_at.isoformat()

        received_at = self.received_at.isoformat()

        sender = self.sender

        user_id: None | str
        if isinstance(self.user_id, UUID):
            user_id = str(self.user_id)
        else:
            user_id = self.user_id

        properties = self.properties.to_dict()

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "event_id": event_id,
                "type": type_,
                "occurred_at": occurred_at,
                "received_at": received_at,
                "sender": sender,
                "user_id": user_id,
                "properties": properties,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.event_out_properties import EventOutProperties  # noqa: PLC0415

        d = dict(src_dict)
        event_id = d.pop("event_id")

        type_ = d.pop("type")

        occurred_at = datetime.datetime.fromisoformat(d.pop("occurred_at"))

        received_at = datetime.datetime.fromisoformat(d.pop("received_at"))

        sender = d.pop("sender")

        def _parse_user_id(data: object) -> None | UUID:
            if data is None:
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                user_id_type_0 = UUID(data)

                return user_id_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | UUID, data)

        user_id = _parse_user_id(d.pop("user_id"))

        properties = EventOutProperties.from_dict(d.pop("properties"))

        event_out = cls(
            event_id=event_id,
            type_=type_,
            occurred_at=occurred_at,
            received_at=received_at,
            sender=sender,
            user_id=user_id,
            properties=properties,
        )

        event_out.additional_properties = d
        return event_out

    @property
    def additional_keys(self) -> list[str]:
        return list(self.additional_properties.keys())

    def __getitem__(self, key: str) -> Any:
        return self.additional_properties[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.additional_properties[key] = value

    def __delitem__(self, key: str) -> None:
        del self.additional_properties[key]

    def __contains__(self, key: str) -> bool:
        return key in self.additional_properties
