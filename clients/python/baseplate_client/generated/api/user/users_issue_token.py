from http import HTTPStatus
from typing import Any

import httpx2

from ...client import AuthenticatedClient, Client
from ...models.problem import Problem
from ...models.token_response import TokenResponse
from ...models.users_issue_token_client_credentials_grant import UsersIssueTokenClientCredentialsGrant
from ...models.users_issue_token_password_grant import UsersIssueTokenPasswordGrant
from ...models.users_issue_token_refresh_grant import UsersIssueTokenRefreshGrant
from ...types import Response


def _get_kwargs(
    *,
    body: UsersIssueTokenClientCredentialsGrant | UsersIssueTokenPasswordGrant | UsersIssueTokenRefreshGrant,
) -> dict[str, Any]:
    headers: dict[str, Any] = {}

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/api/v1/users/token",
    }

    _kwargs["data"] = body.to_dict()
    headers["Content-Type"] = "application/x-www-form-urlencoded"

    _kwargs["headers"] = headers
    return _kwargs


def _parse_response(*, client: AuthenticatedClient | Client, response: httpx2.Response) -> Problem | TokenResponse:
    if response.status_code == 200:
        response_200 = TokenResponse.from_dict(response.json())

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

    if response.status_code == 413:
        response_413 = Problem.from_dict(response.json())

        return response_413

    if response.status_code == 415:
        response_415 = Problem.from_dict(response.json())

        return response_415

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
) -> Response[Problem | TokenResponse]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    *,
    client: AuthenticatedClient | Client,
    body: UsersIssueTokenClientCredentialsGrant | UsersIssueTokenPasswordGrant | UsersIssueTokenRefreshGrant,
) -> Response[Problem | TokenResponse]:
    """Issue Token

     Log in, refresh, or exchange an API key, by a form of OAuth 2.

    The grant types are `password`, `refresh_token` and `client_credentials`. An API key gets an access
    token alone.

    Args:
        body (UsersIssueTokenClientCredentialsGrant | UsersIssueTokenPasswordGrant |
            UsersIssueTokenRefreshGrant):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | TokenResponse]
    """

    kwargs = _get_kwargs(
        body=body,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    *,
    client: AuthenticatedClient | Client,
    body: UsersIssueTokenClientCredentialsGrant | UsersIssueTokenPasswordGrant | UsersIssueTokenRefreshGrant,
) -> Problem | TokenResponse | None:
    """Issue Token

     Log in, refresh, or exchange an API key, by a form of OAuth 2.

    The grant types are `password`, `refresh_token` and `client_credentials`. An API key gets an access
    token alone.

    Args:
        body (UsersIssueTokenClientCredentialsGrant | UsersIssueTokenPasswordGrant |
            UsersIssueTokenRefreshGrant):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | TokenResponse
    """

    return sync_detailed(
        client=client,
        body=body,
    ).parsed


async def asyncio_detailed(
    *,
    client: AuthenticatedClient | Client,
    body: UsersIssueTokenClientCredentialsGrant | UsersIssueTokenPasswordGrant | UsersIssueTokenRefreshGrant,
) -> Response[Problem | TokenResponse]:
    """Issue Token

     Log in, refresh, or exchange an API key, by a form of OAuth 2.

    The grant types are `password`, `refresh_token` and `client_credentials`. An API key gets an access
    token alone.

    Args:
        body (UsersIssueTokenClientCredentialsGrant | UsersIssueTokenPasswordGrant |
            UsersIssueTokenRefreshGrant):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[Problem | TokenResponse]
    """

    kwargs = _get_kwargs(
        body=body,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    *,
    client: AuthenticatedClient | Client,
    body: UsersIssueTokenClientCredentialsGrant | UsersIssueTokenPasswordGrant | UsersIssueTokenRefreshGrant,
) -> Problem | TokenResponse | None:
    """Issue Token

     Log in, refresh, or exchange an API key, by a form of OAuth 2.

    The grant types are `password`, `refresh_token` and `client_credentials`. An API key gets an access
    token alone.

    Args:
        body (UsersIssueTokenClientCredentialsGrant | UsersIssueTokenPasswordGrant |
            UsersIssueTokenRefreshGrant):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Problem | TokenResponse
    """

    return (
        await asyncio_detailed(
            client=client,
            body=body,
        )
    ).parsed
