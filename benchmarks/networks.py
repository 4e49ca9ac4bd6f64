"""Which methods explain networks that nobody here wrote?

    python benchmarks/networks.py [--networks ResNet50 LSTM] [--size 64]

Five classifiers of `keras.applications`, an LSTM and a small transformer, each with random weights (no download; biases
are drawn, too, and batch normalisations have the statistics of the two samples). Every method of `tfae.attribution` and
kernel Shapley explain the logit of one class of two samples; integrated gradients take 32 steps. A cell is

- a gap, where the values should add up: the larger of the two samples'. Of LRP it is what is missing, relative to all
  that was handed back, when the values and what biases kept are added up: rounding, and what epsilon keeps;
- `yes` where there is nothing that they should add up to, and the answer is finite;
- `no`, and a number, where the method refuses. What it says stands below the table.

Anything else is a failure: its kind stands in the cell, and the benchmark ends with an error. Minutes on two cores.
"""

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Callable

import tfae  # noqa: F401  first of all: it keeps TensorFlow quiet

import keras
import numpy as np
from keras import layers, ops

from tfae import attribution, shapley, targets

APPLICATIONS = ("MobileNetV2", "ResNet50", "VGG16", "EfficientNetB0", "ConvNeXtTiny")
CLASS, STEPS, CHANNELS = 3, 16, 8


def main() -> None:
    known = (*APPLICATIONS, "LSTM", "transformer")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", choices=known, default=known)
    parser.add_argument("--size", type=int, default=64, help="of the images, in pixels")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("tensorflow").setLevel("ERROR")  # it finds that ConvNeXt's convolutions are compiled often
    messages: dict[str, int] = {}
    counts, start = {"answers": 0, "refusals": 0, "failures": 0}, time.monotonic()
    print(f"| | {' | '.join(METHODS)} |\n|{' --- |' * (1 + len(METHODS))}")
    for name in arguments.networks:
        model, x = network(name, arguments.size)
        print(f"| {name}", end="", flush=True)
        for explain in METHODS.values():
            try:
                cell, kind = explain(targets.logit(model, CLASS), x), "answers"
            except ValueError as error:
                cell, kind = f"no [{messages.setdefault(str(error), len(messages) + 1)}]", "refusals"
            except Exception as error:
                cell, kind = type(error).__name__, "failures"
            counts[kind] += 1
            print(f" | {cell}", end="", flush=True)
        print(" |")
    print()
    for said, number in messages.items():
        print(f"- [{number}] {said}")
    print("\n" + ", ".join(f"{count} {kind}" for kind, count in counts.items()), end="")
    print(f" in {time.monotonic() - start:.0f} seconds, on images of {arguments.size} x {arguments.size} pixels")
    sys.exit(int(counts["failures"] > 0))


# --- the methods: each explains a target of samples, and says how far the values add up -------------------------------


def gap_of(method: Callable, **options: object) -> Callable:
    return lambda target, x: f"{method(target, x, **options).completeness_gap.max():.1e}"


def finite(method: Callable, **options: object) -> Callable:
    def explain(target: targets.Target, x: np.ndarray) -> str:
        if not np.isfinite(method(target, x, **options).values).all():
            raise FloatingPointError
        return "yes"

    return explain


def missing_from_ledger(rule: str) -> Callable:
    def explain(target: targets.Target, x: np.ndarray) -> str:
        explained = attribution.lrp(target, x, rule=rule)
        kept = [row["kept_by_bias"] for row in explained.ledger]
        missing = explained.values.sum(dtype="float64") + sum(kept) - explained.outputs.sum(dtype="float64")
        return f"{abs(missing) / (np.abs(explained.values).sum() + np.abs(kept).sum()):.1e}"

    return explain


def occlusion(target: targets.Target, x: np.ndarray) -> str:
    window = x.shape[1] // 4
    return finite(attribution.occlusion, window=window)(target, x)


def kernel_shap(target: targets.Target, x: np.ndarray) -> str:
    """Say how far the values of 16 segments fail to add up, relative to what they explain."""
    places = np.indices(x.shape[1:])
    moving = x.ndim - 2
    segments = sum(places[axis] * 4 // x.shape[1 + axis] * 4**axis for axis in range(moving))
    explained = shapley.kernel(target, x, np.zeros_like(x[:1]), segments=segments, n_samples=100)
    return f"{np.abs(explained.efficiency_gap / (explained.predictions - explained.base_value)).max():.1e}"


METHODS: dict[str, Callable] = {
    "gradient": finite(attribution.gradient),
    "gradient x input": gap_of(attribution.gradient_x_input),
    "SmoothGrad": finite(attribution.smooth_grad, n_samples=4),
    "integrated gradients": gap_of(attribution.integrated_gradients, steps=32),
    "guided": finite(attribution.guided_backprop),
    "deconvnet": finite(attribution.deconvnet),
    "Grad-CAM": finite(attribution.grad_cam),
    "LRP-epsilon": missing_from_ledger("epsilon"),
    "LRP-z+": missing_from_ledger("z+"),
    "LRP-gamma": missing_from_ledger("gamma"),
    "occlusion": occlusion,
    "kernel Shapley": kernel_shap,
}


# --- the networks ----------------------------------------------------------------------------------------------------


def network(name: str, size: int) -> tuple[keras.Model, np.ndarray]:
    """Return a network of ten classes with random weights, and two samples."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    if name in APPLICATIONS:
        build = getattr(keras.applications, name)
        model = build(weights=None, input_shape=(size, size, 3), classes=10)
        x = rng.random((2, size, size, 3), "float32") * (255 if name in ("EfficientNetB0", "ConvNeXtTiny") else 1)
    else:
        x = rng.normal(size=(2, STEPS, CHANNELS)).astype("float32")
        model = lstm() if name == "LSTM" else transformer()
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.beta.assign(0.3 * rng.normal(size=layer.beta.shape))
            layer.momentum = 0.0  # the next batch is all that it remembers
        elif getattr(layer, "use_bias", False) and hasattr(layer, "bias"):
            layer.bias.assign(0.1 * rng.normal(size=layer.bias.shape))
    model(x, training=True)
    return model, x


def lstm() -> keras.Model:
    recurrent = [layers.LSTM(32, return_sequences=True), layers.LSTM(32)]
    return keras.Sequential([keras.Input((STEPS, CHANNELS)), *recurrent, layers.Dense(10, "softmax")], name="lstm")


def transformer() -> keras.Model:
    """Two blocks of attention and of a ReLU network, each normalised before, and the mean over the steps."""
    x = keras.Input((STEPS, CHANNELS))
    h = layers.Dense(32)(x) + layers.Embedding(STEPS, 32)(ops.arange(STEPS))
    for _ in range(2):
        a = layers.LayerNormalization()(h)
        h = layers.Add()([h, layers.MultiHeadAttention(4, 8)(a, a)])
        a = layers.LayerNormalization()(h)
        h = layers.Add()([h, layers.Dense(32)(layers.Dense(64, "relu")(a))])
    pooled = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(h))
    return keras.Model(x, layers.Dense(10, "softmax")(pooled), name="transformer")


if __name__ == "__main__":
    main()
