"""`python -m local_platform COMMAND`: see `local_platform.cli.app`."""

import sys

from local_platform.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
