"""Draw data/strokes.npz again, print the digests that `tfae.data` holds it to, and show what each factor does.

python tools/draw_strokes.py
"""

from pathlib import Path

import numpy as np

from tfae import plot, strokes
from tfae.data import digest, make_strokes
from tfae.files import written_whole

ROOT = Path(__file__).resolve().parent.parent
PLAIN = {"class": 5, "slant": 5, "rotation": 0, "thickness": 2.4, "aspect": 1, "size": 16, "style": 0}
VARIED = {
    "class": np.arange(10),
    "slant": np.linspace(-18, 38, 10),
    "rotation": np.linspace(-22, 22, 10),
    "thickness": np.linspace(1.1, 4.4, 10),
    "aspect": np.linspace(0.7, 1.3, 10),
    "size": np.linspace(12, 19, 10),
    "style": np.arange(10) % strokes.N_STYLES,
}


def main() -> None:
    arrays = make_strokes()
    with written_whole(ROOT / "data" / "strokes.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    for key, array in arrays.items():
        print(f'"{key}": "{digest(array)}",')
    rows = {name: one_at_a_time(name, values) for name, values in VARIED.items()}
    with written_whole(ROOT / "docs" / "strokes.png") as temporary:
        plot.image_rows(rows, scale=0.8).savefig(temporary)


def one_at_a_time(name: str, values: np.ndarray) -> np.ndarray:
    """Draw the same digit, by the same hand, with one factor changed; styles of two digits share a row."""
    images = []
    for i, value in enumerate(values):
        digit = {"class": 5 if i < strokes.N_STYLES else 2} if name == "style" else {}
        factors = PLAIN | digit | {name: float(value)}
        images.append(strokes.draw(np.array([[factors[factor] for factor in strokes.FACTOR_NAMES]]), seed=3)[0] / 255)
    return np.array(images)


if __name__ == "__main__":
    main()
