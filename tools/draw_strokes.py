"""Draw data/strokes.npz again, and print the digests that `tfae.data` holds it to.

python tools/draw_strokes.py
"""

from pathlib import Path

import numpy as np

from tfae.data import digest, make_strokes
from tfae.files import written_whole

PATH = Path(__file__).resolve().parent.parent / "data" / "strokes.npz"


def main() -> None:
    arrays = make_strokes()
    with written_whole(PATH) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    for key, array in arrays.items():
        print(f'"{key}": "{digest(array)}",')


if __name__ == "__main__":
    main()
