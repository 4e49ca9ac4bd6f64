"""How fast is training, beside plain Keras, PyTorch and JAX on the same network?

    python benchmarks/training.py [--model dense|conv_vae] [--rounds 5] [--epochs 6] [--mixed]
    python benchmarks/training.py --where

`dense` is a 784-128-64-32 autoencoder with a squared error; `conv_vae` a convolutional variational autoencoder (3x3, 16
and 32 filters, 16 code units, nats). All start from the same weights, see the same 60,000 images (MNIST where it is at
hand, else strokes, six times over) in batches of 256 and use Adam with a step of 0.001. Each package runs in a process
of its own and holds the images in its own kind of array; they take turns in every round, the others waiting, and the
first round only warms up. The table gives the median of a thousand images a second over the rounds, the median over the
rounds of ours over each (above 1: ours is faster), which a machine that slows down does not change, and the loss of the
last epoch, a mean over the rounds, over ours: all did the same work. Of the peak: the least multiplications that the
layers need, over what the device does in a product of two large matrices in TensorFlow. With `--mixed` the layers
compute in bfloat16, and weights and losses are float32. Where there is a GPU, all packages use it.

PyTorch runs with denormal numbers flushed to zero, without which Adam's moments of always-black pixels make it ten
times slower. JAX runs each epoch as one scan, as ours does by its `steps_per_execution`, and steps one by one for the
convolutions, which are slow within a scan. Peers are no dependencies: `pip install torch jax`. Those that are missing
are left out.

`--where` says what a step of the dense model spends its time on: programs of 64 steps, each with one thing more, take
turns, and at the end stands `fit` itself, which also shuffles, calls callbacks and starts programs.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BATCH, STEP, CODE = 256, 1e-3, 16
STEPS = 256  # in one program of ours: an epoch has 235
NAMES = {
    "keras": "Keras fit",
    "tfae": "tfae",
    "torch": "PyTorch, eager, fused Adam",
    "torch_compiled": "PyTorch, compiled",
    "jax": "JAX, compiled",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("dense", "conv_vae"), default="dense")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--mixed", action="store_true")
    parser.add_argument("--where", action="store_true")
    parser.add_argument("--work", nargs=2, metavar=("PACKAGE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(*arguments.work, arguments.model, arguments.epochs, arguments.mixed)
    if arguments.where:
        return where(arguments.rounds, arguments.epochs)
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), arguments.model)
        workers = {name: start(name, folder, arguments) for name in NAMES if installed(name)}
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        losses: dict[str, list[float]] = {name: [] for name in workers}
        for turn in range(arguments.rounds + 1):
            for name, worker in workers.items():
                answer = ask(worker, name)
                losses[name].append(answer["loss"])
                if turn:
                    seconds[name].append(answer["seconds"])
                print(f"round {turn}/{arguments.rounds}  {NAMES[name]}: {answer['seconds']:.2f} s", file=sys.stderr)
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    most = most_images_a_second(arguments.model, arguments.mixed) / 1000
    n = 60 * arguments.epochs
    loss = {name: statistics.mean(values) for name, values in losses.items()}
    what = f"{arguments.model}, mixed precision" if arguments.mixed else arguments.model
    print(f"{what}: {arguments.epochs} epochs of 60,000 images, medians of {arguments.rounds} rounds")
    heads = "thousand images/s", "tfae is ... as fast", "loss over tfae", "its spread", "of the peak"
    print(f"{'':<28}" + "".join(f"{head:>{width}}" for head, width in zip(heads, (18, 21, 16, 12, 13), strict=True)))
    for name, times in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(times, seconds["tfae"], strict=True)]
        rate = n / statistics.median(times)
        print(f"{NAMES[name]:<28}{rate:>18.1f}{statistics.median(ratios):>20.2f}x"
              f"{loss[name] / loss['tfae']:>16.3f}{statistics.stdev(losses[name]) / loss['tfae']:>12.3f}"
              f"{rate / most:>13.2f}")  # fmt: skip


def installed(name: str) -> bool:
    package = {"torch_compiled": "torch"}.get(name, name)
    if importlib.util.find_spec(package):
        return True
    print(f"{NAMES[name]} is left out: {package} is not installed")
    return False


def prepare(folder: Path, model: str) -> None:
    """Write the images and the initial weights that all packages begin with."""
    from tfae import data

    try:
        x = data.load("mnist").x_train
    except OSError:
        x = np.tile(data.load("strokes").x_train, (6, 1, 1, 1))
    np.save(folder / "x.npy", x if model == "conv_vae" else x.reshape(len(x), -1))
    weights = [variable.numpy() for variable in networks(model).trainable_weights]
    np.savez(folder / "weights.npz", **{f"w{i:02d}": array for i, array in enumerate(weights)})


def start(name: str, folder: str, arguments: argparse.Namespace) -> subprocess.Popen:
    command = [sys.executable, __file__, "--model", arguments.model, "--epochs", str(arguments.epochs)]
    command += ["--mixed"] if arguments.mixed else []
    shared = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # one GPU for all of them
    return subprocess.Popen(
        [*command, "--work", name, folder],
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **shared},
    )  # fmt: skip


def ask(worker: subprocess.Popen, name: str) -> dict[str, float]:
    worker.stdin.write("go\n")
    worker.stdin.flush()
    for line in worker.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise SystemExit(f"{NAMES[name]} ended with status {worker.wait()}")


def most_images_a_second(model: str, mixed: bool) -> float:
    """Return how many images a second this device could train on if it did nothing but the products of the layers."""
    from jacobian import pairs, products_a_second

    network = networks(model)
    first = next(layer for layer in network.encoder.layers if hasattr(layer, "kernel"))
    there = pairs(network.encoder.layers + network.decoder.layers)  # and twice that back, but not to the image
    return products_a_second("bfloat16" if mixed else "float32") / (3 * there - pairs([first]))


def work(name: str, folder: str, model: str, epochs: int, mixed: bool) -> None:
    """Answer each line on the standard input with the seconds and the loss of one training from the beginning."""
    x = np.load(f"{folder}/x.npy")
    with np.load(f"{folder}/weights.npz") as archive:
        weights = [archive[key] for key in sorted(archive.files)]
    if mixed and name in ("keras", "tfae"):
        import keras as k

        k.mixed_precision.set_global_policy("mixed_bfloat16")
    options = {"mixed": mixed} if name in ("torch", "torch_compiled", "jax") else {}
    train = globals()[name](model, x, weights, **options)
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = train(epochs)
        print(json.dumps({"seconds": time.perf_counter() - start, "loss": loss}), flush=True)


# --- Keras, and ours on top of it ------------------------------------------------------------------------------------


def networks(model: str) -> Any:
    from tfae import models

    if model == "dense":
        return models.dense_autoencoder((784,), 32, seed=0)
    shape = (28, 28, 1)
    encoder, decoder = models.conv_encoder(shape, 2 * CODE, seed=0), models.conv_decoder(shape, CODE, seed=1)
    return models.VariationalAutoencoder(encoder, decoder, seed=0)


def tfae(model: str, x: np.ndarray, weights: list[np.ndarray]) -> Callable[[int], float]:
    return _keras_training(networks(model), x, weights, jit_compile=True, steps_per_execution=STEPS)


def keras(model: str, x: np.ndarray, weights: list[np.ndarray]) -> Callable[[int], float]:
    """Train the same layers as people do who have only Keras: a stock model, or a train_step from its examples."""
    parts = networks(model)
    import keras as k
    import tensorflow as tf

    if model == "dense":
        plain = k.Sequential([parts.encoder, parts.decoder])
        return _keras_training(plain, x, weights, target=x)

    class VAE(k.Model):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = parts.encoder, parts.decoder
            self.loss_tracker, self.noise = k.metrics.Mean("loss"), k.random.SeedGenerator(0)

        @property
        def metrics(self) -> list:
            return [self.loss_tracker]

        def train_step(self, batch: Any) -> dict[str, Any]:
            with tf.GradientTape() as tape:
                mean, log_variance = tf.split(tf.cast(self.encoder(batch), "float32"), 2, axis=-1)
                z = mean + tf.exp(log_variance / 2) * k.random.normal(tf.shape(mean), seed=self.noise)
                p = tf.clip_by_value(tf.cast(self.decoder(z), "float32"), 1e-7, 1 - 1e-7)
                error = -tf.reduce_sum(batch * tf.math.log(p) + (1 - batch) * tf.math.log(1 - p), axis=(1, 2, 3))
                kl = -0.5 * tf.reduce_sum(1 + log_variance - tf.square(mean) - tf.exp(log_variance), axis=-1)
                loss = tf.reduce_mean(error + kl)
            self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
            self.loss_tracker.update_state(loss)
            return {"loss": self.loss_tracker.result()}

    return _keras_training(VAE(), x, weights)


def _keras_training(
    model: Any, x: np.ndarray, weights: list[np.ndarray], target: Any = None, **options: Any
) -> Callable[[int], float]:
    import keras as k
    import tensorflow as tf

    x, target = tf.constant(x), None if target is None else tf.constant(target)
    losses = () if hasattr(model, "noise") or hasattr(model, "beta") else ("mse",)
    model.compile(k.optimizers.Adam(STEP), *losses, **options)

    def train(epochs: int) -> float:
        for variable, value in zip(model.trainable_weights, weights, strict=bool(weights)):
            variable.assign(value)
        for variable in model.optimizer.variables:
            if variable.path.split("/")[-1] != "learning_rate":
                variable.assign(np.zeros(variable.shape))
        # No seed is set here: TensorFlow would forget all programs it has prepared, and prepare them in every round.
        return model.fit(x, target, batch_size=BATCH, epochs=epochs, verbose=0).history["loss"][-1]

    return train


# --- where the time goes ---------------------------------------------------------------------------------------------


def where(rounds: int, epochs: int) -> None:
    """Print the microseconds that a step takes, part by part."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), "dense")
        x = tf.constant(np.load(f"{folder}/x.npy"))
    order = np.random.default_rng(0).permutation(len(x))[: 64 * BATCH].reshape(64, BATCH).astype("int32")
    parts = _parts(x, tf.constant(order))
    steps = dict.fromkeys(parts, 64)
    parts["fit: shuffle, callbacks, last batch"] = _fit(x, epochs)
    steps["fit: shuffle, callbacks, last batch"] = epochs * len(x) / BATCH
    for run in parts.values():
        run()  # compiles
    wall: dict[str, list[float]] = {name: [] for name in parts}
    processor: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(4 * rounds):
        for name, run in parts.items():
            start = time.perf_counter(), time.process_time()
            run()
            wall[name].append((time.perf_counter() - start[0]) / steps[name] * 1e6)
            processor[name].append((time.process_time() - start[1]) / steps[name] * 1e6)
    print(f"dense: microseconds a step of {BATCH} images, medians of {4 * rounds} turns")
    print(f"{'':<42}{'elapsed':>9}{'more':>7}{'of the processors':>19}{'more':>7}")
    before = 0.0, 0.0
    for name in parts:
        now = statistics.median(wall[name]), statistics.median(processor[name])
        print(f"{name:<42}{now[0]:>9.0f}{now[0] - before[0]:>+7.0f}{now[1]:>19.0f}{now[1] - before[1]:>+7.0f}")
        before = now


