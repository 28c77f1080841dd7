"""The settings of this service: the kit's, and the address of its database."""

from pydantic import SecretStr

from servicekit.core.settings import ServiceSettings


class Settings(ServiceSettings):
    """All settings; see README.md."""

    # It names the database and the replica set.
    mongo_url: SecretStr
