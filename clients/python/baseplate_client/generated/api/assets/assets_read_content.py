from http import HTTPStatus
from io import BytesIO
from typing import Any, cast
from urllib.parse import quote
from uuid import UUID

import httpx2

from ...client import AuthenticatedClient, Client
from ...models.problem import Problem
from ...types import UNSET, File, Response, Unset


def _get_kwargs(
    asset_id: UUID,
    *,
    inline: bool | Unset = False,
    expires: None | str | Unset = UNSET,
    signature: None | str | Unset = UNSET,
    note: None | str | Unset = UNSET,
) -> dict[str, Any]:

    params: dict[str, Any] = {}

    params["inline"] = inline

    json_expires: None | str | Unset
    if isinstance(expires, Unset):
        json_expires = UNSET
    else:
        json_expires = expires
    params["expires"] = json_expires

    json_signature: None | str | Unset
    if isinstance(signature, Unset):
        json_signature = UNSET
    else:
        json_signature = signature
    params["signature"] = json_signature

    json_note: None | str | Unset
    if isinstance(note, Unset):
        json_note = UNSET
    else:
        json_note = note
    params["note"] = json_note

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/api/v1/assets/{asset_id}/content".format(
            asset_id=quote(str(asset_id), safe=""),
        ),
        "params": params,
    }

    return _kwargs


def _parse_response(*, client: AuthenticatedClient | Client, response: httpx2.Response) -> Any | File | Problem:
    if response.status_code == 200:
        response_200 = File(payload=BytesIO(response.content))

        return response_200

    if response.status_code == 206:
        response_206 = File(payload=BytesIO(response.content))

        return response_206

    if response.status_code == 304:
        response_304 = cast(Any, None)
        return response_304

    if response.status_code == 401:
        response_401 = Problem.from_dict(response.json())

        return response_401

    if response.status_code == 403:
        response_403 = Problem.from_dict(response.json())

        return response_403

    if response.status_code == 404:
        response_404 = Problem.from_dict(response.json())

        return response_404

    if response.status_code == 416:
        response_416 = Problem.from_dict(response.json())

        return response_416

    if response.status_code == 422:
        response_422 = Problem.from_dict(response.json())

        return response_422

    if response.status_code == 429:
        response_429 = Problem.from_dict(response.json())

        return response_429

    if response.status_code == 503:
        response_503 = Problem.from_dict(response.json())

        return response_503

    response_default = Problem.from_dict(response.json())

    return response_default


def _build_response(
    *, client: AuthenticatedClient | Client, response: httpx2.Response
) -> Response[Any | File | Problem]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    asset_id: UUID,
    *,
    client: AuthenticatedClient,
    inline: bool | Unset = False,
    expires: None | str | Unset = UNSET,
    signature: None | str | Unset = UNSET,
    note: None | str | Unset = UNSET,
) -> Response[Any | File | Problem]:
    """Read Content

     Return a file's content or parts of it. A link needs no token, nor does a published note.

    Args:
        asset_id (UUID):
        inline (bool | Unset): Let browsers show a PNG, JPEG, GIF or WebP. Default: False.
        expires (None | str | Unset): Part of a link.
        signature (None | str | Unset): Part of a link.
        note (None | str | Unset): The slug of a published note with the file.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Any | File | Problem]
    """

    kwargs = _get_kwargs(
        asset_id=asset_id,
        inline=inline,
        expires=expires,
        signature=signature,
        note=note,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    asset_id: UUID,
    *,
    client: AuthenticatedClient,
    inline: bool | Unset = False,
    expires: None | str | Unset = UNSET,
    signature: None | str | Unset = UNSET,
    note: None | str | Unset = UNSET,
) -> Any | File | Problem | None:
    """Read Content

     Return a file's content or parts of it. A link needs no token, nor does a published note.

    Args:
        asset_id (UUID):
        inline (bool | Unset): Let browsers show a PNG, JPEG, GIF or WebP. Default: False.
        expires (None | str | Unset): Part of a link.
        signature (None | str | Unset): Part of a link.
        note (None | str | Unset): The slug of a published note with the file.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Any | File | Problem
    """

    return sync_detailed(
        asset_id=asset_id,
        client=client,
        inline=inline,
        expires=expires,
        signature=signature,
        note=note,
    ).parsed


async def asyncio_detailed(
    asset_id: UUID,
    *,
    client: AuthenticatedClient,
    inline: bool | Unset = False,
    expires: None | str | Unset = UNSET,
    signature: None | str | Unset = UNSET,
    note: None | str | Unset = UNSET,
) -> Response[Any | File | Problem]:
    """Read Content

     Return a file's content or parts of it. A link needs no token, nor does a published note.

    Args:
        asset_id (UUID):
        inline (bool | Unset): Let browsers show a PNG, JPEG, GIF or WebP. Default: False.
        expires (None | str | Unset): Part of a link.
        signature (None | str | Unset): Part of a link.
        note (None | str | Unset): The slug of a published note with the file.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Any | File | Problem]
    """

    kwargs = _get_kwargs(
        asset_id=asset_id,
        inline=inline,
        expires=expires,
        signature=signature,
        note=note,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    asset_id: UUID,
    *,
    client: AuthenticatedClient,
    inline: bool | Unset = False,
    expires: None | str | Unset = UNSET,
    signature: None | str | Unset = UNSET,
    note: None | str | Unset = UNSET,
) -> Any | File | Problem | None:
    """Read Content

     Return a file's content or parts of it. A link needs no token, nor does a published note.

    Args:
        asset_id (UUID):
        inline (bool | Unset): Let browsers show a PNG, JPEG, GIF or WebP. Default: False.
        expires (None | str | Unset): Part of a link.
        signature (None | str | Unset): Part of a link.
        note (None | str | Unset): The slug of a published note with the file.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Any | File | Problem
    """

    return (
        await asyncio_detailed(
            asset_id=asset_id,
            client=client,
            inline=inline,
            expires=expires,
            signature=signature,
            note=note,
        )
    ).parsed