def _parts(x: Any, order: Any) -> dict[str, Callable]:
    """Programs of 64 steps, each doing what the one before it does and one thing more."""
    import tensorflow as tf

    def compiled() -> Any:
        model = networks("dense")
        model.compile("adam", "mse", jit_compile=True, steps_per_execution=64)
        model.fit(x[:BATCH], batch_size=BATCH, verbose=0)
        return model

    def gradients(model: Any, batch: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(batch, training=True) - batch))
        return tape.gradient(loss, model.trainable_weights)

    def descend(model: Any, rows: Any) -> None:
        for variable, gradient in zip(model.trainable_weights, gradients(model, x[:BATCH]), strict=True):
            variable.assign_sub(STEP * gradient)

    def adam(model: Any, rows: Any) -> None:
        model.optimizer.apply(gradients(model, x[:BATCH]), model.trainable_weights)

    def gather(model: Any, rows: Any) -> None:
        model.optimizer.apply(gradients(model, tf.gather(x, rows)), model.trainable_weights)

    def metrics(model: Any, rows: Any) -> None:
        model.train_step(tf.gather(x, rows))

    def program(step: Callable) -> Callable:
        model = compiled()

        @tf.function(jit_compile=True)
        def steps(order: Any) -> Any:
            for rows in order:
                step(model, rows)
            return tf.reduce_sum(model.trainable_weights[1])

        return lambda: steps(order).numpy()

    names = "products and derivatives, plain descent", "+ Adam", "+ gathering the rows", "+ loss and metrics"
    return {name: program(step) for name, step in zip(names, (descend, adam, gather, metrics), strict=True)}


