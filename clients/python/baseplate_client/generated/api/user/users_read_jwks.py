from http import HTTPStatus
from typing import Any

import httpx2

from ...client import AuthenticatedClient, Client
from ...models.problem import Problem
from ...models.users_read_jwks_response_users_read_jwks import UsersReadJwksResponseUsersReadJwks
from ...types import Response


def _get_kwargs() -> dict[str, Any]:

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/.well-known/jwks.json",
    }

    return _kwargs


def _parse_response(
    *, client: AuthenticatedClient | Client, response: httpx2.Response
) -> Problem | UsersReadJwksResponseUsersReadJwks:
    if response.status_code == 200:
        response_200 = UsersReadJwksResponseUsersReadJwks.from_dict(response.json())

        return response_200

    response_default = Problem.from_dict(response.json())

    return response_default


def _build_response(
    *, client: AuthenticatedClient | Client, response: httpx2.Response
) -> Response[Problem | UsersReadJwksResponseUsersReadJwks]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    *,
    client: AuthenticatedClient | Client,
) -> Response[Problem | UsersReadJwksResponseUsersReadJwks]:
    """Read Jwks

     Return the keys that access tokens may be signed with, as a JWK set (RFC 7517).

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | UsersReadJwksResponseUsersReadJwks]
    """

    kwargs = _get_kwargs()

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    *,
    client: AuthenticatedClient | Client,
) -> Problem | UsersReadJwksResponseUsersReadJwks | None:
    """Read Jwks

     Return the keys that access tokens may be signed with, as a JWK set (RFC 7517).

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | UsersReadJwksResponseUsersReadJwks
    """

    return sync_detailed(
        client=client,
    ).parsed


async def asyncio_detailed(
    *,
    client: AuthenticatedClient | Client,
) -> Response[Problem | UsersReadJwksResponseUsersReadJwks]:
    """Read Jwks

     Return the keys that access tokens may be signed with, as a JWK set (RFC 7517).

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | UsersReadJwksResponseUsersReadJwks]
    """

    kwargs = _get_kwargs()

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    *,
    client: AuthenticatedClient | Client,
) -> Problem | UsersReadJwksResponseUsersReadJwks | None:
    """Read Jwks

     Return the keys that access tokens may be signed with, as a JWK set (RFC 7517).

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | UsersReadJwksResponseUsersReadJwks
    """

    return (
        await asyncio_detailed(
            client=client,
        )
    ).parsed
