"""A replica that sends its mails to a real server."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import HttpUrl, SecretStr

from servicekit.testing.harness import Deployment
from user.tests.mail.mailbox import Mailbox, serving

FRONTEND = "https://app.example"


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with serving(Mailbox()) as mailbox:
        yield mailbox


@pytest.fixture
async def mailing(deployment: Deployment[Any, Any], mailbox: Mailbox, valkey_url: str) -> AsyncIterator[Any]:
    """A replica that sends mails to `mailbox`. Valkey is empty."""
    settings = {"smtp_url": SecretStr(mailbox.url), "frontend_url": HttpUrl(FRONTEND)}
    async with deployment.replica(**settings) as replica:
        yield replica
    deployment.clock.reset()
