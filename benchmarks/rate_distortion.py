"""How many bits does an autoencoder's code take, beside PCA with the same coder, JPEG, WebP and PNG?

    TFAE_DATA_DIR=... python benchmarks/rate_distortion.py [--data mnist] [--images 500]

Each image is written as bytes and made again from them. A line of the table gives the bits per pixel at three qualities
(peak signal-to-noise ratio, dB) and the BD-rate against JPEG: how many more bits at the same quality, on average over
all qualities that both reach; -20 % is a fifth fewer.

- **Small images**, 28 x 28, held-out ones of a set on which PCA and autoencoder were fitted. JPEG and WebP get all
  images on one sheet: a file for each would be headers, mostly. PCA and autoencoder have several sizes of code, and
  each steps of the quantiser; of these settings those are used that were best for 500 training images (on their Pareto
  front), for both methods alike. The receiver's decoder is not counted: 550,000 weights, PCA up to 100,000 numbers.
- **Large images**, the two photographs that scikit-learn brings, 427 x 640 pixels in colour. PCA and autoencoder are
  fitted to patches of one and write the other, patch by patch. JPEG is given both of its ways of keeping colours, and
  the photographs were JPEG files before, which helps it. A general coder wins here, and that is the point of the row:
  a network of one photograph is no codec. Networks that are trained for the bits, on many, are [1].

About ten minutes on two cores.

[1] J. Ballé, V. Laparra and E. P. Simoncelli, "End-to-end optimized image compression", ICLR 2017, arXiv:1611.01704.
"""

import argparse
import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tfae import compression, data, models  # first of all: it keeps TensorFlow quiet
from tfae.compression import Rate

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

QUALITIES = (1, 2, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95)
STEPS = np.geomspace(0.15, 3, 9)  # of the quantiser, over the mean standard deviation of the code's units
SMALL, LARGE = (4, 8, 16, 32, 64, 128), (3, 6, 12, 24, 48, 96)  # sizes of a code
PATCH, PATCHES, COLUMNS = 8, 40_000, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=("mnist", "fashion_mnist", "strokes"))
    parser.add_argument("--images", type=int, default=500, help="rounded to rows of 20")
    arguments = parser.parse_args()
    small(arguments.data, arguments.images)
    large()


