"""Why a rotation cannot begin or go on. What it has written until then stays valid: every key in use is held by all.

RotationError
├── AlreadyRotating   another rotation runs on the same keys
├── WorkersDisagree   some workers did not take up the keys in time
└── FleetUnknown      nobody says where the replicas are
"""


class RotationError(Exception):
    """The text is shown to the user without a traceback."""


class AlreadyRotating(RotationError):
    pass


class WorkersDisagree(RotationError):
    pass


class FleetUnknown(RotationError):
    pass
