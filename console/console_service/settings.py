"""The settings of this service: the kit's, and how much it keeps."""

from pydantic import Field

from servicekit.core.settings import ServiceSettings


class Settings(ServiceSettings):
    """All settings; see README.md."""

    # How many MiB it keeps at most of traces, log lines and metrics.
    console_memory_mb: int = Field(default=64, ge=16, le=4096)
    # The command that rotates the keys between services; without one, the page cannot.
    console_rotate_command: str = ""
