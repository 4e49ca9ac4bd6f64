"""What do all 784 x 784 derivatives of a reconstruction cost?

    python benchmarks/jacobian.py [--images 8] [--no-shap]

A dense autoencoder of 28x28 images has 784 inputs and as many outputs, so explaining one reconstruction takes 614,656
numbers. The rows are:

- `attribution.jacobian`, on 8 images at once, also of a convolutional and a variational autoencoder. Beside it stands
  the least that backpropagation can take here: the products of one reverse pass for each output and image, at the rate
  at which this machine multiplies two matrices of 2048 x 2048. Our passes also go forward, once for each output, which
  about doubles that;
- TensorFlow's own `batch_jacobian`, and a GradientTape asked for one output after another. The answers of all three are
  compared, row by row, and the benchmark fails if any differs by more than 1e-5;
- shap's GradientExplainer and DeepExplainer with all 784 outputs, on 1 image, as they come: 100 background images, and
  200 random points for each output of the first. They return estimates of Shapley values, not derivatives, and do more
  work for them, so
- the row "expected gradients" does GradientExplainer's work with `attribution.jacobian`: all derivatives at 200 points
  between background and image, times the difference, averaged.

shap is no dependency of this package: `pip install shap`, or leave its rows out. They take minutes, the others seconds.
"""

import argparse
import functools
import logging
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

from tfae import attribution, data, models  # first of all: it keeps TensorFlow quiet

import keras
import numpy as np
import tensorflow as tf

try:
    import shap
except ImportError:
    shap = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--no-shap", action="store_true", help="leave out the rows that need shap")
    arguments = parser.parse_args()

    dataset = data.load("strokes")
    x_train, x_test = (x.reshape(len(x), -1) for x in (dataset.x_train, dataset.x_test))
    model = models.dense_autoencoder(784, 32, seed=0)
    model.compile("adam", "mse")
    model.fit(x_train, epochs=3, batch_size=128, verbose=0)
    background, x = x_train[:100], x_test[: arguments.images]

    print(f"{'method':<44}{'images':>7}{'seconds':>9}{'CPU s':>8}{'s/image':>9}{'ratio':>8}")
    row = Rows()
    ours = row("attribution.jacobian", len(x), lambda: attribution.jacobian(model, x), warm_up=True)
    in_one = row("GradientTape.batch_jacobian", len(x), lambda: batch_jacobian(model, x), warm_up=True)
    one_by_one = row("GradientTape, an output at a time", len(x), lambda: output_by_output(model, x))
    for name, theirs in (("batch_jacobian", in_one), ("an output at a time", one_by_one)):
        gap = np.abs(ours - theirs).max(axis=-1)  # (images, 784): one for each row
        if not gap.max() < 1e-5:
            raise SystemExit(f"{(gap >= 1e-5).sum()} rows differ from {name}, the worst by {gap.max():.1e}")
        print(f"  all {gap.size} rows equal {name}: the largest difference is {gap.max():.1e}", flush=True)

    rate = products_a_second()
    print(f"  this machine multiplies and adds {rate / 1e9:.0f} thousand million pairs a second", flush=True)
    for name, network in (("dense", model), ("convolutional", conv(False)), ("variational, convolutional", conv(True))):
        images = x.reshape(len(x), *network.encoder.input_shape[1:])
        taken = seconds(functools.partial(attribution.jacobian, network, images))
        bound = len(x) * 784 * pairs(network.encoder.layers + network.decoder.layers) / rate
        print(f"  {name + ':':<28}{taken:.3f} s, at least {bound:.3f} s: {taken / bound:.1f} times", flush=True)

    expected = row("attribution.jacobian, expected gradients", 1, lambda: expected_gradients(model, x[:1], background))
    if arguments.no_shap:
        return
    if shap is None:
        print("shap is not installed, so its rows are missing: pip install shap")
        return
    warnings.simplefilter("ignore")  # shap's, of the version of TensorFlow
    logging.getLogger("tensorflow").setLevel("ERROR")  # a note on retracing, of shap's own functions
    gradient = shap.GradientExplainer(keras_model(model), background)
    theirs = row("shap.GradientExplainer", 1, lambda: gradient.shap_values(x[:1], rseed=0))
    theirs = np.asarray(theirs)[0].T  # shap puts the outputs last
    print(f"  correlation with our expected gradients, both of 200 random points: {correlation(expected, theirs):.3f}")
    deep = shap.DeepExplainer(keras_model(model), background)
    row("shap.DeepExplainer", 1, lambda: deep.shap_values(x[:1]))


