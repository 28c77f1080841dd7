"""See `servicekit.rotation.command`."""

import sys

from servicekit.rotation.command import main

sys.exit(main())
