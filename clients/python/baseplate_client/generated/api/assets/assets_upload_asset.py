from http import HTTPStatus
from typing import Any

import httpx2

from ...client import AuthenticatedClient, Client
from ...models.asset_out import AssetOut
from ...models.assets_upload_asset_files_body import AssetsUploadAssetFilesBody
from ...models.problem import Problem
from ...types import UNSET, File, Response, Unset


def _get_kwargs(
    *,
    body: AssetsUploadAssetFilesBody | File | Unset = UNSET,
    idempotency_key: None | str | Unset = UNSET,
    x_filename: str | Unset = UNSET,
) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    if not isinstance(idempotency_key, Unset):
        headers["Idempotency-Key"] = idempotency_key

    if not isinstance(x_filename, Unset):
        headers["X-Filename"] = x_filename

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/api/v1/assets",
    }

    if isinstance(body, AssetsUploadAssetFilesBody):
        _kwargs["files"] = body.to_multipart()

        headers["Content-Type"] = "multipart/form-data; boundary=+++"
    if isinstance(body, File):
        _kwargs["content"] = body.payload
        headers["Content-Type"] = "application/octet-stream"

    _kwargs["headers"] = headers
    return _kwargs


def _parse_response(*, client: AuthenticatedClient | Client, response: httpx2.Response) -> AssetOut | Problem:
    if response.status_code == 201:
        response_201 = AssetOut.from_dict(response.json())

        return response_201

    if response.status_code == 400:
        response_400 = Problem.from_dict(response.json())

        return response_400

    if response.status_code == 401:
        response_401 = Problem.from_dict(response.json())

        return response_401

    if response.status_code == 403:
        response_403 = Problem.from_dict(response.json())

        return response_403

    if response.status_code == 408:
        response_408 = Problem.from_dict(response.json())

        return response_408

    if response.status_code == 409:
        response_409 = Problem.from_dict(response.json())

        return response_409

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


def _build_response(*, client: AuthenticatedClient | Client, response: httpx2.Response) -> Response[AssetOut | Problem]:
    return Response(
        status_code=HTTPStatus(response.status_code),
        content=response.content,
        headers=response.headers,
        parsed=_parse_response(client=client, response=response),
    )


def sync_detailed(
    *,
    client: AuthenticatedClient,
    body: AssetsUploadAssetFilesBody | File | Unset = UNSET,
    idempotency_key: None | str | Unset = UNSET,
    x_filename: str | Unset = UNSET,
) -> Response[AssetOut | Problem]:
    """Upload Asset

     Store a file: PNG, JPEG, GIF, WebP, PDF, plain text, MP4, MP3 or ZIP, as its own bytes say.

    413 for a file that is too large or exceeds your quota; 415 for another type, or if the declared
    type is not the
    file's.

    Args:
        idempotency_key (None | str | Unset): Repeated requests with the same key have one effect
            and get the first response, for 24 hours.
        x_filename (str | Unset):
        body (AssetsUploadAssetFilesBody):
        body (File):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[AssetOut | Problem]
    """

    kwargs = _get_kwargs(
        body=body,
        idempotency_key=idempotency_key,
        x_filename=x_filename,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(client=client, response=response)


def sync(
    *,
    client: AuthenticatedClient,
    body: AssetsUploadAssetFilesBody | File | Unset = UNSET,
    idempotency_key: None | str | Unset = UNSET,
    x_filename: str | Unset = UNSET,
) -> AssetOut | Problem | None:
    """Upload Asset

     Store a file: PNG, JPEG, GIF, WebP, PDF, plain text, MP4, MP3 or ZIP, as its own bytes say.

    413 for a file that is too large or exceeds your quota; 415 for another type, or if the declared
    type is not the
    file's.

    Args:
        idempotency_key (None | str | Unset): Repeated requests with the same key have one effect
            and get the first response, for 24 hours.
        x_filename (str | Unset):
        body (AssetsUploadAssetFilesBody):
        body (File):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        AssetOut | Problem
    """

    return sync_detailed(
        client=client,
        body=body,
        idempotency_key=idempotency_key,
        x_filename=x_filename,
    ).parsed


async def asyncio_detailed(
    *,
    client: AuthenticatedClient,
    body: AssetsUploadAssetFilesBody | File | Unset = UNSET,
    idempotency_key: None | str | Unset = UNSET,
    x_filename: str | Unset = UNSET,
) -> Response[AssetOut | Problem]:
    """Upload Asset

     Store a file: PNG, JPEG, GIF, WebP, PDF, plain text, MP4, MP3 or ZIP, as its own bytes say.

    413 for a file that is too large or exceeds your quota; 415 for another type, or if the declared
    type is not the
    file's.

    Args:
        idempotency_key (None | str | Unset): Repeated requests with the same key have one effect
            and get the first response, for 24 hours.
        x_filename (str | Unset):
        body (AssetsUploadAssetFilesBody):
        body (File):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[AssetOut | Problem]
    """

    kwargs = _get_kwargs(
        body=body,
        idempotency_key=idempotency_key,
        x_filename=x_filename,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(client=client, response=response)


async def asyncio(
    *,
    client: AuthenticatedClient,
    body: AssetsUploadAssetFilesBody | File | Unset = UNSET,
    idempotency_key: None | str | Unset = UNSET,
    x_filename: str | Unset = UNSET,
) -> AssetOut | Problem | None:
    """Upload Asset

     Store a file: PNG, JPEG, GIF, WebP, PDF, plain text, MP4, MP3 or ZIP, as its own bytes say.

    413 for a file that is too large or exceeds your quota; 415 for another type, or if the declared
    type is not the
    file's.

    Args:
        idempotency_key (None | str | Unset): Repeated requests with the same key have one effect
            and get the first response, for 24 hours.
        x_filename (str | Unset):
        body (AssetsUploadAssetFilesBody):
        body (File):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code and Client.raise_on_unexpected_status is True.
        httpx2.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        AssetOut | Problem
    """

    return (
        await asyncio_detailed(
            client=client,
            body=body,
            idempotency_key=idempotency_key,
            x_filename=x_filename,
        )
    ).parsed
