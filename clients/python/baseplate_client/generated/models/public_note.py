from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define
from attrs import field as _attrs_field

if TYPE_CHECKING:
    from ..models.author import Author
    from ..models.public_attachment import PublicAttachment


T = TypeVar("T", bound="PublicNote")


@_attrs_define
class PublicNote:
    """A published note as anyone sees it.

    Attributes:
        title (str):
        body (str):
        published_at (datetime.datetime):
        author (Author | None): Null while the user service is unavailable.
        attachments (list[PublicAttachment] | None): Null while the assets service is unavailable.
    """

    title: str
    body: str
    published_at: datetime.datetime
    author: Author | None
    attachments: list[PublicAttachment] | None
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from ..models.author import Author  # noqa: PLC0415

        title = self.title

        body = self.body

        published_at = self.published_at.isoformat()

        author: dict[str, Any] | None
        if isinstance(self.author, Author):
            author = self.author.to_dict()
        else:
            author = self.author

        attachments: list[dict[str, Any]] | None
        if isinstance(self.attachments, list):
            attachments = []
            for attachments_type_0_item_data in self.attachments:
                attachments_type_0_item = attachments_type_0_item_data.to_dict()
                attachments.append(attachments_type_0_item)

        else:
            attachments = self.attachments

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "title": title,
                "body": body,
                "published_at": published_at,
                "author": author,
                "attachments": attachments,
            }
        )

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.author import Author  # noqa: PLC0415
        from ..models.public_attachment import PublicAttachment  # noqa: PLC0415

        d = dict(src_dict)
        title = d.pop("title")

        body = d.pop("body")

        published_at = datetime.datetime.fromisoformat(d.pop("published_at"))

        def _parse_author(data: object) -> Author | None:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                author_type_0 = Author.from_dict(data)

                return author_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(Author | None, data)

        author = _parse_author(d.pop("author"))

        def _parse_attachments(data: object) -> list[PublicAttachment] | None:
            if data is None:
                return data
            try:
                if not isinstance(data, list):
                    raise TypeError()
                attachments_type_0 = []
                _attachments_type_0 = data
                for attachments_type_0_item_data in _attachments_type_0:
                    attachments_type_0_item = PublicAttachment.from_dict(attachments_type_0_item_data)

                    attachments_type_0.append(attachments_type_0_item)

                return attachments_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[PublicAttachment] | None, data)

        attachments = _parse_attachments(d.pop("attachments"))

        public_note = cls(
            title=title,
            body=body,
            published_at=published_at,
            author=author,
            attachments=attachments,
        )

        public_note.additional_properties = d
        return public_note

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
