from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, TypeVar, cast
from uuid import UUID

from attrs import define as _attrs_define
from attrs import field as _attrs_field

T = TypeVar("T", bound="NoteItem")


@_attrs_define
class NoteItem:
    """A note of a list, with its version.

    Attributes:
        id (UUID):
        title (str):
        body (str):
        tags (list[str]):
        attachments (list[UUID]):
        slug (None | str):
        created_at (datetime.datetime):
        updated_at (datetime.datetime):
        etag (str): What the header ETag of the note says; send it as If-Match.
    """

    id: UUID
    title: str
    body: str
    tags: list[str]
    attachments: list[UUID]
    slug: None | str
    created_at: datetime.datetime
    updated_at: datetime.datetime
    etag: str
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        id = str(self.id)

        title = self.title

        body = self.body

        tags = self.tags

        attachments = []
        for attachments_item_data in self.attachments:
            attachments_item = str(attachments_item_data)
            attachments.append(attachments_item)

        slug: None | str
        slug = self.slug

        created_at = self.created_at.isoformat()

        updated_at = self.updated_at.isoformat()

        etag = self.etag

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "title": title,
                "body": body,
                "tags": tags,
                "attachments": attachments,
                "slug": slug,
                "created_at": created_at,
                "updated_at": updated_at,
                "etag": etag,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        d = dict(src_dict)
        id = UUID(d.pop("id"))

        title = d.pop("title")

        body = d.pop("body")

        tags = cast(list[str], d.pop("tags"))

        attachments = []
        _attachments = d.pop("attachments")
        for attachments_item_data in _attachments:
            attachments_item = UUID(attachments_item_data)

            attachments.append(attachments_item)

        def _parse_slug(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        slug = _parse_slug(d.pop("slug"))

        created_at = datetime.datetime.fromisoformat(d.pop("created_at"))

        updated_at = datetime.datetime.fromisoformat(d.pop("updated_at"))

        etag = d.pop("etag")

        note_item = cls(
            id=id,
            title=title,
            body=body,
            tags=tags,
            attachments=attachments,
            slug=slug,
            created_at=created_at,
            updated_at=updated_at,
            etag=etag,
        )

        note_item.additional_properties = d
        return note_item

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
