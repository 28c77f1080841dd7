"""Rotate the keys between services."""

from console_service.audit.actions import AuditTrail
from console_service.keys.rotation import KeyRotation
from console_service.sessions.memory import OperatorSession


class KeyActions:
    """Begins a rotation, which goes on after the request."""

    def __init__(self, rotation: KeyRotation, trail: AuditTrail) -> None:
        self._rotation = rotation
        self._trail = trail

    async def rotate(self, operator: OperatorSession) -> None:
        """Begin. Raises `RotationRunning`, `NotFound` without a command, and `AuditUnavailable`."""
        self._rotation.reserve()
        try:
            entry = await self._trail.begin(operator, "keys.rotate", "all pairs")
        except BaseException:
            self._rotation.release()
            raise

        async def finish(succeeded: bool) -> None:
            await self._trail.finish(entry, "done" if succeeded else "failed")

        self._rotation.start(finish)
