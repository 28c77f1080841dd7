"""`python optimise.py FOLDER`: write the PNG files of a folder with few colours."""

import sys
from pathlib import Path

from PIL import Image

for path in Path(sys.argv[1]).glob("*.png"):
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(160, dither=Image.Dither.NONE).save(path, optimize=True)
