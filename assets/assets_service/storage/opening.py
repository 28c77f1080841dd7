"""The choice of the store by the settings."""

from datetime import timedelta
from typing import Any, Final

import obstore.store
from pydantic import SecretStr

from assets_service.settings import StoreSettings
from assets_service.storage.bucket import BucketStore
from assets_service.storage.folder import FolderStore
from assets_service.storage.interface import ByteStore

# Of one request to the bucket, which carries one part of an upload at most.
REQUEST_TIMEOUT: Final = "30s"
CONNECT_TIMEOUT: Final = "3s"
RETRY_SECONDS: Final = 10


def open_store(settings: StoreSettings) -> ByteStore:
    """Return the bucket if the settings name one, otherwise the folder, which is created if it is missing."""
    if settings.assets_store_url is None:
        return FolderStore(settings.assets_dir.expanduser().absolute())
    return BucketStore(
        obstore.store.from_url(
            settings.assets_store_url,
            config=_config(settings),
            client_options={
                "timeout": REQUEST_TIMEOUT,
                "connect_timeout": CONNECT_TIMEOUT,
                # Without TLS if the operator's endpoint is without it.
                "allow_http": (settings.aws_endpoint_url or "").startswith("http://"),
            },
            # The default of three minutes is longer than clients wait.
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
        )
    )


def _config(settings: StoreSettings) -> Any:
    values = {
        "access_key_id": settings.aws_access_key_id,
        "secret_access_key": settings.aws_secret_access_key,
        "session_token": settings.aws_session_token,
        "region": settings.aws_region,
        "endpoint": settings.aws_endpoint_url,
    }
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in values.items()
        if value is not None
    }
