"""Do one device, two replicas and two workers train to the same weights, and how fast?

    python benchmarks/scaling.py [--epochs 4] [--images 10000]

The 784-128-64-32 autoencoder, Adam, batch 256 on the embedded strokes, through ``model.fit``. Two replicas are logical
devices of the CPU, two workers are processes of this machine that talk through the loopback: they share its cores, so
neither can be faster than one device, and what the rates show is what the exchange costs. Each row is a process, or a
pair, of its own; the first epoch, which compiles, is left out of the rate.

A gap is the largest difference of a weight array from one device's after 20 steps, in the norm and relative to it. Only
rounding differs: sums are taken in another order. Adam divides each gradient by its own size, and so makes rounding as
large as anything else where a gradient nearly vanishes; SGD does not, and in float64 there is nothing to enlarge. Bars:
1e-6 with SGD, and 1e-6 with Adam in float64.
"""

import argparse

from tfae.cluster import run_cluster  # first of all: it keeps TensorFlow quiet

import numpy as np


def train(devices: int | None, images: int, epochs: int) -> tuple[float, float, dict[str, list]]:
    """Return images a second, the held-out loss, and the weights that 20 steps of each kind lead to."""
    from tfae import distribute  # isort: skip

    strategy = distribute.strategy(devices)
    import time

    import keras

    from tfae import data, models

    x = data.load("strokes").x_train[:images]
    x_train, x_held_out = x[:-1000], x[-1000:]

    def fit(x, optimizer, rate, **options):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = models.dense_autoencoder((28, 28, 1), 32, seed=0)
            model.compile(optimizer(rate), "mse")
        model.fit(x, batch_size=256, verbose=0, **options)
        return model

    stamps: list[float] = []
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: stamps.append(time.monotonic()))
    model = fit(x_train, keras.optimizers.Adam, 0.001, epochs=epochs, callbacks=[clock])
    rate = len(x_train) * (epochs - 1) / (stamps[-1] - stamps[0])
    loss = model.evaluate(x_held_out, batch_size=256, verbose=0)

    weights = {
        "SGD": fit(x[: 20 * 256], keras.optimizers.SGD, 0.5, validation_data=x_held_out).get_weights(),
        "Adam": fit(x[: 20 * 256], keras.optimizers.Adam, 0.001).get_weights(),
    }
    keras.config.set_floatx("float64")
    weights["Adam, float64"] = fit(x[: 20 * 256].astype("float64"), keras.optimizers.Adam, 0.001).get_weights()
    return rate, loss, weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=10_000)
    arguments = parser.parse_args()

    print(f"{'gap after 20 steps of':>58}")
    print(f"{'':<12}{'images/s':>10}{'held-out MSE':>15}{'SGD':>12}{'Adam':>10}{'in float64':>13}")
    first = None
    for name, devices, workers in (("1 device", None, 1), ("2 replicas", 2, 1), ("2 workers", None, 2)):
        results = run_cluster(train, devices, arguments.images, arguments.epochs, workers=workers)
        for number, (rate, loss, weights) in enumerate(results):
            first = first or weights
            sgd, adam, exact = (largest_gap(weights[kind], first[kind]) for kind in weights)
            row = f"{name}, {number}" if workers > 1 else name
            print(f"{row:<12}{rate:>10.0f}{loss:>15.6f}{sgd:>12.1e}{adam:>10.1e}{exact:>13.1e}", flush=True)
            if max(sgd, exact) > 1e-6:
                raise SystemExit("the weights differ by more than 1e-6")


def largest_gap(weights: list[np.ndarray], others: list[np.ndarray]) -> float:
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(weights, others, strict=True))


if __name__ == "__main__":
    main()
