"""What can keep the platform from starting. Each message says what happened and what to do about it.

LaunchError
├── InvalidOption          an option has a value that cannot work
├── PortTaken              another program listens on the gateway's port
├── DataDirectoryInUse     another launcher runs on the same DATA_DIR
├── DataDirectoryUnusable  DATA_DIR cannot be written, or its secrets do not fit its data
├── DiskFull               a store found no room
├── ServerMissing          no wheel, no binary on PATH and no URL for a server
├── LibraryMissing         a server's binary needs a shared library that the machine lacks
├── JobFailed              a job that has to succeed first, such as a migration, failed
└── ProcessFailed            a process did not become ready
"""


class LaunchError(Exception):
    """The platform cannot start or go on. Its text is shown to the user without a traceback."""


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
