"""`python -m local_platform COMMAND`: see `local_platform.cli.app`."""

import sys

from local_platform.cli.app import main
from local_platform.environment import keep_known_variables

if __name__ == "__main__":
    keep_known_variables()
    sys.exit(main())
