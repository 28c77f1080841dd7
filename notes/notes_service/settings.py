"""The settings of this service: the kit's, and the address of its database."""

from pydantic import SecretStr

from servicekit.core.settings import ServiceSettings


class Settings(ServiceSettings):
    """All settings; see README.md."""

    # With the name of the database and of the replica set.
    mongo_url: SecretStr
