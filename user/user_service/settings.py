"""The settings of the user service, in addition to those of every service."""

from email.headerregistry import Address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, HttpUrl, SecretStr, field_validator

from servicekit.core.settings import PostgresSettings
from servicekit.storage.postgres_migrations import DatabaseSettings


def check_email_from(value: str) -> str:
    """Return the sender of mails. Raises ValueError unless it is an address, or a name and `<address>`."""
    sender_address(value, None)
    return value


def sender_address(email_from: str, frontend_url: str | None) -> Address:
    """Return the sender; by default no-reply at the host of the frontend. Raises ValueError."""
    if not email_from:
        return Address("Baseplate", "no-reply", urlsplit(frontend_url or "").hostname or "localhost")
    name, _, rest = email_from.rpartition("<")
    try:
        address = Address(name.strip(' "'), addr_spec=rest.strip().removesuffix(">"))
    except Exception as error:  # The parser raises whatever defect it finds.
        raise ValueError("not an address such as `Acme <no-reply@acme.example>`") from error
    if not address.username or not address.domain or "\n" in email_from or "\r" in email_from:
        raise ValueError("not an address such as `Acme <no-reply@acme.example>`")
    return address


class Settings(PostgresSettings):
    """The settings of the service itself."""

    # The directory of the keys that sign access tokens. The migration job writes the first key.
    jwt_keys_dir: Path
    # Whether refresh tokens travel in a cookie, which frontends that the gateway serves can use.
    session_cookie: bool = False
    # The gateway's list of origins, which may use the cookie as well.
    cors_allowed_origins: str = ""

    @property
    def allowed_origins(self) -> frozenset[str]:
        return frozenset(self.cors_allowed_origins.lower().replace(",", " ").split())

    # `optional`: new accounts get a mail to verify their address; `required`: they cannot log in before.
    email_verification: Literal["off", "optional", "required"] = "optional"
    # The pages that links in mails lead to. Without it, mails hold the token alone.
    frontend_url: HttpUrl | None = None
    # smtp://[user:password@]host[:port] or smtps://…; without it no mail is sent.
    smtp_url: SecretStr | None = None
    email_from: Annotated[str, AfterValidator(check_email_from)] = ""
    # A folder with templates that take the place of those in `mail/templates`.
    email_templates_dir: Path | None = None

    @field_validator("smtp_url", mode="before")
    @classmethod
    def _none_if_empty(cls, value: Any) -> Any:
        """Return None for an empty text: a deployment without a mail server has an empty secret file."""
        return value or None

    @property
    def sender(self) -> Address:
        """The sender of mails."""
        return sender_address(self.email_from, str(self.frontend_url or ""))


class MigrationSettings(DatabaseSettings):
    """The settings of the migration job."""

    jwt_keys_dir: Path
