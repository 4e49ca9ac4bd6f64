"""Does a trained linear autoencoder reach PCA's optimum on real images?

    TFAE_DATA_DIR=... python benchmarks/linear_is_pca.py [mnist fashion_mnist]

For code sizes 10 and 32 it trains on all 60,000 images and prints the squared error per image, summed over pixels,
beside PCA's, on training and on test data; the largest angle between the two planes; and the gap between the last
eigenvalue kept and the first one dropped, which says how sharply that plane is determined. About 40 seconds a row.
"""

import sys
import time

from tfae import data, models  # first of all: it keeps TensorFlow quiet

import keras
import numpy as np
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

EPOCHS, BATCH_SIZE = 60, 256


def main() -> None:
    print(f"{'data':<14}{'k':>3}{'train':>10}{'PCA':>10}{'excess':>9}{'test':>10}{'PCA':>10}{'excess':>9}", end="")
    print(f"{'angle':>8}{'gap':>8}{'seconds':>9}")
    for name in sys.argv[1:] or ("mnist", "fashion_mnist"):
        dataset = data.load(name)
        for k in (10, 32):
            print_row(name, dataset.x_train, dataset.x_test, k)


def print_row(name: str, x_train: np.ndarray, x_test: np.ndarray, k: int) -> None:
    start = time.monotonic()
    keras.utils.set_random_seed(0)
    model = models.linear_autoencoder(x_train.shape[1:], k, seed=0)
    rate = keras.optimizers.schedules.CosineDecay(5e-3, EPOCHS * -(-len(x_train) // BATCH_SIZE))
    model.compile(keras.optimizers.Adam(rate), "mse", steps_per_execution=16)
    model.fit(x_train, epochs=EPOCHS, batch_size=BATCH_SIZE, verbose=0)
    seconds = time.monotonic() - start

    flat = x_train.reshape(len(x_train), -1).astype("float64")
    pca = PCA(k + 1).fit(flat)
    axes = pca.components_[:k]

    def pca_error(x: np.ndarray) -> float:
        centred = x.reshape(len(x), -1) - pca.mean_
        return float(np.mean(np.sum((centred - centred @ axes.T @ axes) ** 2, axis=1)))

    row = f"{name:<14}{k:>3}"
    for x in (x_train, x_test):
        trained, optimum = model.reconstruction_error(x).mean() * flat.shape[1], pca_error(x)
        row += f"{trained:>10.4f}{optimum:>10.4f}{trained / optimum - 1:>9.3%}"
    atoms = model.decoder.layers[0].get_weights()[0]
    angle = np.degrees(subspace_angles(atoms.T.astype("float64"), axes.T)).max()
    gap = pca.explained_variance_[k - 1] / pca.explained_variance_[k] - 1
    print(f"{row}{angle:>7.2f}°{gap:>8.2%}{seconds:>9.0f}", flush=True)


if __name__ == "__main__":
    main()
