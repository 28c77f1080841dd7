"""The settings of this service."""

from pathlib import Path

from pydantic import Field

from servicekit.core.settings import ServiceSettings


class Settings(ServiceSettings):
    """All settings; see README.md."""

    # What it keeps of telemetry, in megabytes.
    console_memory_mb: int = Field(default=64, ge=16, le=4096)
    # The command that rotates the keys between services; without one, the console only says how to do it.
    console_rotate_command: str = ""
    # The folder of the mails that `make run` keeps.
    mail_dir: Path | None = None
