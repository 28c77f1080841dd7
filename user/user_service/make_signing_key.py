"""`python -m user_service.make_signing_key DIRECTORY`: write a first key that signs access tokens, if none exists.

The migration job does so, too. This is for a platform where that job may not write the directory.
"""

import sys
from pathlib import Path

from user_service.tokens.signing_keys import ensure_signing_key

if __name__ == "__main__":
    ensure_signing_key(Path(sys.argv[1]))
