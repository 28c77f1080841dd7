"""Errors whose text is shown to the user without a traceback. Each says what happened and what to do about it.

UserError
├── NotRunning             a command needs a running platform
├── MigrationFailed        the existing migrations of a service cannot run
├── GeneratorError         a new service cannot be written (new_service)
└── LaunchError            the platform cannot start or go on
    ├── InvalidOption          an option has a value that cannot work
    ├── PortTaken              another program listens on the gateway's port
    ├── DataDirectoryInUse     another launcher runs on the same DATA_DIR
    ├── DataDirectoryUnusable  DATA_DIR cannot be written, or its secrets do not fit its data
    ├── DiskFull               a store found no room
    ├── ServerMissing          no wheel, no binary on PATH and no URL for a server
    ├── LibraryMissing         a server's binary needs a shared library that the machine lacks
    ├── JobFailed              a job that must succeed first, such as a migration, failed
    └── ProcessFailed          a process did not become ready
"""


class UserError(Exception):
    """An error whose text is for the user."""


class NotRunning(UserError):
    pass


class MigrationFailed(UserError):
    pass


class GeneratorError(UserError):
    pass


class LaunchError(UserError):
    """The platform cannot start or go on."""


class InvalidOption(LaunchError):
    pass


class PortTaken(LaunchError):
    pass


class DataDirectoryInUse(LaunchError):
    pass


class DataDirectoryUnusable(LaunchError):
    pass


class DiskFull(LaunchError):
    pass


class ServerMissing(LaunchError):
    pass


class LibraryMissing(LaunchError):
    pass


class JobFailed(LaunchError):
    pass


class ProcessFailed(LaunchError):
    pass
