"""The keys between services, and how their rotation goes."""

from typing import Any, Final

from console_service.intake.telemetry import Telemetry
from console_service.keys.rotation import KeyRotation
from console_service.keys.rules import pairs_of

COMMAND: Final = "make rotate-keys"


class KeyQueries:
    """Reads what processes report about their keys."""

    def __init__(self, telemetry: Telemetry, rotation: KeyRotation) -> None:
        self._telemetry = telemetry
        self._rotation = rotation

    def keys(self) -> dict[str, Any]:
        return {
            "pairs": pairs_of(self._telemetry.replicas, self._telemetry.now()),
            "rotation": self._rotation.view(),
            "can_rotate": self._rotation.possible,
            "command": COMMAND,
        }
