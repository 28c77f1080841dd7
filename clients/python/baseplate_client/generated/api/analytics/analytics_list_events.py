import datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx2

from ...client import AuthenticatedClient, Client
from ...models.page_event_out import PageEventOut
from ...models.problem import Problem
from ...types import UNSET, Response, Unset


def _get_kwargs(
    *,
    type_: None | str | Unset = UNSET,
    since: datetime.datetime | None | Unset = UNSET,
    until: datetime.datetime | None | Unset = UNSET,
    user_id: None | Unset | UUID = UNSET,
    limit: int | Unset = 20,
    cursor: None | str | Unset = UNSET,
) -> dict[str, Any]:

    params: dict[str, Any] = {}

    json_type_: None | str | Unset
    if isinstance(type_, Unset):
        json_type_ = UNSET
    else:
        json_type_ = type_
    params["type"] = json_type_

    json_since: None | str | Unset
    if isinstance(since, Unset):
        json_since = UNSET
    elif isinstance(since, datetime.datetime):
        json_since = since.isoformat()
    else:
        json_since = since
    params["since"] = json_since

    json_until: None | str | Unset
    if isinstance(until, Unset):
        json_until = UNSET
    elif isinstance(until, datetime.datetime):
        json_until = until.isoformat()
    else:
        json_until = until
    params["until"] = json_until

    json_user_id: None | str | Unset
    if isinstance(user_id, Unset):
        json_user_id = UNSET
    elif isinstance(user_id, UUID):
        json_user_id = str(user_id)
    else:
        json_user_id = user_id
    params["user_id"] = json_user_id

    params["limit"] = limit

    json_cursor: None | str | Unset
    if isinstance(cursor, Unset):
        json_cursor = UNSET
    else:
        json_cursor = cursor
    params["cursor"] = json_cursor

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/api/v1/analytics/events",
        "params": params,
    }

    return _kwargs


def _parse_response(*, client: AuthenticatedClient | Client, response: httpx2.Response) -> PageEventOut | Problem:
    if response.status_code == 200:
        response_200 = PageEventOut.from_dict(response.json())

        return response_200

    if response.status_code == 401:
        response_401 = Problem.from_dict(response.json())

        return response_401

    if response.status_code == 403:
        response_403 = Problem.from_dict(response.json())

        return response_403

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
) -> Response[PageEventOut | Problem]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    *,
    client: AuthenticatedClient,
    type_: None | str | Unset = UNSET,
    since: datetime.datetime | None | Unset = UNSET,
    until: datetime.datetime | None | Unset = UNSET,
    user_id: None | Unset | UUID = UNSET,
    limit: int | Unset = 20,
    cursor: None | str | Unset = UNSET,
) -> Response[PageEventOut | Problem]:
    """List Events

     List your own events, the newest first. Administrators see those of all users.

    Args:
        type_ (None | str | Unset):
        since (datetime.datetime | None | Unset): From this time on.
        until (datetime.datetime | None | Unset): Before this time.
        user_id (None | Unset | UUID): List the events of this user. For administrators.
        limit (int | Unset): The largest number of items. Default: 20.
        cursor (None | str | Unset): `next_cursor` of the page before; none for the first.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[PageEventOut | Problem]
    """

    kwargs = _get_kwargs(
        type_=type_,
        since=since,
        until=until,
        user_id=user_id,
        limit=limit,
        cursor=cursor,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    *,
    client: AuthenticatedClient,
    type_: None | str | Unset = UNSET,
    since: datetime.datetime | None | Unset = UNSET,
    until: datetime.datetime | None | Unset = UNSET,
    user_id: None | Unset | UUID = UNSET,
    limit: int | Unset = 20,
    cursor: None | str | Unset = UNSET,
) -> PageEventOut | Problem | None:
    """List Events

     List your own events, the newest first. Administrators see those of all users.

    Args:
        type_ (None | str | Unset):
        since (datetime.datetime | None | Unset): From this time on.
        until (datetime.datetime | None | Unset): Before this time.
        user_id (None | Unset | UUID): List the events of this user. For administrators.
        limit (int | Unset): The largest number of items. Default: 20.
        cursor (None | str | Unset): `next_cursor` of the page before; none for the first.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        PageEventOut | Problem
    """

    return sync_detailed(
        client=client,
        type_=type_,
        since=since,
        until=until,
        user_id=user_id,
        limit=limit,
        cursor=cursor,
    ).parsed


async def asyncio_detailed(
    *,
    client: AuthenticatedClient,
    type_: None | str | Unset = UNSET,
    since: datetime.datetime | None | Unset = UNSET,
    until: datetime.datetime | None | Unset = UNSET,
    user_id: None | Unset | UUID = UNSET,
    limit: int | Unset = 20,
    cursor: None | str | Unset = UNSET,
) -> Response[PageEventOut | Problem]:
    """List Events

     List your own events, the newest first. Administrators see those of all users.

    Args:
        type_ (None | str | Unset):
        since (datetime.datetime | None | Unset): From this time on.
        until (datetime.datetime | None | Unset): Before this time.
        user_id (None | Unset | UUID): List the events of this user. For administrators.
        limit (int | Unset): The largest number of items. Default: 20.
        cursor (None | str | Unset): `next_cursor` of the page before; none for the first.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[PageEventOut | Problem]
    """

    kwargs = _get_kwargs(
        type_=type_,
        since=since,
        until=until,
        user_id=user_id,
        limit=limit,
        cursor=cursor,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    *,
    client: AuthenticatedClient,
    type_: None | str | Unset = UNSET,
    since: datetime.datetime | None | Unset = UNSET,
    until: datetime.datetime | None | Unset = UNSET,
    user_id: None | Unset | UUID = UNSET,
    limit: int | Unset = 20,
    cursor: None | str | Unset = UNSET,
) -> PageEventOut | Problem | None:
    """List Events

     List your own events, the newest first. Administrators see those of all users.

    Args:
        type_ (None | str | Unset):
        since (datetime.datetime | None | Unset): From this time on.
        until (datetime.datetime | None | Unset): Before this time.
        user_id (None | Unset | UUID): List the events of this user. For administrators.
        limit (int | Unset): The largest number of items. Default: 20.
        cursor (None | str | Unset): `next_cursor` of the page before; none for the first.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        PageEventOut | Problem
    """

    return (
        await asyncio_detailed(
            client=client,
            type_=type_,
            since=since,
            until=until,
            user_id=user_id,
            limit=limit,
            cursor=cursor,
        )
    ).parsed
