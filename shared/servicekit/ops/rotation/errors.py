"""Errors of a rotation. Keys written until then stay valid: every key in use is held by all workers.

RotationError
├── AlreadyRotating   another rotation runs on the same keys
├── WorkersDisagree   some workers did not load the keys in time
└── FleetUnknown      the addresses of the replicas are not known
"""


class RotationError(Exception):
    """The text is shown to the user without a traceback."""


class AlreadyRotating(RotationError):
    pass


class WorkersDisagree(RotationError):
    pass


class FleetUnknown(RotationError):
    pass