def _fit(x: Any, epochs: int) -> Callable:
    train = _keras_training(networks("dense"), x, [], jit_compile=True, steps_per_execution=STEPS)
    return lambda: train(epochs)


# --- PyTorch ---------------------------------------------------------------------------------------------------------


def torch(
    model: str, x: np.ndarray, weights: list[np.ndarray], mixed: bool, compiled: bool = False
) -> Callable[[int], float]:
    import torch as t
    import torch.nn.functional as f

    t.set_flush_denormal(True)
    t.set_float32_matmul_precision("high")  # on a GPU, as TensorFlow and JAX have it
    device = "cuda" if t.cuda.is_available() else "cpu"
    images = t.tensor(x.transpose(0, 3, 1, 2).copy() if model == "conv_vae" else x, device=device)

    def dense(p: list[Any], batch: Any) -> Any:
        h = batch
        for i in range(0, 12, 2):
            h = h @ p[i] + p[i + 1]
            h = h if i == 4 else f.sigmoid(h) if i == 10 else f.relu(h)
        return f.mse_loss(h, batch)

    def conv_vae(p: list[Any], batch: Any) -> Any:
        h = batch
        for i in (0, 2):  # padded as Keras does it: at the end
            h = f.relu(f.conv2d(f.pad(h, (0, 1, 0, 1)), p[i], p[i + 1], stride=2))
        mean, log_variance = (h.permute(0, 2, 3, 1).flatten(1) @ p[4] + p[5]).chunk(2, dim=1)
        z = mean + t.exp(log_variance / 2) * t.randn_like(mean)
        h = f.relu(z @ p[6] + p[7]).reshape(-1, 7, 7, 32).permute(0, 3, 1, 2)
        h = f.relu(f.conv_transpose2d(h, p[8], p[9], stride=2)[..., :14, :14])
        logits = f.conv_transpose2d(h, p[10], p[11], stride=2)[..., :28, :28]
        error = f.binary_cross_entropy_with_logits(logits, batch, reduction="sum")
        kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        return (error + kl) / len(batch)

    loss_of = t.compile(locals()[model]) if compiled else locals()[model]

    def train(epochs: int) -> float:
        # Keras holds convolutions as (height, width, in, out), transposed ones as (height, width, out, in)
        start = [w.transpose(3, 2, 0, 1) if w.ndim == 4 else w for w in weights]
        p = [t.tensor(np.ascontiguousarray(w), device=device, requires_grad=True) for w in start]
        optimizer = t.optim.Adam(p, STEP, eps=1e-7, fused=True)
        for _ in range(epochs):
            total, order = t.zeros((), device=device), t.randperm(len(images), device=device)
            for rows in order.split(BATCH):
                optimizer.zero_grad()
                with t.autocast(device, t.bfloat16, enabled=mixed):
                    loss = loss_of(p, images[rows])
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(rows)
        return float(total) / len(images)

    return train


