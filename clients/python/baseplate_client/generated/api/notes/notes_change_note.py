from http import HTTPStatus
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx2

from ...client import AuthenticatedClient, Client
from ...models.note_change import NoteChange
from ...models.note_out import NoteOut
from ...models.problem import Problem
from ...types import Response


def _get_kwargs(
    note_id: UUID,
    *,
    body: NoteChange,
    if_match: str,
) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    headers["If-Match"] = if_match

    _kwargs: dict[str, Any] = {
        "method": "patch",
        "url": "/api/v1/notes/{note_id}".format(
            note_id=quote(str(note_id), safe=""),
        ),
    }

    _kwargs["json"] = body.to_dict()

    headers["Content-Type"] = "application/json"

    _kwargs["headers"] = headers
    return _kwargs


def _parse_response(*, client: AuthenticatedClient | Client, response: httpx2.Response) -> NoteOut | Problem:
    if response.status_code == 200:
        response_200 = NoteOut.from_dict(response.json())

        return response_200

    if response.status_code == 400:
        response_400 = Problem.from_dict(response.json())

        return response_400

    if response.status_code == 401:
        response_401 = Problem.from_dict(response.json())

        return response_401

    if response.status_code == 403:
        response_403 = Problem.from_dict(response.json())

        return response_403

    if response.status_code == 404:
        response_404 = Problem.from_dict(response.json())

        return response_404

    if response.status_code == 412:
        response_412 = Problem.from_dict(response.json())

        return response_412

    if response.status_code == 413:
        response_413 = Problem.from_dict(response.json())

        return response_413

    if response.status_code == 415:
        response_415 = Problem.from_dict(response.json())

        return response_415

    if response.status_code == 422:
        response_422 = Problem.from_dict(response.json())

        return response_422

    if response.status_code == 428:
        response_428 = Problem.from_dict(response.json())

        return response_428

    if response.status_code == 429:
        response_429 = Problem.from_dict(response.json())

        return response_429

    if response.status_code == 503:
        response_503 = Problem.from_dict(response.json())

        return response_503

    response_default = Problem.from_dict(response.json())

    return response_default


def _build_response(*, client: AuthenticatedClient | Client, response: httpx2.Response) -> Response[NoteOut | Problem]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    note_id: UUID,
    *,
    client: AuthenticatedClient,
    body: NoteChange,
    if_match: str,
) -> Response[NoteOut | Problem]:
    """Change Note

     Change some fields of a note. Omitted fields stay as they are.

    Args:
        note_id (UUID):
        if_match (str):
        body (NoteChange): Some fields of a note. Omitted fields stay as they are; null is not
            allowed.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[NoteOut | Problem]
    """

    kwargs = _get_kwargs(
        note_id=note_id,
        body=body,
        if_match=if_match,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    note_id: UUID,
    *,
    client: AuthenticatedClient,
    body: NoteChange,
    if_match: str,
) -> NoteOut | Problem | None:
    """Change Note

     Change some fields of a note. Omitted fields stay as they are.

    Args:
        note_id (UUID):
        if_match (str):
        body (NoteChange): Some fields of a note. Omitted fields stay as they are; null is not
            allowed.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        NoteOut | Problem
    """

    return sync_detailed(
        note_id=note_id,
        client=client,
        body=body,
        if_match=if_match,
    ).parsed


async def asyncio_detailed(
    note_id: UUID,
    *,
    client: AuthenticatedClient,
    body: NoteChange,
    if_match: str,
) -> Response[NoteOut | Problem]:
    """Change Note

     Change some fields of a note. Omitted fields stay as they are.

    Args:
        note_id (UUID):
        if_match (str):
        body (NoteChange): Some fields of a note. Omitted fields stay as they are; null is not
            allowed.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[NoteOut | Problem]
    """

    kwargs = _get_kwargs(
        note_id=note_id,
        body=body,
        if_match=if_match,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    note_id: UUID,
    *,
    client: AuthenticatedClient,
    body: NoteChange,
    if_match: str,
) -> NoteOut | Problem | None:
    """Change Note

     Change some fields of a note. Omitted fields stay as they are.

    Args:
        note_id (UUID):
        if_match (str):
        body (NoteChange): Some fields of a note. Omitted fields stay as they are; null is not
            allowed.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        NoteOut | Problem
    """

    return (
        await asyncio_detailed(
            note_id=note_id,
            client=client,
            body=body,
            if_match=if_match,
        )
    ).parsed
