"""See `servicekit.ops.rotation.command`."""

import sys

from servicekit.ops.rotation.command import main

sys.exit(main())