def small(name: str, images: int) -> None:
    dataset = data.load(name)
    x, chosen_on, x_train = dataset.x_test[: images // COLUMNS * COLUMNS], dataset.x_train[:500], dataset.x_train[500:]
    curves = {
        "JPEG, one sheet": compression.jpeg_rates(x, QUALITIES),
        "WebP, one sheet": [pillow(sheet(x), "webp", quality=q, method=6) for q in QUALITIES],
        "PCA": best(partial(models.pca_autoencoder, x_train), SMALL, chosen_on, x),
        "autoencoder": best(partial(trained, x_train, hidden=(512, 256), output="sigmoid"), SMALL, chosen_on, x),
    }
    lossless = 8 * len(file_of(sheet(x), "png", optimize=True)) / x.size
    report(f"{name}, {len(x)} held-out images of 28 x 28", curves, (18, 20, 22), lossless)


def large() -> None:
    pictures = [image[: len(image) // PATCH * PATCH].astype("float32") / 255 for image in load_sample_images().images]
    for title, seen, x in (("china", pictures[1], pictures[0]), ("flower", pictures[0], pictures[1])):
        x_train, chosen_on, patches = random_patches(seen), in_patches(seen), in_patches(x)
        network = partial(trained, x_train, hidden=(256,), output="linear")
        curves = {
            "JPEG, 4:4:4": [pillow(x, "jpeg", quality=q, subsampling=0, optimize=True) for q in QUALITIES],
            "JPEG, 4:2:0": [pillow(x, "jpeg", quality=q, subsampling=2, optimize=True) for q in QUALITIES],
            "WebP": [pillow(x, "webp", quality=q, method=6) for q in QUALITIES],
            "PCA of patches": best(partial(models.pca_autoencoder, x_train), LARGE, chosen_on, patches),
            "autoencoder of patches": best(network, LARGE, chosen_on, patches),
        }
        lossless = 8 * len(file_of(x, "png", optimize=True)) / (x.size / 3)
        report(f"{title}, {len(x)} x {x.shape[1]} pixels in colour", curves, (24, 28, 32), lossless)


def report(title: str, curves: dict[str, list[Rate]], levels: Sequence[float], lossless: float) -> None:
    print(f"\n{title}\n{'':<24}" + "".join(f"{f'{level} dB':>9}" for level in levels) + f"{'BD-rate':>10}{'over':>14}")
    reference = next(iter(curves.values()))
    for name, points in curves.items():
        order = np.argsort([point.psnr for point in points])
        psnr, bits = (np.array([getattr(points[i], key) for i in order]) for key in ("psnr", "bits_per_pixel"))
        row = "".join(
            f"{np.exp(np.interp(level, psnr, np.log(bits))):>9.3f}" if psnr[0] <= level <= psnr[-1] else f"{'-':>9}"
            for level in levels
        )
        shared = max(psnr[0], min(p.psnr for p in reference)), min(psnr[-1], max(p.psnr for p in reference))
        row += f"{compression.bd_rate(points, reference):>+10.1%}{f'{shared[0]:.1f}-{shared[1]:.1f} dB':>14}"
        print(f"{name:<24}{row}", flush=True)
    print(f"PNG, which loses nothing: {lossless:.3f} bits per pixel", flush=True)


def best(make: Callable[[int], Any], sizes: Sequence[int], chosen_on: np.ndarray, x: np.ndarray) -> list[Rate]:
    """Return the rates for `x` of those sizes and steps that no other beats, in bits and in error, on `chosen_on`."""
    candidates = []
    for size in sizes:
        coder = make(size)
        unit = coder.encode(chosen_on).std(axis=0).mean()
        found = compression.rates(coder.encode, coder.decode, chosen_on, unit * STEPS)
        candidates += [(rate.n_bytes, rate.mse, rate.setting, coder) for rate in found]
    front, least = [], math.inf
    for _, mse, step, coder in sorted(candidates, key=lambda candidate: candidate[:2]):
        if mse < least:
            least = mse
            front += compression.rates(coder.encode, coder.decode, x, [step])
    return front


def trained(x: np.ndarray, size: int, hidden: tuple[int, ...], output: str) -> models.Autoencoder:
    keras.utils.set_random_seed(0)
    epochs, batch_size = max(20, 1_000_000 // len(x)), 128
    model = models.dense_autoencoder(x.shape[1:], size, hidden, activation="elu", output_activation=output, seed=0)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, epochs * -(-len(x) // batch_size))
    model.compile(keras.optimizers.Adam(rate), "mse", jit_compile=True, steps_per_execution=32)
    model.fit(x, epochs=epochs, batch_size=batch_size, verbose=0)
    return model


# --- pictures as files -----------------------------------------------------------------------------------------------


def file_of(picture: np.ndarray, kind: str, **options: Any) -> bytes:
    pixels, file = np.rint(255 * picture).astype("uint8"), io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def pillow(picture: np.ndarray, kind: str, **options: Any) -> Rate:
    """Write a picture, grey or RGB, with values in [0, 1], and measure what comes out of the file."""
    content = file_of(picture, kind, **options)
    mode = "RGB" if picture.ndim == 3 else "L"
    decoded = np.asarray(Image.open(io.BytesIO(content)).convert(mode), "float32") / 255
    mse = float(np.mean((decoded - picture) ** 2, dtype="float64"))
    pixels = picture.shape[0] * picture.shape[1]
    return Rate(options["quality"], len(content), 8 * len(content) / pixels, mse)


def sheet(x: np.ndarray) -> np.ndarray:
    """Put images (n, 28, 28, 1) side by side, without anything between them."""
    tiles = x.reshape(-1, COLUMNS, *x.shape[1:3])
    return tiles.swapaxes(1, 2).reshape(-1, COLUMNS * x.shape[2])


def in_patches(picture: np.ndarray) -> np.ndarray:
    """Cut (height, width, 3) into patches that do not overlap, shape (n, PATCH, PATCH, 3)."""
    height, width = (size // PATCH for size in picture.shape[:2])
    parts = picture[: height * PATCH, : width * PATCH].reshape(height, PATCH, width, PATCH, 3)
    return parts.swapaxes(1, 2).reshape(-1, PATCH, PATCH, 3)


def random_patches(picture: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    down, right = (rng.integers(size - PATCH + 1, size=PATCHES) for size in picture.shape[:2])
    return np.stack([picture[i : i + PATCH, j : j + PATCH] for i, j in zip(down, right, strict=True)])


if __name__ == "__main__":
    main()
