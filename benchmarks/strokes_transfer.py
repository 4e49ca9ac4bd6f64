"""Do strokes look and behave like handwriting?

    TFAE_DATA_DIR=... python benchmarks/strokes_transfer.py

Draws strokes and says how many a second; then trains a small CNN on the 10,000 training images of `strokes` alone, with
three seeds, and prints its accuracy on the 10,000 test images of MNIST, which it never saw. About four minutes. The two
kinds of image stand side by side in build/strokes_beside_mnist.png.
"""

import time
from pathlib import Path

from tfae import data, plot, strokes  # first of all: it keeps TensorFlow quiet

import keras
import numpy as np
from keras import layers


def main() -> None:
    n = 4000
    start = time.monotonic()
    strokes.make(n, seed=0)
    print(f"{n / (time.monotonic() - start):,.0f} images drawn per second on one core")

    drawn, mnist = data.load("strokes"), data.load("mnist")
    print(f"mean ink: strokes {drawn.x_train.mean():.4f}, MNIST {mnist.x_train.mean():.4f}")
    show_side_by_side(drawn, mnist)
    scores = []
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        cnn = classifier()
        cnn.fit(drawn.x_train, drawn.y_train, epochs=10, batch_size=64, verbose=0)
        on_strokes = cnn.evaluate(drawn.x_test, drawn.y_test, verbose=0)[1]
        scores.append(cnn.evaluate(mnist.x_test, mnist.y_test, verbose=0)[1])
        print(f"seed {seed}: held-out strokes {on_strokes:.2%}, MNIST test set {scores[-1]:.2%}", flush=True)
    print(f"MNIST test set, mean of {len(scores)} seeds: {np.mean(scores):.2%}")


def show_side_by_side(drawn: data.Dataset, mnist: data.Dataset) -> None:
    rows = {}
    for digit in range(10):
        pair = [dataset.x_train[dataset.y_train == digit][:8] for dataset in (drawn, mnist)]
        rows[str(digit)] = np.concatenate(pair)
    Path("build").mkdir(exist_ok=True)
    figure = plot.image_rows(rows, scale=0.7)
    figure.suptitle("strokes (eight on the left) beside MNIST (eight on the right)")
    figure.savefig("build/strokes_beside_mnist.png")


def classifier() -> keras.Model:
    cnn = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    cnn.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return cnn


if __name__ == "__main__":
    main()
