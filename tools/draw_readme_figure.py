"""Draw docs/overview.png, the figure of the README, from the images and numbers of chapter 00.

python tools/draw_readme_figure.py
"""

from pathlib import Path

from tfae import data, models, plot  # first of all: it keeps TensorFlow quiet

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

PATH = Path(__file__).resolve().parent.parent / "docs" / "overview.png"


def main() -> None:
    dataset = data.load("strokes")
    keras.utils.set_random_seed(0)
    autoencoder = models.dense_autoencoder((28, 28, 1), code_size=2, activation="tanh", seed=0)
    autoencoder.compile(keras.optimizers.Adam(2e-3), "mse")
    autoencoder.fit(dataset.x_train, epochs=25, batch_size=64, verbose=0)
    z = autoencoder.encode(dataset.x_test)

    with plt.rc_context(plot.STYLE | {"savefig.dpi": 110}):
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12.5, 4))
        draw_codes(left, z, dataset.y_test)
        draw_map(middle, autoencoder, z)
        worst = int(autoencoder.reconstruction_error(dataset.x_test[:500]).argmax())
        draw_explanation(right, autoencoder, dataset.x_test[worst : worst + 1])
        PATH.parent.mkdir(exist_ok=True)
        figure.savefig(PATH)


def draw_codes(ax: plt.Axes, z: np.ndarray, y: np.ndarray) -> None:
    for digit in range(10):
        rows = y == digit
        ax.scatter(*z[rows].T, s=8, color=plot.COLOURS[digit], marker=plot.MARKERS[digit], alpha=0.6, linewidths=0)
        box = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": plot.COLOURS[digit]}
        ax.text(*np.median(z[rows], axis=0), str(digit), weight="bold", ha="center", va="center", bbox=box)
    ax.set(title="what it learned: two numbers per image", xlabel="code unit 0", ylabel="code unit 1")


def draw_map(ax: plt.Axes, autoencoder: models.Autoencoder, z: np.ndarray) -> None:
    low, high = np.percentile(z, [2, 98], axis=0)
    across, down = np.meshgrid(np.linspace(low[0], high[0], 12), np.linspace(high[1], low[1], 12))
    drawings = autoencoder.decode(np.stack([across.ravel(), down.ravel()], axis=1)).reshape(12, 12, 28, 28)
    ax.imshow(drawings.transpose(0, 2, 1, 3).reshape(12 * 28, 12 * 28), vmin=0, vmax=1)
    ax.set(title="what it would draw at each place", xticks=[], yticks=[])


def draw_explanation(ax: plt.Axes, autoencoder: models.Autoencoder, x: np.ndarray) -> None:
    image = tf.Variable(x)
    with tf.GradientTape() as tape:
        unit = autoencoder.encoder(image)[0, 0]
    contribution = tape.gradient(unit, image).numpy() * x
    rng = np.random.default_rng(0)
    inked = np.flatnonzero(x > 0.2)
    erased, predicted = np.repeat(x.reshape(1, -1), 300, axis=0), np.empty(300)
    for i in range(300):
        pixels = rng.choice(inked, 20, replace=False)
        erased[i, pixels] = 0
        predicted[i] = -contribution.ravel()[pixels].sum()
    happened = autoencoder.encode(erased.reshape(300, 28, 28, 1))[:, 0]
    trust = np.corrcoef(predicted, happened)[0, 1]
    limit = np.abs(contribution).max()
    shown = ax.imshow(contribution[0, ..., 0], cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.contour(x[0, ..., 0], [0.5], colors="#444444", linewidths=0.8)
    ax.set(title=f"which ink made this code; trust: r = {trust:.2f}", xticks=[], yticks=[])
    ax.figure.colorbar(shown, ax=ax, label="gradient × ink", fraction=0.05)


if __name__ == "__main__":
    main()
