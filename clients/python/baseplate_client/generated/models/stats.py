from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.stats_by_type import StatsByType


T = TypeVar("T", bound="Stats")


@_attrs_define
class Stats:
    """The totals of all recorded events.

    Attributes:
        total (int):
        by_type (StatsByType):
        unique_users (int):
        user_count (int | None):
        user_count_reason (None | str):
    """

    total: int
    by_type: StatsByType
    unique_users: int
    user_count: int | None
    user_count_reason: None | str
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        total = self.total

        by_type = self.by_type.to_dict()

        unique_users = self.unique_users

        user_count: int | None
        user_count = self.user_count

        user_count_reason: None | str
        user_count_reason = self.user_count_reason

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "total": total,
                "by_type": by_type,
                "unique_users": unique_users,
                "user_count": user_count,
                "user_count_reason": user_count_reason,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.stats_by_type import StatsByType  # noqa: PLC0415

        d = dict(src_dict)
        total = d.pop("total")

        by_type = StatsByType.from_dict(d.pop("by_type"))

        unique_users = d.pop("unique_users")

        def _parse_user_count(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        user_count = _parse_user_count(d.pop("user_count"))

        def _parse_user_count_reason(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        user_count_reason = _parse_user_count_reason(d.pop("user_count_reason"))

        stats = cls(
            total=total,
            by_type=by_type,
            unique_users=unique_users,
            user_count=user_count,
            user_count_reason=user_count_reason,
        )

        stats.additional_properties = d
        return stats

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
