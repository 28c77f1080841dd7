"""Scripts lie beside what they are made of, so their folder is where they import from."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