class Rows:
    """Runs, times and prints; the ratio is to the seconds per image of the first row."""

    first: float | None = None

    def __call__(self, name: str, images: int, work: Callable[[], Any], warm_up: bool = False) -> Any:
        if warm_up:
            work()
        wall, cpu = time.monotonic(), time.process_time()
        answer = work()
        wall, cpu = time.monotonic() - wall, time.process_time() - cpu
        self.first = self.first or wall / images
        ratio = wall / images / self.first
        print(f"{name:<44}{images:>7}{wall:>9.2f}{cpu:>8.2f}{wall / images:>9.3f}{ratio:>8.1f}", flush=True)
        return answer


# --- peers -----------------------------------------------------------------------------------------------------------


def batch_jacobian(model: Any, x: np.ndarray) -> np.ndarray:
    with tf.GradientTape() as tape:
        tape.watch(batch := tf.constant(x))
        outputs = model(batch)
    return tape.batch_jacobian(outputs, batch).numpy()


def output_by_output(model: Any, x: np.ndarray) -> np.ndarray:
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(batch := tf.constant(x))
        outputs = model(batch)
    size = outputs.shape[1]
    asked = (tf.one_hot([i] * len(x), size) for i in range(size))
    return np.stack([tape.gradient(outputs, batch, output_gradients=one) for one in asked], axis=1)


def expected_gradients(model: Any, x: np.ndarray, background: np.ndarray, points: int = 200) -> np.ndarray:
    """Return the values of one image for each output, shape (784, 784), as GradientExplainer defines them."""
    rng = np.random.default_rng(0)
    difference = x - background[rng.integers(len(background), size=points)]
    between = x - rng.random((points, 1), dtype="float32") * difference
    parts = [
        (attribution.jacobian(model, between[i : i + 8]) * difference[i : i + 8, np.newaxis]).sum(axis=0)
        for i in range(0, points, 8)
    ]
    return sum(parts) / points


def keras_model(model: models.Autoencoder) -> Any:
    """Return the autoencoder in the one form that shap takes: a functional model."""
    inputs = keras.Input(model.encoder.input_shape[1:])
    hidden = inputs
    for layer in (*model.encoder.layers, *model.decoder.layers):
        hidden = layer(hidden)
    return keras.Model([inputs], hidden)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


# --- the least that it can take --------------------------------------------------------------------------------------


def conv(variational: bool) -> models.Autoencoder:
    """Return an untrained convolutional autoencoder: what a derivative costs does not depend on the weights."""
    if not variational:
        return models.conv_autoencoder((28, 28, 1), 32, seed=0)
    return models.VariationalAutoencoder(
        models.conv_encoder((28, 28, 1), 64, seed=0), models.conv_decoder((28, 28, 1), 32, seed=1), seed=0
    )


def pairs(layers: list[Any]) -> int:
    """Return how many numbers are multiplied and added in one pass through layers, forward or back."""
    total = 0
    for layer in layers:
        if hasattr(layer, "kernel"):
            shape = layer.input.shape if isinstance(layer, keras.layers.Conv2DTranspose) else layer.output.shape
            total += math.prod(layer.kernel.shape) * math.prod(shape[1:-1])
    return total


def seconds(work: Callable[[], Any], rounds: int = 5) -> float:
    """Return the least time of several, after one to warm up."""
    taken = []
    for _ in range(rounds + 1):
        start = time.monotonic()
        work()
        taken.append(time.monotonic() - start)
    return min(taken[1:])


def products_a_second(dtype: str = "float32") -> float:
    size = 8192 if tf.config.list_physical_devices("GPU") else 2048
    matrix = tf.cast(tf.random.normal((size, size)), dtype)
    return size**3 / seconds(lambda: tf.matmul(matrix, matrix)[0, 0].numpy())


if __name__ == "__main__":
    main()
