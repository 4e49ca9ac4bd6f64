"""What likelihood does a variational autoencoder reach on dynamically binarised MNIST?

    TFAE_DATA_DIR=... python benchmarks/vae_likelihood.py [--epochs 60] [--importance 1] [--samples 5000]

The one-layer architecture of Burda, Grosse and Salakhutdinov (arXiv:1509.00519): 784-200-200-50 and back with tanh, on
images that are binarised anew each time they are seen. The number is the negative importance-weighted bound with
5,000 samples on the 10,000 test images, in nats; they report 86.76 (importance 1) and 84.78 (importance 50) after a
much longer training. A run that is interrupted goes on where it was when it is started again.
"""

import argparse
import time
from typing import Any

from tfae import data, models, training  # first of all: it keeps TensorFlow quiet

import keras
import numpy as np
from keras import layers


class BinarisedVAE(models.VariationalAutoencoder):
    """A variational autoencoder that draws each pixel anew, as ink with its grey value as probability."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.coins = keras.random.SeedGenerator(0)

    def compute_loss(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        ink = keras.random.uniform(keras.ops.shape(x), seed=self.coins) < x
        return super().compute_loss(keras.ops.cast(ink, "float32"), *args, **kwargs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--importance", type=int, default=1, help="importance samples of the training bound")
    parser.add_argument("--samples", type=int, default=5000, help="importance samples of the evaluation")
    parser.add_argument("--images", type=int, default=10_000, help="test images to evaluate")
    parser.add_argument("--checkpoint", default="runs/vae_likelihood.npz")
    arguments = parser.parse_args()

    dataset = data.load("mnist")
    x_train = dataset.x_train.reshape(-1, 784)
    rng = np.random.default_rng(0)
    x_test = (rng.random((10_000, 784)) < dataset.x_test.reshape(-1, 784)).astype("float32")[: arguments.images]

    keras.utils.set_random_seed(0)
    encoder = models.dense_encoder(784, 100, (200, 200), activation="tanh", seed=0)
    decoder = models.dense_decoder(784, 50, (200, 200), activation="tanh", seed=1)
    start_at_mean(decoder, x_train)
    model = BinarisedVAE(encoder, decoder, importance_samples=arguments.importance, seed=0)
    batch_size = 100
    decay = keras.optimizers.schedules.CosineDecay(1e-3, arguments.epochs * len(x_train) // batch_size, alpha=0.02)
    model.compile(keras.optimizers.Adam(decay, epsilon=1e-4), steps_per_execution=20)
    run = training.Resume(arguments.checkpoint, seed=0)
    start = time.monotonic()
    model.fit(
        run.batches(x_train, batch_size=batch_size),
        epochs=arguments.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[run, training.Progress()],
    )
    print(f"trained in {(time.monotonic() - start) / 60:.1f} minutes in this session", flush=True)
    elbo = model.elbo(x_test, n_samples=10).mean()
    print(f"test ELBO: {elbo:.2f} nats", flush=True)
    start, total = time.monotonic(), 0.0
    for done in range(0, len(x_test), 500):
        total += model.log_likelihood(x_test[done : done + 500], arguments.samples, seed=done, batch_size=50).sum()
        seen = min(done + 500, len(x_test))
        print(f"{seen:6d} images: {-total / seen:.2f} nats, {(time.monotonic() - start) / 60:.1f} minutes", flush=True)


def start_at_mean(decoder: keras.Sequential, x: np.ndarray) -> None:
    """Set the output biases so that the untrained decoder gives the mean image, as in the paper."""
    mean = np.clip(x.mean(axis=0), 0.001, 0.999)
    output = next(layer for layer in reversed(decoder.layers) if isinstance(layer, layers.Dense))
    output.bias.assign(np.log(mean / (1 - mean)))


if __name__ == "__main__":
    main()