def torch_compiled(model: str, x: np.ndarray, weights: list[np.ndarray], mixed: bool) -> Callable[[int], float]:
    return torch(model, x, weights, mixed, compiled=True)


# --- JAX -------------------------------------------------------------------------------------------------------------


def jax(model: str, x: np.ndarray, weights: list[np.ndarray], mixed: bool) -> Callable[[int], float]:
    import jax as j
    from jax import nn
    from jax import numpy as jnp

    images, tree = jnp.asarray(x), j.tree.map
    layout = ("NHWC", "HWIO", "NHWC")

    def lower(values: Any) -> Any:
        return tree(lambda value: value.astype(jnp.bfloat16), values) if mixed else values

    def dense(p: list[Any], batch: Any, key: Any) -> Any:
        p, h = lower((p, batch))
        for i in range(0, 12, 2):
            h = h @ p[i] + p[i + 1]
            h = h if i == 4 else nn.sigmoid(h) if i == 10 else nn.relu(h)
        return jnp.mean((h.astype("float32") - batch) ** 2)

    def conv_vae(p: list[Any], batch: Any, key: Any) -> Any:
        p, h = lower((p, batch))
        for i in (0, 2):
            h = nn.relu(j.lax.conv_general_dilated(h, p[i], (2, 2), "SAME", dimension_numbers=layout) + p[i + 1])
        mean, log_variance = jnp.split((h.reshape(len(h), -1) @ p[4] + p[5]).astype("float32"), 2, axis=1)
        z = mean + jnp.exp(log_variance / 2) * j.random.normal(key, mean.shape)
        h = nn.relu(lower(z) @ p[6] + p[7]).reshape(-1, 7, 7, 32)
        up = {"strides": (2, 2), "padding": "SAME", "dimension_numbers": layout, "transpose_kernel": True}
        h = nn.relu(j.lax.conv_transpose(h, p[8], **up) + p[9])
        logits = (j.lax.conv_transpose(h, p[10], **up) + p[11]).astype("float32")
        error = jnp.sum(nn.softplus(logits) - batch * logits)
        kl = -0.5 * jnp.sum(1 + log_variance - mean**2 - jnp.exp(log_variance))
        return (error + kl) / len(batch)

    value_and_grad = j.value_and_grad(locals()[model])

    def step(state: Any, rows: Any) -> Any:
        p, m, v, count, key = state
        key, noise = j.random.split(key)
        loss, g = value_and_grad(p, images[rows], noise)
        count += 1
        rate = STEP * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        m = tree(lambda m, g: m + (g - m) * 0.1, m, g)
        v = tree(lambda v, g: v + (g * g - v) * 0.001, v, g)
        p = tree(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-7), p, m, v)
        return (p, m, v, count, key), loss

    def epoch(state: Any, order: Any, last: Any) -> Any:
        if model == "dense":
            state, losses = j.lax.scan(step, state, order)
        else:  # XLA's convolutions take ten times as long within a loop
            losses = []
            for rows in order:
                state, loss = step(state, rows)
                losses.append(loss)
        state, loss = step(state, last)
        return state, (jnp.sum(jnp.stack(losses)) * BATCH + loss * len(last)) / len(images)

    if model == "dense":
        epoch = j.jit(epoch)
    else:
        step = j.jit(step)

    rng = np.random.default_rng(0)

    def train(epochs: int) -> float:
        p = [jnp.asarray(w) for w in weights]
        zeros = tree(jnp.zeros_like, p)
        state, full = (p, zeros, zeros, jnp.zeros(()), j.random.key(0)), len(images) // BATCH * BATCH
        for _ in range(epochs):
            order = rng.permutation(len(images)).astype("int32")
            state, loss = epoch(state, order[:full].reshape(-1, BATCH), order[full:])
        return float(loss)

    return train


if __name__ == "__main__":
    main()
