"""What likelihood does a variational autoencoder reach on dynamically binarised MNIST?

    TFAE_DATA_DIR=... python benchmarks/vae_likelihood.py [--epochs 500] [--importance 1] [--samples 5000] [--held-out]
                                                          [--authors]

The one-layer architecture of Burda, Grosse and Salakhutdinov (arXiv:1509.00519): 784-200-200-50 and back with tanh, on
images that are binarised anew each time they are seen. The number is the negative importance-weighted bound with
5,000 samples on the 10,000 test images, in nats; they report 86.76 (importance 1) and 84.78 (importance 50) after 3,280
epochs. A run that is interrupted goes on where it was when it is started again. The 500 epochs take about 26 minutes on
two cores, and the bound ten more. With --authors it is their training: 3,280 epochs in batches of 20, at rates that
fall from 0.001 to 0.0001 in eight stages, each three times as long as the one before; that is for a GPU.

The learning rate was chosen without the test images: with --held-out it trains on 55,000 images and judges on the other
5,000. There 0.003 is better than 0.001 and 0.006 after 40 epochs (91.3, 93.8 and 92.9 nats of 1,000 images).
"""

import argparse
import time

from tfae import data, models, training  # first of all: it keeps TensorFlow quiet

import keras
import numpy as np
import tensorflow as tf
from keras import layers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--importance", type=int, default=1, help="importance samples of the training bound")
    parser.add_argument("--samples", type=int, default=5000, help="importance samples of the evaluation")
    parser.add_argument("--images", type=int, default=10_000, help="test images to evaluate")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="at the beginning; it falls to a fiftieth")
    parser.add_argument("--held-out", action="store_true", help="judge on 5,000 training images left out of training")
    parser.add_argument("--authors", action="store_true", help="train as the authors did")
    parser.add_argument("--checkpoint", help="where an interrupted run goes on; a file for each kind of training")
    arguments = parser.parse_args()
    kind = f"{arguments.importance}_{'authors' if arguments.authors else arguments.epochs}"
    checkpoint = arguments.checkpoint or f"runs/vae_likelihood_{kind}{'_held_out' * arguments.held_out}.npz"

    dataset = data.load("mnist")
    x_train, x_test = dataset.x_train.reshape(-1, 784), dataset.x_test.reshape(-1, 784)
    if arguments.held_out:
        order = np.random.default_rng(1).permutation(len(x_train))
        x_train, x_test = x_train[order[5000:]], x_train[order[:5000]]
    rng = np.random.default_rng(0)
    x_test = (rng.random(x_test.shape) < x_test).astype("float32")[: arguments.images]

    keras.utils.set_random_seed(0)
    encoder = models.dense_encoder(784, 100, (200, 200), activation="tanh", seed=0)
    decoder = models.dense_decoder(784, 50, (200, 200), activation="tanh", seed=1)
    start_at_mean(decoder, x_train)
    model = models.VariationalAutoencoder(encoder, decoder, importance_samples=arguments.importance, seed=0)
    epochs, batch_size = (3280, 20) if arguments.authors else (arguments.epochs, 100)
    steps = len(x_train) // batch_size  # an epoch
    if arguments.authors:
        ends = np.cumsum(3 ** np.arange(8))  # 1, 4, 13, ... 3280
        rates = (1e-3 * 10 ** (-np.arange(8) / 7)).tolist()
        rate = keras.optimizers.schedules.PiecewiseConstantDecay((steps * ends[:-1]).tolist(), rates)
    else:
        rate = keras.optimizers.schedules.CosineDecay(arguments.learning_rate, epochs * steps, alpha=0.02)
    model.compile(keras.optimizers.Adam(rate, epsilon=1e-4), jit_compile=True, steps_per_execution=50)
    run = training.Resume(checkpoint, seed=0)
    start = time.monotonic()
    model.fit(
        run.batches(x_train, batch_size=batch_size).map(binarised).prefetch(8),
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[run, training.Progress()],
    )
    print(f"trained in {(time.monotonic() - start) / 60:.1f} minutes in this session", flush=True)
    elbo = model.elbo(x_test, n_samples=10).mean()
    print(f"test ELBO: {elbo:.2f} nats", flush=True)
    start, total = time.monotonic(), 0.0
    for done in range(0, len(x_test), 500):
        total += model.log_likelihood(
            x_test[done : done + 500], n_samples=arguments.samples, seed=done, batch_size=50
        ).sum()
        seen = min(done + 500, len(x_test))
        print(f"{seen:6d} images: {-total / seen:.2f} nats, {(time.monotonic() - start) / 60:.1f} minutes", flush=True)


def binarised(x: tf.Tensor) -> tf.Tensor:
    """Draw each pixel anew, as ink with its grey value as probability."""
    return tf.cast(tf.random.uniform(tf.shape(x), seed=0) < x, tf.float32)


def start_at_mean(decoder: keras.Sequential, x: np.ndarray) -> None:
    """Set the output biases so that the untrained decoder gives the mean image, as in the paper."""
    mean = np.clip(x.mean(axis=0), 0.001, 0.999)
    output = next(layer for layer in reversed(decoder.layers) if isinstance(layer, layers.Dense))
    output.bias.assign(np.log(mean / (1 - mean)))


if __name__ == "__main__":
    main()
