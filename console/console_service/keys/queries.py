"""The keys between services, and how their rotation goes."""

import os
from collections.abc import Mapping
from typing import Any, Final

from console_service.intake.telemetry import Telemetry
from console_service.keys.rotation import KeyRotation
from console_service.keys.rules import pairs_of

COMMAND: Final = "make rotate-keys"
# Kubernetes sets it in every container.
_IN_CLUSTER: Final = "KUBERNETES_SERVICE_HOST"


class KeyQueries:
    """Reads what processes report about their keys."""

    def __init__(
        self,
        telemetry: Telemetry,
        rotation: KeyRotation,
        *,
        environment: str,
        variables: Mapping[str, str] = os.environ,
    ) -> None:
        self._telemetry = telemetry
        self._rotation = rotation
        self._command = COMMAND
        if not rotation.possible and environment == "production":
            self._command = f"{COMMAND} {'CLUSTER' if _IN_CLUSTER in variables else 'PROD'}=1"

    def keys(self) -> dict[str, Any]:
        return {
            "pairs": pairs_of(self._telemetry.replicas, self._telemetry.now()),
            "rotation": self._rotation.view(),
            "can_rotate": self._rotation.possible,
            "command": self._command,
        }
