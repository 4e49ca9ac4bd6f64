"""Every model with everything that is done to it: the right answer, or one readable error.

Two tables are multiplied: `MODELS` with `USES`, what a Keras user does, and `MODELS` with `ANALYSES`, what this package
does. The truth of a use is the same training written out by hand, which never calls the model itself; that of an
analysis is the same network in NumPy, with 64 bits. What is refused stands in `REFUSED`, with words of its message.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfae import (
    adversarial,
    anomaly,
    attribution,
    compression,
    evaluation,
    features,
    generation,
    latent,
    models,
    shapley,
    surrogates,
    targets,
)
from tfae.alphabet import Alphabet
from tfae.dictionary import SparseDictionary
from tfae.generation import GenerativeAdversarialNetwork
from tfae.text import TextAutoencoder, Writer

pytestmark = pytest.mark.slow  # hundreds of short trainings
FEATURES, UNITS, CLASSES = 6, 3, 2
SEED = 6  # whose noise leaves no unit so near to a kink that half precision may round it to the other side
STRINGS = Alphabet(characters="abc", length=3)

# --- networks of every form ------------------------------------------------------------------------------------------


def start(seed: int, width: float = 0.8) -> keras.Initializer:
    return keras.initializers.RandomUniform(-width, width, seed=seed)


def dense(*widths: int, last: str = "linear", seed: int = 0) -> list:
    """Return dense layers with weights that the seed fixes."""
    activations = ["relu"] * (len(widths) - 1) + [last]
    return [
        layers.Dense(width, activation, kernel_initializer=start(seed + i), bias_initializer=start(seed + i + 9, 0.3))
        for i, (width, activation) in enumerate(zip(widths, activations, strict=True))
    ]


def conv(filters: int, activation: str = "relu", *, up: bool = False, seed: int = 0) -> keras.Layer:
    kind = layers.Conv2DTranspose if up else layers.Conv2D
    return kind(filters, 3, 2, "same", activation=activation, kernel_initializer=start(seed, 0.5))


@keras.saving.register_keras_serializable("matrix")
class Chain(keras.Model):
    """Layers one after the other, as somebody writes them who subclasses: nothing is built before the first call."""

    def __init__(self, chain: list, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.chain = chain

    def call(self, x: Any) -> Any:
        for layer in self.chain:
            x = layer(x)
        return x

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"chain": [keras.saving.serialize_keras_object(layer) for layer in self.chain]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Chain":
        return cls(**config | {"chain": [keras.saving.deserialize_keras_object(layer) for layer in config["chain"]]})


@keras.saving.register_keras_serializable("matrix")
class Restless(Chain):
    """One that trains unless it is told otherwise, as some authors write it."""

    def call(self, x: Any, training: bool = True) -> Any:
        for layer in self.chain:
            x = (
                layer(x, training=training)
                if isinstance(layer, layers.Dropout | layers.BatchNormalization)
                else layer(x)
            )
        return x


def functional(shape: tuple, chain: list) -> keras.Model:
    inputs = x = keras.Input(shape)
    for layer in chain:
        x = layer(x)
    return keras.Model(inputs, x)


def nested(shape: tuple, chain: list) -> keras.Model:
    return keras.Sequential([keras.Input(shape), keras.Sequential(chain[:1]), Chain(chain[1:])])


FORMS: dict[str, Callable[[tuple, list], keras.Model]] = {
    "sequential": lambda shape, chain: keras.Sequential([keras.Input(shape), *chain]),
    "unbuilt": lambda shape, chain: keras.Sequential(chain),
    "functional": functional,
    "nested": nested,
    "subclassed": lambda shape, chain: Chain(chain),
    "restless": lambda shape, chain: Restless(chain),
}


def leaves(part: Any) -> list[Any]:
    """Return the layers of a chain of any form, in the order of the calls."""
    inner = getattr(part, "chain", None) or (part.layers if isinstance(part, keras.Model) else None)
    return [part] if inner is None else [leaf for layer in inner for leaf in leaves(layer)]


class Parts:
    """Makes the parts of one model: in one form, with the same layers between the first two of each."""

    def __init__(self, form: str, between: Sequence[str]) -> None:
        self.form, self.between = FORMS[form], between

    def __call__(self, shape: int | tuple, chain: list) -> keras.Model:
        chain = [chain[0], *(BETWEEN[name]() for name in self.between), *chain[1:]]
        return self.form((shape,) if isinstance(shape, int) else shape, chain)

    def encoder(self, *, units: int = UNITS, last: str = "linear") -> keras.Model:
        return self(FEATURES, dense(5, units, last=last))

    def decoder(self, *, units: int = UNITS, last: str = "sigmoid") -> keras.Model:
        return self(units, dense(5, FEATURES, last=last, seed=50))

    def built(self, autoencoder: models.Autoencoder) -> models.Autoencoder:
        """Return what a builder made, its parts as they are or with those layers within."""
        if not self.between:
            return autoencoder
        parts = autoencoder.encoder, autoencoder.decoder
        return models.Autoencoder(*(self(part.input_shape[1:], part.layers) for part in parts))


# --- models, and what each minimises, written out --------------------------------------------------------------------


class Run:
    """A pass over the data by hand: in training or not, with the noise that a seed gives."""

    def __init__(self, training: bool = True, precision: str = "float32") -> None:
        self.training, self.precision = training, precision
        self.noise = keras.random.SeedGenerator(SEED)

    def __call__(self, part: Any, x: Any) -> Any:
        return part(x, training=self.training)

    def normal(self, like: Any) -> Any:
        return self.drawn(keras.random.normal, like.shape)

    def drawn(self, draw: Callable, shape: Sequence[int]) -> Any:
        """Return noise as a network of this precision would draw it."""
        return tf.cast(draw(shape, dtype=self.precision, seed=self.noise), "float32")


def mean_square(x: Any, x_hat: Any) -> Any:
    return tf.reduce_mean((x - x_hat) ** 2, axis=range(1, len(x.shape)))


def plain(model: Any, x: Any, y: Any, run: Run) -> tuple:
    return mean_square(y, run(model.decoder, run(model.encoder, x))), 0.0


def denoising(model: Any, x: Any, y: Any, run: Run) -> tuple:
    return plain(model, x + 0.3 * run.normal(x) if run.training else x, y, run)


def masking(model: Any, x: Any, y: Any, run: Run) -> tuple:
    kept = run.drawn(keras.random.uniform, x.shape) >= 0.3 if run.training else True
    return plain(model, tf.where(kept, x, 0.0), y, run)


def tied(model: Any, x: Any, y: Any, run: Run) -> tuple:
    one, two = (layer.kernel.value for layer in model.encoder.layers[-2:])
    inner, outer = (model.decoder.layers[0].biases[i].value for i in (1, 0))
    hidden = tf.nn.relu(run(model.encoder, x) @ tf.transpose(two) + inner)
    return mean_square(y, tf.sigmoid(hidden @ tf.transpose(one) + outer)), 0.0


def k_sparse(model: Any, x: Any, y: Any, run: Run) -> tuple:
    z = run(model.encoder, x)
    return mean_square(y, run(model.decoder, tf.where(z >= tf.sort(z)[:, -2:-1], z, 0.0))), 0.0


def sparse_dictionary(model: Any, x: Any, y: Any, run: Run) -> tuple:
    centre, scale, directions = model.centre.value, model.scale.value, model.decoder.kernel.value
    z = tf.maximum(run(model.encoder, (x - centre) / scale), 0)
    z = tf.where(z >= tf.sort(z)[:, -2:-1], z, 0.0)
    if run.training:  # it counts for how many steps a feature was silent
        model.silent.assign(tf.where(tf.reduce_any(z > 0, axis=0), 0.0, model.silent + 1))
    x_hat = centre + scale * z @ (directions / tf.norm(directions, axis=1, keepdims=True))
    return mean_square(y / scale, x_hat / scale), 0.0


def l1(model: Any, x: Any, y: Any, run: Run) -> tuple:
    z = run(model.encoder, x)
    return mean_square(y, run(model.decoder, z)), 0.3 * tf.reduce_sum(tf.abs(z)) / len(x)


def kl(model: Any, x: Any, y: Any, run: Run) -> tuple:
    z = run(model.encoder, x)
    rho, active = 0.1, tf.reduce_mean(z, axis=0)
    divergence = rho * tf.math.log(rho / active) + (1 - rho) * tf.math.log((1 - rho) / (1 - active))
    return mean_square(y, run(model.decoder, z)), 0.3 * tf.reduce_sum(divergence)


def contractive(model: Any, x: Any, y: Any, run: Run) -> tuple:
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        z = run(model.encoder, x)
        sums = tf.unstack(tf.reduce_sum(tf.reshape(z, (len(x), -1)), axis=0))  # one for each unit
    slopes = [tape.gradient(unit, x) for unit in sums]
    return mean_square(y, run(model.decoder, z)), 0.3 * sum(tf.reduce_sum(s**2) for s in slopes) / len(x)


def bernoulli(x: Any, p: Any) -> Any:
    return tf.reduce_sum(x * tf.math.log(p) + (1 - x) * tf.math.log(1 - p), axis=range(1, len(x.shape)))


def gaussian(x: Any, mean: Any) -> Any:
    terms = (x - mean) ** 2 / (2 * 0.5**2) + math.log(0.5 * math.sqrt(2 * math.pi))
    return -tf.reduce_sum(terms, axis=range(1, len(x.shape)))


def drawn(model: Any, x: Any, run: Run) -> tuple:
    mean, log_variance = tf.split(run(model.encoder, x), 2, axis=-1)
    return mean + tf.exp(log_variance / 2) * run.normal(mean), (mean**2 + tf.exp(log_variance) - 1 - log_variance) / 2


def variational(model: Any, x: Any, y: Any, run: Run) -> tuple:
    z, divergence = drawn(model, x, run)
    return tf.reduce_sum(divergence, axis=1) - bernoulli(y, run(model.decoder, z)), 0.0


def beta(model: Any, x: Any, y: Any, run: Run) -> tuple:
    z, divergence = drawn(model, x, run)
    paid = 2.0 * tf.reduce_sum(tf.maximum(divergence, 0.1), axis=1)
    return paid - gaussian(y, run(model.decoder, z)), 0.0


def importance(model: Any, x: Any, y: Any, run: Run) -> tuple:
    mean, log_variance = tf.split(run(model.encoder, x), 2, axis=-1)
    noise = [run.normal(mean) for _ in range(3)]
    codes = [mean + tf.exp(log_variance / 2) * e for e in noise]
    decoded = tf.split(run(model.decoder, tf.concat(codes, 0)), 3)
    weights = [
        bernoulli(y, p) - tf.reduce_sum(z**2 - e**2 - log_variance, axis=1) / 2
        for p, z, e in zip(decoded, codes, noise, strict=True)
    ]
    return math.log(3) - tf.reduce_logsumexp(tf.stack(weights), axis=0), 0.0


def told(z: Any, labels: Any) -> Any:
    return tf.concat([z, tf.one_hot(labels, CLASSES)], axis=1)


def conditional(model: Any, x: Any, labels: Any, run: Run) -> tuple:
    z, divergence = drawn(model, x, run)
    return tf.reduce_sum(divergence, axis=1) - bernoulli(x, run(model.decoder, told(z, labels))), 0.0


def of_class(model: Any, x: Any, y: Any, run: Run) -> tuple:
    z, divergence = drawn(model, x, run)
    decoded = run(model.decoder.decoder, told(z, [1] * len(x)))
    return tf.reduce_sum(divergence, axis=1) - bernoulli(y, decoded), 0.0


def taught(writer: Writer, z: Any, written: Any) -> Any:
    """Return the probabilities of characters after those of `written`."""
    before = tf.concat([tf.zeros_like(written[:, :1]), written[:, :-1]], axis=1)
    code = tf.repeat(z[:, tf.newaxis], STRINGS.length, axis=1)
    return writer.choice(writer.recurrence(tf.concat([before, code], axis=2), initial_state=writer.start(z)))


def text(model: Any, x: Any, y: Any, run: Run) -> tuple:
    z = run(model.encoder, x)
    written = y
    if not run.training:  # it goes on from its own characters
        written = tf.zeros_like(x)
        for _ in range(STRINGS.length):
            written = tf.one_hot(tf.argmax(taught(model.decoder, z, written), axis=2), x.shape[2])
    probabilities = taught(model.decoder, z, written)
    return -tf.reduce_mean(tf.reduce_sum(y * tf.math.log(probabilities), axis=2), axis=1), 0.0


def two_players(model: Any, x: Any, y: Any, run: Run) -> list:
    samples = run(model.generator, run.drawn(keras.random.normal, (len(x), UNITS)))
    real = run(model.discriminator, x)
    paid = sum(model.discriminator.losses)  # for its activity on the data; and its weights, which count once
    fake = run(model.discriminator, samples)
    paid += sum(model.discriminator.losses) - decay(model.discriminator)
    against = tf.reduce_mean(-tf.math.log_sigmoid(real) - tf.math.log(1 - tf.sigmoid(fake)))
    return [
        (against + paid, model.discriminator),
        (-tf.reduce_mean(tf.math.log_sigmoid(fake)) + sum(model.generator.losses), model.generator),
    ]


def decay(part: Any) -> Any:
    """Return what the weights of a part pay."""
    return sum(0.01 * tf.reduce_sum(leaf.alpha**2) for leaf in leaves(part) if isinstance(leaf, layers.PReLU))


@dataclass(frozen=True)
class Model:
    """One line of the table."""

    make: Callable[[Parts], keras.Model]
    by_hand: Callable  # what is minimised: the error of each sample, and what the batch pays beside it
    data: str = "table"
    form: str = "sequential"
    loss: str | None = "mse"
    targets: str | None = "samples"  # what y is: "samples", "labels", or None where it is refused


def of_parts(kind: type, **options: Any) -> Callable[[Parts], keras.Model]:
    return lambda parts: kind(parts.encoder(), parts.decoder(), **options)


def variational_of(**options: Any) -> Callable[[Parts], keras.Model]:
    return lambda parts: models.VariationalAutoencoder(
        parts.encoder(units=2 * UNITS), parts.decoder(), seed=SEED, **options
    )


def conditional_of(parts: Parts) -> models.ConditionalVariationalAutoencoder:
    return models.ConditionalVariationalAutoencoder(
        parts.encoder(units=2 * UNITS), parts.decoder(units=UNITS + CLASSES), CLASSES, seed=SEED
    )


def dictionary_of(parts: Parts) -> SparseDictionary:
    model = SparseDictionary(UNITS, "topk", k=2, seed=0)  # brings its parts along
    model.adapt(samples("table"))  # as a clone does with what it is trained on
    return model


def images_of(kind: type, *, units: int = UNITS, **options: Any) -> Callable[[Parts], keras.Model]:
    def make(parts: Parts) -> keras.Model:
        encoder = parts((8, 8, 1), [conv(2), conv(3, seed=1), layers.Flatten(), *dense(units)])
        up = [conv(2, up=True, seed=3), conv(1, "sigmoid", up=True, seed=4)]
        return kind(encoder, parts(UNITS, [*dense(12, last="relu", seed=2), layers.Reshape((2, 2, 3)), *up]), **options)

    return make


def places_of(kind: type, **options: Any) -> Callable[[Parts], keras.Model]:
    """Return the maker of a model whose code has places: (4, 4, 2)."""

    def make(parts: Parts) -> keras.Model:
        decoder = [conv(2, up=True, seed=3), layers.Conv2D(1, 1, activation="sigmoid", kernel_initializer=start(4))]
        return kind(parts((8, 8, 1), [conv(2), *dense(2)]), parts((4, 4, 2), decoder), **options)

    return make


def text_of(parts: Parts) -> TextAutoencoder:
    gru = layers.GRU(4, kernel_initializer=start(1), recurrent_initializer=start(2))
    encoder = parts(
        STRINGS.shape, [layers.Conv1D(4, 3, activation="relu", kernel_initializer=start(0)), gru, *dense(UNITS)]
    )
    return TextAutoencoder(encoder, Writer(UNITS, *STRINGS.shape, 4, seed=3))


def gan_of(parts: Parts) -> GenerativeAdversarialNetwork:
    generator = (
        FORMS["sequential"]((UNITS,), parts.decoder().layers) if parts.form is FORMS["unbuilt"] else parts.decoder()
    )
    generator(np.zeros((1, UNITS)))  # it says how long codes are
    return GenerativeAdversarialNetwork(generator, parts.encoder(units=1), seed=SEED)


BUILDER = {"hidden": (5,), "seed": 0}
MODELS: dict[str, Model] = {
    "linear": Model(lambda parts: parts.built(models.linear_autoencoder(FEATURES, UNITS, seed=0)), plain),
    "dense": Model(lambda parts: parts.built(models.dense_autoencoder(FEATURES, UNITS, **BUILDER)), plain),
    "conv": Model(
        lambda parts: parts.built(models.conv_autoencoder((8, 8, 1), UNITS, (2, 3), seed=0)), plain, "images"
    ),
    "unbuilt": Model(of_parts(models.Autoencoder), plain, form="unbuilt"),
    "functional": Model(of_parts(models.Autoencoder), plain, form="functional"),
    "nested": Model(of_parts(models.Autoencoder), plain, form="nested"),
    "subclassed": Model(of_parts(models.Autoencoder), plain, form="subclassed"),
    "restless": Model(of_parts(models.Autoencoder), plain, form="restless"),
    "denoising": Model(of_parts(models.DenoisingAutoencoder, seed=SEED), denoising, form="functional"),
    "masking": Model(
        of_parts(models.DenoisingAutoencoder, corruption="masking", seed=SEED), masking, form="subclassed"
    ),
    "tied": Model(lambda parts: models.TiedAutoencoder(parts.encoder()), tied),
    "k-sparse": Model(of_parts(models.KSparseAutoencoder, k=2), k_sparse),
    "k-sparse subclassed": Model(of_parts(models.KSparseAutoencoder, k=2), k_sparse, form="subclassed"),
    "dictionary": Model(dictionary_of, sparse_dictionary, loss=None),
    "L1": Model(of_parts(models.SparseAutoencoder, weight=0.3), l1, form="nested"),
    "L1 of places": Model(places_of(models.SparseAutoencoder, weight=0.3), l1, "images"),
    "KL": Model(
        lambda parts: models.SparseAutoencoder(parts.encoder(last="sigmoid"), parts.decoder(), "kl", 0.3, 0.1), kl
    ),
    "contractive": Model(of_parts(models.ContractiveAutoencoder, weight=0.3), contractive, form="functional"),
    "variational": Model(variational_of(), variational, loss=None),
    "beta": Model(
        variational_of(likelihood="gaussian", scale=0.5, beta=2.0, free_bits=0.1), beta, form="subclassed", loss=None
    ),
    "importance": Model(variational_of(importance_samples=3), importance, form="functional", loss=None),
    "variational of images": Model(
        images_of(models.VariationalAutoencoder, units=2 * UNITS, seed=SEED), variational, "images", loss=None
    ),
    "conditional": Model(conditional_of, conditional, loss=None, targets="labels"),
    "conditional subclassed": Model(conditional_of, conditional, form="subclassed", loss=None, targets="labels"),
    "of class": Model(lambda parts: conditional_of(parts).for_class(1), of_class, loss=None),
    "text": Model(text_of, text, "strings", loss="categorical_crossentropy"),
    "GAN": Model(gan_of, two_players, loss=None, targets=None),
    "GAN subclassed": Model(gan_of, two_players, form="subclassed", loss=None, targets=None),
}


def samples(kind: str, n: int = 6, seed: int = 0) -> np.ndarray:
    """Return some samples of a table, images, or strings as one-hot characters."""
    rng = np.random.default_rng(seed)
    if kind == "strings":
        return np.eye(STRINGS.shape[1], dtype="float32")[rng.integers(0, STRINGS.shape[1], (n, STRINGS.length))]
    return rng.uniform(0.05, 0.95, (n, FEATURES) if kind == "table" else (n, 8, 8, 1)).astype("float32")


# --- what a Keras user does ------------------------------------------------------------------------------------------

RATE, MOMENTUM = 0.05, 0.9


class Trial:
    """A new model of one line of the table, and what training by hand makes of its like."""

    def __init__(self, name: str, between: Sequence[str] = ()) -> None:
        self.line, self.key = MODELS[name], (name, between)
        self.x = samples(self.line.data)
        self.y = np.arange(len(self.x)) % CLASSES if self.line.targets == "labels" else None  # fit cannot do without
        self.clean = self.x[::-1].copy() if self.y is None else self.y
        self.weights = np.random.default_rng(1).uniform(0.2, 2, len(self.x)).astype("float32")

    @functools.cached_property
    def model(self) -> keras.Model:
        return self.made()

    def made(self) -> keras.Model:
        return self.line.make(Parts(self.line.form, self.key[1]))

    def compiled(self, model: keras.Model | None = None, **options: Any) -> keras.Model:
        model = self.model if model is None else model
        options = {"optimizer": keras.optimizers.SGD(RATE, MOMENTUM), "run_eagerly": True} | options
        model.compile(loss=self.line.loss, **options) if self.line.loss else model.compile(**options)
        return model

    def fit(self, x: Any, y: Any = None, *, model: keras.Model | None = None, **options: Any) -> dict[str, list]:
        """Return the logs of one epoch, in the order of the samples."""
        whole = {"batch_size": 4, "shuffle": False} if isinstance(x, np.ndarray) else {}
        return (model or self.compiled()).fit(x, y, verbose=0, **whole, **options).history

    def check(self, logs: dict[str, Any], tolerance: float = 1e-4, model: Any = None, **how: Any) -> None:
        """Raise if the model has not moved as training by hand moves it, or says other losses."""
        truth, weights, begun = by_hand(*self.key, **how)
        for name, values in truth.items():
            if name in logs:
                np.testing.assert_allclose(logs[name], values[-len(logs[name]) :], rtol=max(tolerance, 2e-5))
        way = np.sqrt(sum(np.sum((last - first) ** 2) for last, first in zip(weights, begun, strict=True)))
        for found, wanted in zip((model or self.model).get_weights(), weights, strict=True):
            assert np.linalg.norm(found - wanted) <= tolerance * way + 1e-6


def batches(name: str, what: str, size: int = 4) -> list[tuple]:
    """Return the data of a line of the table as they are trained on: (x, y, weights)."""
    trial = Trial(name)
    x, y = trial.x, trial.clean if trial.y is not None or "targets" in what else trial.x
    weights = trial.weights if "weights" in what else np.ones_like(trial.weights)
    weights = np.where(y == 1, 5, 1).astype("float32") if what == "classes" else weights
    rows = {"first": slice(0, 3), "rest": slice(3, 6), "one": slice(0, 4)}.get(what.split(" ")[0], slice(None))
    parts = [part[rows] for part in (x, y, weights)]
    return [tuple(tf.constant(part[i : i + size]) for part in parts) for i in range(0, len(parts[0]), size)]


@functools.cache
def reference(name: str, between: Sequence[str]) -> tuple[Any, list[np.ndarray]]:
    """Return the model that is trained by hand, and what its variables hold at the start."""
    trial = Trial(name, between)
    losses(trial.line, trial.model, batches(name, "")[0], Run(training=False))  # builds what is not built
    return trial.model, [np.array(v) for v in trial.model.variables]


def at_its_start(name: str, between: Sequence[str]) -> Any:
    model, start = reference(name, between)
    for variable, value in zip(model.variables, start, strict=True):
        variable.assign(value)
    return model


@functools.cache
def by_hand(
    name: str, between: Sequence[str], *, data: str = "", held_out: str | None = None, epochs: int = 1,
    frozen: bool = False, anew: bool = False, precision: str = "float32",
) -> tuple[dict[str, list], list, list]:  # fmt: skip
    """Train without the model's own call; return the logs, and the weights at the end and at the start."""
    line, model, run = MODELS[name], at_its_start(name, between), Run(precision=precision)
    first_part(model).trainable = not frozen
    begun, speed, logs = [np.array(weight) for weight in model.get_weights()], {}, []
    for _ in range(epochs):
        run = Run(precision=precision) if anew else run
        run.training, train, test = True, batches(name, data), [] if held_out is None else batches(name, held_out)
        paid = []
        for batch in train:
            with tf.GradientTape(persistent=True) as tape:
                found = losses(line, model, batch, run)
            slopes: list[tuple] = []
            for loss, part in found:
                weights = part.trainable_variables
                slopes += zip(weights, tape.gradient(loss, [v.value for v in weights]), strict=True)
            for variable, slope in slopes:
                speed[id(variable)] = MOMENTUM * speed.get(id(variable), 0) - RATE * slope
                variable.assign_add(speed[id(variable)])
            paid.append([float(loss) for loss, _ in found])
        run.training = False
        tested = [[float(loss) for loss, _ in losses(line, model, batch, run)] for batch in test]
        logs.append(mean(paid, train) | {f"val_{name}": value for name, value in mean(tested, test).items()})
    assert sum(np.linalg.norm(w - b) for w, b in zip(model.get_weights(), begun, strict=True)) > 1e-4
    return {name: [log[name] for log in logs] for name in logs[0]}, model.get_weights(), begun


def losses(line: Model, model: Any, batch: tuple, run: Run) -> list[tuple]:
    """Return what is minimised, and the part whose weights minimise it."""
    x, y, weights = batch
    found = line.by_hand(model, x, y, run)
    if isinstance(found, list):
        return found
    errors, penalty = found
    return [(tf.reduce_mean(weights * errors) + penalty + sum(model.encoder.losses + model.decoder.losses), model)]


def mean(paid: list[list[float]], data: list[tuple]) -> dict[str, float]:
    if not data:
        return {}
    names = ("loss",) if len(paid[0]) == 1 else ("discriminator_loss", "generator_loss")
    return dict(zip(names, np.average(paid, axis=0, weights=[len(batch[0]) for batch in data]), strict=True))


def first_part(model: Any) -> Any:
    return model.generator if isinstance(model, GenerativeAdversarialNetwork) else model.encoder


def dataset(*parts: Any) -> tf.data.Dataset:
    parts = tuple(part for part in parts if part is not None)
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0]).batch(4)


def fit_arrays(t: Trial) -> None:
    held_out = t.x if t.y is None else (t.x, t.y)
    t.check(t.fit(t.x, t.y, validation_data=held_out, epochs=2), held_out="", epochs=2)


def fit_dataset(t: Trial) -> None:
    """In a graph, as all others would be if tracing took no time."""
    t.check(t.fit(dataset(t.x, t.y), model=t.compiled(run_eagerly=False)))


def fit_dataset_of_three(t: Trial) -> None:
    data = dataset(t.x, t.clean, t.weights)
    t.check(t.fit(data, validation_data=data), data="targets and weights", held_out="targets and weights")


def fit_generator(t: Trial) -> None:
    parts = (t.x,) if t.y is None else (t.x, t.y)
    t.check(t.fit(tuple(part[i : i + 4] for part in parts) for i in (0, 4)))


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts: np.ndarray) -> None:
        super().__init__()
        self.parts = parts

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> tuple:
        return tuple(part[4 * i : 4 * i + 4] for part in self.parts)


def fit_py_dataset(t: Trial) -> None:
    t.check(t.fit(Batches(t.x, t.clean, t.weights), shuffle=False), data="targets and weights")


def fit_weights(t: Trial) -> None:
    t.check(t.fit(t.x, t.y, sample_weight=t.weights), data="weights")


def fit_class_weights(t: Trial) -> None:
    t.check(t.fit(t.x, t.y, class_weight={0: 1.0, 1: 5.0}), data="classes")


def fit_targets_and_weights(t: Trial) -> None:
    logs = t.fit(t.x, t.clean, sample_weight=t.weights, validation_data=(t.x, t.clean, t.weights))
    t.check(logs, data="targets and weights", held_out="targets and weights")


def validate_on_a_part(t: Trial) -> None:
    t.check(t.fit(t.x, t.y, validation_split=0.5), data="first", held_out="rest")


def untrained(t: Trial, logs: dict[str, float], data: str, size: int) -> None:
    """Raise if these are not the losses of a model that has not been trained."""
    run, like, model = Run(training=False), batches(t.key[0], data, size), at_its_start(*t.key)
    truth = mean([[float(loss) for loss, _ in losses(t.line, model, batch, run)] for batch in like], like)
    np.testing.assert_allclose([logs[name] for name in truth], list(truth.values()), rtol=2e-5)


def evaluate_weights(t: Trial) -> None:
    found = t.compiled().evaluate(t.x, t.y, sample_weight=t.weights, batch_size=4, verbose=0, return_dict=True)
    untrained(t, found, "weights", 4)


def train_on_batch(t: Trial) -> None:
    logs = t.compiled().train_on_batch(t.x[:4], None if t.y is None else t.y[:4], return_dict=True)
    t.check({name: [value] for name, value in logs.items()}, data="one")


def train_on_batch_with_weights(t: Trial) -> None:
    logs = t.compiled().train_on_batch(t.x[:4], t.clean[:4], t.weights[:4], return_dict=True)
    t.check({name: [value] for name, value in logs.items()}, data="one targets and weights")


def look_at_batch(t: Trial) -> None:
    untrained(t, t.compiled().test_on_batch(t.x, t.y, return_dict=True), "", 10)


def freeze(t: Trial) -> None:
    first_part(t.model).trainable = False
    t.check(t.fit(t.x, t.y), frozen=True)


def clone(t: Trial) -> None:
    model = t.compiled(keras.models.clone_model(t.model))
    t.check(t.fit(t.x, t.y, model=model), model=model)


def save_and_go_on(t: Trial, path: Any) -> None:
    t.fit(t.x, t.y)
    t.model.save(path / "model.keras")
    t.model.save_weights(path / "model.weights.h5")
    other = t.compiled(t.made())
    other.train_on_batch(t.x, t.y)  # builds what is not built
    other.load_weights(path / "model.weights.h5")
    t.check({}, model=other)
    loaded = keras.models.load_model(path / "model.keras")
    t.check(t.fit(t.x, t.y, model=loaded), epochs=2, anew=True, model=loaded)  # of its noise Keras keeps the seed alone


@contextmanager
def precision(name: str) -> Iterator[None]:
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


def in_half(policy: str, tolerance: float) -> Callable[[Trial], None]:
    def use(t: Trial) -> None:
        with precision(policy):
            t.model, optimizer = t.made(), keras.optimizers.SGD(RATE, MOMENTUM)
            if policy == "mixed_float16":  # the usual first scale is larger than these losses allow
                optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=64.0)
            logs = t.fit(t.x, t.y, model=t.compiled(optimizer=optimizer))
        t.check(logs, tolerance, precision=policy[6:])

    return use


def regularised() -> keras.Layer:
    return layers.PReLU(start(7), alpha_regularizer="l2", activity_regularizer=keras.regularizers.L1(0.1))


WAYS_IN: dict[str, Callable] = {
    "fit a dataset of three": fit_dataset_of_three,
    "fit a generator": fit_generator,
    "fit a PyDataset": fit_py_dataset,
    "fit weights": fit_weights,
    "fit targets and weights": fit_targets_and_weights,
    "fit class weights": fit_class_weights,
    "validate on a part": validate_on_a_part,
    "evaluate weights": evaluate_weights,
    "train on a batch": train_on_batch,
    "train on a batch with weights": train_on_batch_with_weights,
    "test on a batch": look_at_batch,
}
# What goes in is handled by the model and not by its parts: these hold nothing there that another line does not.
ASIDE = ("linear", "functional", "nested", "restless", "masking", "k-sparse subclassed")
USES: dict[str, Callable] = {
    **WAYS_IN,
    "fit arrays": fit_arrays,
    "fit a dataset": fit_dataset,
    "freeze one part": freeze,
    "clone": clone,
    "float16": in_half("mixed_float16", 0.02),
    "bfloat16": in_half("mixed_bfloat16", 0.1),
}
BETWEEN: dict[str, Callable[[], keras.Layer]] = {
    "batch normalisation": lambda: layers.BatchNormalization(momentum=0.5),
    "dropout": lambda: layers.Dropout(0.4, seed=SEED),
    "regularisers": regularised,
}


# --- the same networks in NumPy, with 64 bits ------------------------------------------------------------------------

ACTIVATIONS: dict[str, Callable] = {
    "linear": lambda a: a,
    "relu": lambda a: np.maximum(a, 0),
    "tanh": np.tanh,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "softmax": lambda a: np.exp(a) / np.exp(a).sum(axis=-1, keepdims=True),
}


def windows(x: np.ndarray, size: int) -> np.ndarray:
    """Return what a convolution of stride 2 and padding "same" sees: (n, places, places, size, size, channels)."""
    padded = np.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)])
    seen = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))[:, ::2, ::2]
    return np.moveaxis(seen, 3, -1)


class Exact:
    """A network in NumPy: the weights of a model as they are now, and nothing else of it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.weights = {id(v): np.array(v, "float64") for v in model.variables}

    def of(self, *variables: Any) -> list[np.ndarray]:
        return [self.weights[id(variable)] for variable in variables]

    def linear(self, layer: Any, a: np.ndarray) -> np.ndarray:
        """Return what a layer makes of `a` before its activation."""
        if isinstance(layer, layers.Flatten):
            return a.reshape(len(a), -1)
        if isinstance(layer, layers.Reshape):
            return a.reshape(len(a), *layer.target_shape)
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = self.of(layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
            return (a - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta
        if isinstance(layer, layers.Dropout | layers.InputLayer):
            return a
        kernel, bias = self.of(layer.kernel, layer.bias)
        if isinstance(layer, layers.Conv2DTranspose):  # a place adds its kernel to a window
            n, rows, columns, _ = a.shape
            spread = np.zeros((n, 2 * rows + 1, 2 * columns + 1, kernel.shape[2]))
            for i, j in np.ndindex(rows, columns):
                spread[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.einsum("nc,xyfc->nxyf", a[:, i, j], kernel)
            return spread[:, :-1, :-1] + bias
        if isinstance(layer, layers.Conv2D) and kernel.shape[0] == 3:
            return np.einsum("nijxyc,xycf->nijf", windows(a, 3), kernel) + bias
        if isinstance(layer, layers.Conv1D):
            seen = np.lib.stride_tricks.sliding_window_view(a, len(kernel), axis=1)
            return np.einsum("nicx,xcf->nif", seen, kernel) + bias
        return a @ kernel.reshape(kernel.shape[-2:]) + bias  # dense, or a convolution of single places

    def step(self, cell: Any, a: np.ndarray, h: np.ndarray) -> np.ndarray:
        """Return the next state of a gated recurrent unit."""
        kernel, recurrent, bias = self.of(cell.kernel, cell.recurrent_kernel, cell.bias)
        (update, reset, new), (u, r, s) = (
            np.split(v, 3, axis=1) for v in (a @ kernel + bias[0], h @ recurrent + bias[1])
        )
        sigmoid = ACTIVATIONS["sigmoid"]
        gate = sigmoid(update + u)
        return gate * h + (1 - gate) * np.tanh(new + sigmoid(reset + r) * s)

    def layer(self, layer: Any, a: np.ndarray) -> np.ndarray:
        if isinstance(layer, layers.GRU):
            h = np.zeros((len(a), layer.units))
            for i in range(a.shape[1]):
                h = self.step(layer.cell, a[:, i], h)
            return h
        return ACTIVATIONS[activation(layer)](self.linear(layer, a))

    def through(self, part: Any, a: Any) -> np.ndarray:
        a = np.asarray(a, "float64")
        for leaf in leaves(part):
            a = self.layer(leaf, a)
        return a

    # What the parts make together.

    def encoded(self, x: Any) -> np.ndarray:
        if isinstance(self.model, SparseDictionary):
            centre, scale = self.of(self.model.centre, self.model.scale)
            z = np.maximum(self.through(self.model.encoder, (x - centre) / scale), 0)
            return np.where(z >= np.sort(z)[:, -2, None], z, 0)
        return self.through(self.model.encoder, x)

    def code(self, x: Any) -> np.ndarray:
        return self.coded(self.encoded(x))

    def coded(self, z: np.ndarray, *, split: bool = True) -> np.ndarray:
        """Return the code that outputs of the encoder make."""
        if split and isinstance(self.model, models.VariationalAutoencoder):
            return z[:, :UNITS]
        if isinstance(self.model, models.KSparseAutoencoder):
            return np.where(z >= np.sort(z)[:, -2, None], z, 0)
        return z

    def divergence(self, x: Any) -> np.ndarray:
        mean, log_variance = np.split(self.encoded(x), 2, axis=1)
        return (mean**2 + np.exp(log_variance) - 1 - log_variance) / 2

    def decoded(self, z: Any, *, last: bool = True) -> np.ndarray:
        """Return what the decoder makes of codes, with its last activation or without."""
        z, model = np.asarray(z, "float64"), self.model
        if isinstance(model, models.TiedAutoencoder):
            (one, _), (two, _) = (self.of(layer.kernel, layer.bias) for layer in model.encoder.layers[-2:])
            outer, inner = self.of(*model.decoder.layers[0].biases)
            a = np.maximum(z @ two.T + inner, 0) @ one.T + outer
            return ACTIVATIONS["sigmoid"](a) if last else a
        if isinstance(model, TextAutoencoder):
            return self.written(z)
        if isinstance(model, SparseDictionary):
            centre, scale, directions = self.of(model.centre, model.scale, model.decoder.kernel)
            return centre + scale * z @ (directions / np.linalg.norm(directions, axis=1, keepdims=True))
        decoder = getattr(model.decoder, "decoder", model.decoder)
        if hasattr(model, "n_classes") or hasattr(model.decoder, "n_classes"):  # all are of class 1
            z = np.concatenate([z, np.eye(CLASSES)[[1] * len(z)]], axis=1)
        if last:
            return self.through(decoder, z)
        *before, final = [leaf for leaf in leaves(decoder) if getattr(leaf, "target_shape", None) != (FEATURES,)]
        for leaf in before:
            z = self.layer(leaf, z)
        return self.linear(final, z)

    def written(self, z: np.ndarray) -> np.ndarray:
        writer, places = self.model.decoder, []
        character, h = np.zeros((len(z), STRINGS.shape[1])), self.layer(writer.start, z)
        for _ in range(STRINGS.length):
            h = self.step(writer.recurrence.cell, np.concatenate([character, z], axis=1), h)
            places.append(self.layer(writer.choice, h))
            character = np.eye(STRINGS.shape[1])[places[-1].argmax(axis=1)]
        return np.stack(places, axis=1)

    def reconstruction(self, x: Any) -> np.ndarray:
        return self.decoded(self.code(x))

    def errors(self, x: Any) -> np.ndarray:
        return ((self.reconstruction(x) - x) ** 2).reshape(len(x), -1).mean(axis=1)

    def log_likelihood(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        p = self.decoded(z)
        if self.model.likelihood == "bernoulli":
            terms = x * np.log(p) + (1 - x) * np.log(1 - p)
        else:
            terms = -((x - p) ** 2) / (2 * 0.5**2) - math.log(0.5 * math.sqrt(2 * math.pi))
        return terms.reshape(len(x), -1).sum(axis=1)

    def draws(self, x: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return log p(x|z), and log p(x|z) p(z) / q(z|x), of n codes of each sample: (n, samples)."""
        mean, log_variance = np.split(self.encoded(x), 2, axis=1)
        rng, found = np.random.default_rng(7), []
        for _ in range(n):
            noise = rng.standard_normal(mean.shape)
            z = mean + np.exp(log_variance / 2) * noise
            likelihood = self.log_likelihood(x, z)
            found.append((likelihood, likelihood - ((z**2 - noise**2 - log_variance) / 2).sum(axis=1)))
        return np.array([a for a, _ in found]), np.array([b for _, b in found])


def activation(layer: Any) -> str:
    return getattr(getattr(layer, "activation", None), "__name__", "linear")


def slopes(function: Callable, x: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Return the derivatives of the numbers of each sample, (n, ...), by central differences: (n, ..., *sample)."""
    x = np.asarray(x, "float64")
    n, *sample = x.shape
    moves = step * np.eye(x[0].size).reshape(-1, 1, *sample)
    up, down = (function((x + sign * moves).reshape(-1, *sample)) for sign in (1, -1))
    found = ((up - down) / (2 * step)).reshape(-1, n, *up.shape[1:])
    return np.moveaxis(found, 0, -1).reshape(n, *up.shape[1:], *sample)


# --- what this package does with a model -----------------------------------------------------------------------------


class Subject:
    """A trained model, the samples it is asked about, and the same network in NumPy."""

    def __init__(self, name: str) -> None:
        line, *extra = name.split(" + ")
        self.line = MODELS[line]
        policy = next((word for word in extra if word in PRECISIONS), "float32")
        self.tolerance = PRECISIONS.get(policy, 1e-3)
        self.train = samples(self.line.data, 128 if self.line.data == "images" else 64, seed=3)
        labels = np.arange(len(self.train)) % CLASSES
        with precision(policy):
            self.model = self.line.make(Parts(self.line.form, [word for word in extra if word in BETWEEN]))
            self.model.compile(keras.optimizers.SGD(0.01), self.line.loss, run_eagerly=True)
            self.model.train_on_batch(self.train, labels if self.line.targets == "labels" else None)
        self.x = samples(self.line.data, 2, seed=4)
        self.segments = segments(self.line.data)
        self.exact = Exact(self.model)
        self.labels = {"labels": 1} if self.line.targets == "labels" else {}
        self.encoder, self.unit, self.pixel, code = None, 0, 0, (UNITS,)
        if self.line.targets is not None:
            self.encoder, code = self.model.encoder, self.exact.code(self.x).shape[1:]
            self.unit = int(np.abs(flat(self.exact.code(self.x))).min(axis=0).argmax())  # one that is active
            moves = slopes(lambda x: flat(self.exact.reconstruction(x)), self.x)
            self.pixel = int(np.abs(moves).reshape(len(self.x), self.x[0].size, -1).sum(axis=2).min(axis=0).argmax())
        self.place = tuple(int(i) for i in np.unravel_index(self.pixel, self.x.shape[1:]))
        self.z = np.random.default_rng(6).normal(size=(2, *code)).astype("float32")

    def close(self, found: Any, truth: Any, tolerance: float | None = None) -> None:
        found, truth = np.asarray(found, "float64"), np.asarray(truth, "float64")
        assert found.shape == truth.shape
        scale = np.abs(truth).max() or 1e-3
        np.testing.assert_allclose(found, truth, rtol=0, atol=(tolerance or self.tolerance) * scale)


def segments(kind: str) -> np.ndarray:
    """Return players of a few features: columns, quarters of images, places of strings."""
    if kind == "table":
        return np.arange(FEATURES)
    if kind == "strings":
        return np.repeat(np.arange(STRINGS.length)[:, np.newaxis], STRINGS.shape[1], axis=1)
    return (np.arange(8)[:, np.newaxis, np.newaxis] // 4) * 2 + np.arange(8)[:, np.newaxis] // 4


def flat(values: Any) -> np.ndarray:
    return np.reshape(values, (len(values), -1))


PRECISIONS = {"mixed_float16": 0.01, "mixed_bfloat16": 0.08}


def picked(code: Callable, unit: int) -> Callable:
    return lambda x: flat(code(x))[:, unit]


def target(make: Callable, truth: Callable, times: float = 1.0) -> Callable[[Subject], None]:
    """Return the analysis that holds a target and its derivative to a function of 64 bits."""

    def ask(s: Subject) -> None:
        asked, exact = make(s), truth(s)
        s.close(anomaly.score(asked, s.x), exact(s.x), times * s.tolerance)
        s.close(attribution.gradient(asked, s.x).values, slopes(exact, s.x), 3 * times * s.tolerance)

    return ask


def half_mask(s: Subject) -> np.ndarray:
    return (np.arange(s.x[0].size) < s.x[0].size / 2).reshape(s.x.shape[1:])


def masked_error(s: Subject) -> Callable:
    return lambda x: ((s.exact.reconstruction(x) - x) ** 2)[:, half_mask(s)].mean(axis=1)


def squared_distance(s: Subject) -> Callable:
    z = flat(s.exact.code(s.train))
    centre, inverse = z.mean(axis=0), np.linalg.inv(np.cov(z, rowvar=False))
    return lambda x: np.einsum("ni,ij,nj->n", flat(s.exact.code(x)) - centre, inverse, flat(s.exact.code(x)) - centre)


def likelihood_of_both(s: Subject) -> Callable:
    z = flat(s.exact.code(s.train))
    variance, features = s.exact.errors(s.train).mean(), s.x[0].size
    constant = features * math.log(2 * math.pi * variance) + np.linalg.slogdet(2 * math.pi * np.cov(z, rowvar=False))[1]
    return lambda x: (s.exact.errors(x) * features / variance + squared_distance(s)(x) + constant) / 2


def in_units(s: Subject) -> Callable:
    def standard(exact: Callable) -> Callable:
        known = exact(s.train)
        return lambda x: (exact(x) - known.mean()) / known.std()

    error, unit = standard(s.exact.errors), standard(picked(s.exact.code, s.unit))
    return lambda x: error(x) + unit(x)


TARGETS: dict[str, Callable[[Subject], None]] = {
    "target output": target(
        lambda s: targets.output(s.model, s.pixel), lambda s: picked(s.exact.reconstruction, s.pixel)
    ),
    "target logit": target(
        lambda s: targets.logit(s.model, s.pixel),
        lambda s: picked(lambda x: s.exact.decoded(s.exact.code(x), last=False), s.pixel),
    ),
    "target latent": target(lambda s: targets.latent(s.model, s.unit), lambda s: picked(s.exact.code, s.unit)),
    "target pixel": target(
        lambda s: targets.pixel(s.model, s.place), lambda s: picked(s.exact.reconstruction, s.pixel)
    ),
    "target reconstruction error": target(lambda s: targets.reconstruction_error(s.model), lambda s: s.exact.errors),
    "target masked error": target(lambda s: targets.reconstruction_error(s.model, mask=half_mask(s)), masked_error),
    "target KL": target(lambda s: targets.kl(s.model), lambda s: lambda x: s.exact.divergence(x).sum(axis=1)),
    "target KL of a unit": target(lambda s: targets.kl(s.model, unit=1), lambda s: picked(s.exact.divergence, 1)),
    "code distance": target(lambda s: anomaly.code_distance(s.model, s.train), squared_distance, 5.0),
    "negative log-likelihood": target(
        lambda s: anomaly.negative_log_likelihood(s.model, s.train), likelihood_of_both, 5.0
    ),
    "combined scores": target(
        lambda s: anomaly.combined([targets.reconstruction_error(s.model), targets.latent(s.model, s.unit)], s.train),
        in_units,
        5.0,
    ),
}


def means_agree(found: np.ndarray, draws: np.ndarray, n_samples: int, slack: Any = 0.0, own: Any = 0.0) -> None:
    """Raise if a mean over `n_samples` draws is not that of these draws, six standard errors allowed."""
    error = np.maximum(draws.std(axis=0) * math.sqrt(1 / len(draws) + 1 / n_samples), 2 * own)
    assert np.all(np.abs(found - draws.mean(axis=0)) <= 6 * error + slack), (found, draws.mean(axis=0), error)


def bound(s: Subject) -> np.ndarray:
    """Return log p(x|z) less the divergence for many draws of z."""
    return s.exact.draws(s.x, 400)[0] - s.exact.divergence(s.x).sum(axis=1)


def target_elbo(s: Subject) -> None:
    found = anomaly.score(targets.elbo(s.model, n_samples=300), s.x)
    means_agree(found, bound(s), 300, 3 * s.tolerance)


def negative_elbo(s: Subject) -> None:
    found = anomaly.score(anomaly.negative_elbo(s.model, n_samples=300), s.x)
    means_agree(found, -bound(s), 300, 3 * s.tolerance)


# The model's own answers.


def encode(s: Subject) -> None:
    found = s.model.encode(s.x, batch_size=2)
    assert found.dtype == np.float32  # whatever the network computes in
    s.close(found, s.exact.code(s.x))
    s.close(s.model.encode(dataset(s.x)), s.exact.code(s.x))


def decode(s: Subject) -> None:
    s.close(s.model.decode(s.z, batch_size=2, **s.labels), s.exact.decoded(s.z))


def reconstruct(s: Subject) -> None:
    s.close(s.model.reconstruct(s.x, batch_size=2, **s.labels), s.exact.reconstruction(s.x))


def reconstruct_a_dataset(s: Subject) -> None:
    s.close(s.model.reconstruct(dataset(s.x), **s.labels), s.exact.reconstruction(s.x))


def reconstruction_error(s: Subject) -> None:
    s.close(s.model.reconstruction_error(s.x, batch_size=2, **s.labels), s.exact.errors(s.x))


def predict(s: Subject) -> None:
    pair = (s.x, np.ones(len(s.x), int)) if s.labels else s.x
    s.close(s.model.predict(pair, batch_size=2, verbose=0), s.exact.reconstruction(s.x))


def encode_distribution(s: Subject) -> None:
    s.close(np.concatenate(s.model.encode_distribution(s.x), axis=1), s.exact.encoded(s.x))


def sample(s: Subject) -> None:
    found = s.model.sample(2000, seed=0, **s.labels)
    drawn = s.exact.decoded(np.random.default_rng(1).standard_normal((2000, UNITS)))
    means_agree(found.mean(axis=0), drawn, 2000, s.tolerance)


def elbo(s: Subject) -> None:
    means_agree(s.model.elbo(s.x, n_samples=300, **s.labels), bound(s), 300, 3 * s.tolerance)


def log_likelihood(s: Subject) -> None:
    found, weights = s.model.log_likelihood(s.x, n_samples=2000, **s.labels), s.exact.draws(s.x, 2000)[1]
    shares = np.exp(weights - weights.max(axis=0))
    truth = np.log(shares.mean(axis=0)) + weights.max(axis=0)
    error = shares.std(axis=0) / shares.mean(axis=0) * math.sqrt(2 / 2000)
    assert np.all(np.abs(found - truth) <= 6 * error + 3 * s.tolerance)


# Attribution: of a code unit, back through the encoder.


def back(s: Subject, rule: Callable, *, value: bool = False) -> np.ndarray:
    """Return what `rule` hands back of a code unit: (layer, its input, its output, what came) -> what goes back."""
    chain, outputs = leaves(s.model.encoder), [np.asarray(s.x, "float64")]
    for layer in chain:
        outputs.append(s.exact.layer(layer, outputs[-1]))
    came = slopes(picked(s.exact.coded, s.unit), outputs[-1]) * (outputs[-1] if value else 1)
    for layer, before, after in zip(chain[::-1], outputs[-2::-1], outputs[:0:-1], strict=True):
        came = rule(layer, before, after, came)
    return came


def handed_back(function: Callable, a: np.ndarray, came: np.ndarray) -> np.ndarray:
    """Return the derivative of a function's outputs, weighted by what came to them."""
    return np.einsum(
        "no,noi->ni", flat(came), slopes(lambda a: flat(function(a)), a).reshape(len(a), came[0].size, -1)
    ).reshape(a.shape)


def at_relus(passes: Callable) -> Callable[[Subject], np.ndarray]:
    """Return the derivative of a code unit with another rule at the ReLUs."""

    def values(s: Subject) -> np.ndarray:
        def rule(layer: Any, before: np.ndarray, after: np.ndarray, came: np.ndarray) -> np.ndarray:
            if activation(layer) == "relu":
                return handed_back(lambda a: s.exact.linear(layer, a), before, passes(came, after))
            return handed_back(lambda a: s.exact.layer(layer, a), before, came)

        return back(s, rule)

    return values


def relevance(s: Subject) -> np.ndarray:
    def rule(layer: Any, before: np.ndarray, after: np.ndarray, came: np.ndarray) -> np.ndarray:
        def linear(a: np.ndarray) -> np.ndarray:
            return s.exact.linear(layer, a)

        if isinstance(layer, layers.Flatten | layers.Reshape | layers.Dropout | layers.InputLayer):
            return came.reshape(before.shape)
        z = linear(before)
        return before * handed_back(linear, before, came / (z + np.where(z >= 0, 1e-6, -1e-6)))

    return back(s, rule, value=True)


def heat(s: Subject) -> np.ndarray:
    chain = leaves(s.model.encoder)
    outputs = [np.asarray(s.x, "float64")]
    for layer in chain:
        outputs.append(s.exact.layer(layer, outputs[-1]))
    last = max(i for i, a in enumerate(outputs) if a.ndim == s.x.ndim)

    def rest(a: np.ndarray) -> np.ndarray:
        for layer in chain[last:]:
            a = s.exact.layer(layer, a)
        return flat(s.exact.coded(a))[:, s.unit]

    slope, axes = slopes(rest, outputs[last]), tuple(range(1, s.x.ndim - 1))
    found = np.maximum((slope.mean(axis=axes, keepdims=True) * outputs[last]).sum(axis=-1, keepdims=True), 0)
    size = s.x.shape[1:-1] if s.x.ndim == 4 else (s.x.shape[1], 1)
    column = found if s.x.ndim == 4 else found[:, :, np.newaxis]
    return np.asarray(tf.image.resize(column, size)).reshape(*s.x.shape[:-1], 1)


def attributed(method: Callable, truth: Callable, times: float = 3.0) -> Callable[[Subject], None]:
    """Return the analysis that holds an attribution of a code unit to values made in NumPy."""
    return lambda s: s.close(method(targets.latent(s.model, s.unit), s.x).values, truth(s), times * s.tolerance)


def exact_unit(s: Subject) -> Callable:
    return picked(s.exact.code, s.unit)


def gradient_x_input(s: Subject) -> None:
    found = attribution.gradient_x_input(targets.latent(s.model, s.unit), s.x, baseline=s.train[0])
    s.close(found.values, slopes(exact_unit(s), s.x) * (s.x - s.train[0]), 3 * s.tolerance)


def slopes_at(s: Subject, points: np.ndarray) -> np.ndarray:
    """Return the derivatives of a code unit at several points of each sample, (points, n, *sample)."""
    return slopes(exact_unit(s), points.reshape(-1, *s.x.shape[1:])).reshape(points.shape)


def path(s: Subject) -> np.ndarray:
    shares = (np.arange(60) + 0.5) / 60
    return slopes_at(s, np.multiply.outer(shares, s.x)).mean(axis=0) * s.x


def integrated_gradients(s: Subject) -> None:
    found = attribution.integrated_gradients(targets.latent(s.model, s.unit), s.x, max_steps=256)
    s.close(found.values, path(s), 0.06 + s.tolerance)
    differences = exact_unit(s)(s.x) - exact_unit(s)(0 * s.x)
    adds_up(s, found, differences)


def adds_up(s: Subject, found: attribution.Attribution, differences: np.ndarray) -> None:
    """Raise if values miss what they explain by more than the gap that is owned up to."""
    missed = np.abs(flat(found.values).sum(axis=1) - differences)
    assert np.all(
        missed <= (found.completeness_gap + 0.01) * np.abs(differences) + 3 * s.tolerance * np.abs(found.outputs)
    )


def smooth_grad(s: Subject) -> None:
    found = attribution.smooth_grad(targets.latent(s.model, s.unit), s.x, noise=0.3, n_samples=40)
    ranges = np.ptp(flat(s.x), axis=1).reshape(-1, *[1] * (s.x.ndim - 1))
    noise = np.random.default_rng(8).standard_normal((40, *s.x.shape))
    drawn = slopes_at(s, s.x + 0.3 * ranges * noise)
    means_agree(found.values, drawn, 40, 3 * s.tolerance * np.abs(drawn).max(), found.standard_error)


def occlusion(s: Subject) -> None:
    found = attribution.occlusion(
        targets.latent(s.model, s.unit), s.x, window=4 if s.x.ndim == 4 else 1, baseline=s.train[0]
    )
    truth = np.zeros(s.x.shape)
    for segment in range(s.segments.max() + 1):
        covered = np.where(s.segments == segment, s.train[0], s.x)
        fall = exact_unit(s)(s.x) - exact_unit(s)(covered)
        truth += (s.segments == segment) * fall.reshape(-1, *[1] * (s.x.ndim - 1))
    s.close(found.values, truth, 3 * s.tolerance)


def jacobian(s: Subject) -> None:
    found = attribution.jacobian(s.model, s.x[:2])
    s.close(
        found.reshape(2, s.x[0].size, -1),
        slopes(lambda x: flat(s.exact.reconstruction(x)), s.x[:2]).reshape(2, s.x[0].size, -1),
        3 * s.tolerance,
    )


def lrp_of_a_pixel(s: Subject) -> None:
    found = attribution.lrp(targets.pixel(s.model, s.place), s.x)
    outputs = picked(s.exact.reconstruction, s.pixel)(s.x)
    s.close(found.outputs, outputs)
    kept = sum(row["kept_by_bias"] + row["lost"] for row in found.ledger)
    s.close(found.values.sum(dtype="float64") + kept, outputs.sum(), 0.01)


# Where it breaks.


def verdict(s: Subject, x: Any) -> np.ndarray:
    """Return by how much class 1 of a fixed linear classifier leads."""
    weights = np.random.default_rng(9).normal(size=s.x[0].size)
    return (flat(x) - 0.5) @ weights


def classifier(s: Subject) -> Callable:
    weights = np.random.default_rng(9).normal(size=s.x[0].size).astype("float32")

    def scores(x: Any) -> Any:
        lead = tf.linalg.matvec(tf.reshape(tf.cast(x, "float32"), (len(x), -1)) - 0.5, weights)
        return tf.stack([-lead / 2, lead / 2], axis=1)

    return scores


def seen(s: Subject) -> np.ndarray:
    """Return the class of each reconstruction."""
    has_codes = s.line.targets is not None
    return (verdict(s, s.exact.reconstruction(s.x) if has_codes else s.x) > 0).astype(int)


def check_success(found: Any, lead: np.ndarray, wanted: np.ndarray, s: Subject) -> None:
    clear = np.abs(lead) > 3 * s.tolerance * np.abs(lead).max()
    assert np.array_equal(found.success[clear], ((lead > 0) == wanted)[clear])


def attack(s: Subject) -> None:
    labels = seen(s)
    chain = lambda x: classifier(s)(s.model(x, training=False))  # noqa: E731
    found = adversarial.attack(chain, s.x, labels, 3.0, steps=5, box=None)
    s.close(found.distance, np.linalg.norm(flat(found.x - s.x), axis=1))
    assert found.distance.max() <= 3.001
    check_success(found, verdict(s, s.exact.reconstruction(found.x)), labels == 0, s)


def attack_in_code_space(s: Subject) -> None:
    labels = seen(s)
    found = adversarial.attack_in_code_space(classifier(s), s.model, s.x, labels, 3.0, steps=5)
    assert found.distance.max() <= 3.001
    assert found.eligible.sum() >= len(labels) - 1
    check_success(found, verdict(s, found.x), labels == 0, s)


def counterfactual(s: Subject) -> None:
    wanted = 1 - seen(s)
    found = adversarial.counterfactual(classifier(s), s.x, wanted, autoencoder=s.model, halvings=2, steps=5)
    check_success(found, verdict(s, found.x), wanted == 1, s)


def attack_code(s: Subject) -> None:
    found = adversarial.attack_code(s.model, s.x, 0.5, steps=5, box=None)
    moved = np.linalg.norm(flat(s.exact.code(found.x) - s.exact.code(s.x)), axis=1)
    s.close(found.code_distance, moved, 5 * s.tolerance)
    s.close(found.distance, np.linalg.norm(flat(found.x - s.x), axis=1))
    assert found.distance.max() <= 0.501
    noise = np.random.default_rng(0).standard_normal((20, *s.x.shape))
    noise = [0.5 * e / np.linalg.norm(flat(e), axis=1).reshape(-1, *[1] * (s.x.ndim - 1)) for e in noise]
    random = [np.linalg.norm(flat(s.exact.code(s.x + e) - s.exact.code(s.x)), axis=1) for e in noise]
    assert np.all(moved >= np.median(random, axis=0))


def nearest_normal(s: Subject) -> None:
    found = adversarial.nearest_normal(s.model, s.x, steps=12)
    s.close(found.x, s.exact.decoded(found.z), 3 * s.tolerance)
    s.close(found.distance, np.linalg.norm(flat(found.x - s.x), axis=1))
    plain = np.linalg.norm(flat(s.exact.reconstruction(s.x) - s.x), axis=1)
    assert np.all(found.distance <= plain * (1 + s.tolerance)) and found.distance.sum() < plain.sum()
    if isinstance(s.model, models.KSparseAutoencoder):
        assert (found.z != 0).sum(axis=1).max() <= 2


def explain(s: Subject) -> None:
    found = anomaly.explain(targets.reconstruction_error(s.model), s.model, s.x, search_steps=10)
    s.close(found.distance, np.linalg.norm(flat(found.normal - s.x), axis=1))
    adds_up(s, found.attribution, s.exact.errors(s.x) - s.exact.errors(found.normal))


# Whether it is true.


def deletion(s: Subject) -> None:
    values = np.random.default_rng(7).normal(size=s.x.shape)
    found = evaluation.deletion(targets.reconstruction_error(s.model), s.x, values, absent=s.train[0], steps=2)
    taken = flat(values) >= np.median(flat(values), axis=1, keepdims=True)
    half = np.where(taken.reshape(s.x.shape), s.train[0], s.x)
    blank = np.broadcast_to(s.train[0], s.x.shape)
    s.close(found.outputs, np.stack([s.exact.errors(x) for x in (s.x, half, blank)], axis=1), 3 * s.tolerance)


def randomisation(s: Subject) -> None:
    def explain(x: np.ndarray) -> np.ndarray:
        found = attribution.gradient(targets.latent(s.model, s.unit), x).values
        s.close(found, slopes(picked(Exact(s.model).code, s.unit), x), 3 * s.tolerance)  # of the weights as they are
        return found

    rows = evaluation.randomisation(explain, s.model, s.x)
    assert rows[-1].n_weights == sum(v.numpy().size for v in s.model.weights if "float" in v.dtype and v.shape != ())


# Codes, stand-ins, players, units, densities, bytes.


def traverse(s: Subject) -> None:
    found = latent.traverse(s.model, s.z, 1, [-1.0, 0.0, 2.0])
    for i, value in enumerate([-1.0, 0.0, 2.0]):
        z = s.z.copy()
        z[:, 1] = value
        s.close(found[:, i], s.exact.decoded(z))


def interpolate(s: Subject) -> None:
    found = latent.interpolate(s.model, s.z[:1], s.z[1:2], steps=3)
    s.close(found[0], s.exact.decoded([s.z[0], (s.z[0] + s.z[1]) / 2, s.z[1]]))


def least_squares(x: np.ndarray, y: np.ndarray, weights: np.ndarray | float = 1.0) -> np.ndarray:
    root = np.sqrt(weights * np.ones(len(x)))[:, np.newaxis]
    return np.linalg.lstsq(root * np.c_[np.ones(len(x)), x], root[:, 0] * y, rcond=None)[0]


def fit_global(s: Subject) -> None:
    error = targets.reconstruction_error(s.model)
    found = surrogates.fit_global(error, s.train, x_test=s.x)
    intercept, *coef = least_squares(flat(s.train).astype("float64"), s.exact.errors(s.train))
    s.close(found.intercept + flat(s.train) @ found.coef.ravel(), intercept + flat(s.train) @ coef, 3 * s.tolerance)


def explain_local(s: Subject) -> None:
    found = surrogates.explain_local(
        targets.reconstruction_error(s.model),
        s.x[:1],
        scale=0.2,
        n_samples=300,
        n_fits=2,
        kernel_width=3.0 * s.x[0].size ** 0.5,
    )
    asked = s.x[0] + 0.2 * found.design.reshape(-1, *s.x.shape[1:])
    s.close(found.outputs, s.exact.errors(asked))
    _, *coef = least_squares(flat(asked), s.exact.errors(asked), found.weights)
    s.close(found.coef.ravel(), coef, 30 * s.tolerance)


def shapley_values(s: Subject) -> np.ndarray:
    """Return the values of the segments by their definition: all orders of the players."""
    background, players = s.train[:3], range(s.segments.max() + 1)

    def value(kept: Sequence[int], x: np.ndarray) -> float:
        return float(s.exact.errors(np.where(np.isin(s.segments, kept), x, background)).mean())

    found = np.zeros((len(s.x), len(players)))
    for i, x in enumerate(s.x):
        worth = {c: value(c, x) for n in range(len(players) + 1) for c in itertools.combinations(players, n)}
        for j in players:
            for c in worth:
                if j not in c:
                    share = math.factorial(len(c)) * math.factorial(len(players) - len(c) - 1)
                    gain = worth[tuple(sorted((*c, j)))] - worth[c]
                    found[i, j] += share / math.factorial(len(players)) * gain
    return found


def shapley_exact(s: Subject) -> None:
    found = shapley.exact(targets.reconstruction_error(s.model), s.x, s.train[:3], segments=s.segments)
    s.close(found.values, shapley_values(s), 10 * s.tolerance)


def shapley_kernel(s: Subject) -> None:
    found = shapley.kernel(targets.reconstruction_error(s.model), s.x, s.train[:3], segments=s.segments, n_samples=64)
    s.close(found.values, shapley_values(s), 10 * s.tolerance)


def activations(s: Subject) -> None:
    found = list(features.activations(s.encoder, s.x).values())
    a = np.asarray(s.x, "float64")
    for layer in leaves(s.encoder):
        a = s.exact.layer(layer, a)
        if not isinstance(layer, layers.Dropout | layers.InputLayer | layers.GRU):  # the last calls a cell
            (equal,) = [
                b for b in found if b.shape == a.shape and np.abs(a - b).max() <= s.tolerance * np.abs(a).max()
            ][:1]
            s.close(equal, a)


def all_activations(s: Subject) -> None:
    """Of the whole model: the last is the reconstruction, or of a string its last character."""
    *_, last = features.activations(s.model, s.x).values()
    s.close(flat(last), flat(s.exact.reconstruction(s.x))[:, -last[0].size :])


def parameter_gradients(s: Subject) -> None:
    found = features.parameter_gradients(s.model, s.x)
    part = {layer.name: layer for layer in leaves(s.model.encoder) if hasattr(layer, "kernel")}
    rng, along, loss = np.random.default_rng(0), 0.0, []
    direction = {id(v): rng.standard_normal(v.shape) for layer in part.values() for v in (layer.kernel, layer.bias)}
    for name, layer in part.items():
        slopes = found[name if name in found else f"{name}#1"].parameters
        along += sum(np.sum(slopes[v.name] * direction[id(v)]) for v in (layer.kernel, layer.bias))
    for sign in (1, -1):
        moved = Exact(s.model)
        moved.weights |= {key: moved.weights[key] + sign * 1e-5 * direction[key] for key in direction}
        loss.append(moved.errors(s.x).mean())
    s.close([along], [(loss[0] - loss[1]) / 2e-5], 10 * s.tolerance)


def atoms(s: Subject) -> None:
    found = features.atoms(s.model.for_class(1).decoder if s.labels else s.model.decoder, s.z, step=0.5)
    for j in range(s.z[0].size):
        raised = flat(s.z).copy()
        raised[:, j] += 0.5
        change = s.exact.decoded(raised.reshape(s.z.shape)) - s.exact.decoded(s.z)
        np.testing.assert_allclose(found.values[j], change.mean(axis=0), atol=s.tolerance)


def maximise(s: Subject) -> None:
    last = leaves(s.encoder)[-1]
    found = features.maximise(s.encoder, last.name, [s.unit % last.units], s.train, start=s.x[:1], steps=10)
    outputs = found.images.astype("float64")
    for layer in leaves(s.encoder)[:-1]:
        outputs = s.exact.layer(layer, outputs)
    units = s.exact.linear(last, outputs).reshape(1, -1, last.units).mean(axis=1)
    s.close(found.activations, units[:, s.unit % last.units], 5 * s.tolerance)
    assert found.activations[0] >= found.history[0] and 0 <= found.images.min() <= found.images.max() <= 1


def fit_density(s: Subject) -> None:
    found = generation.fit_density(s.model, s.train, n_components=1)
    encoded = s.exact.encoded(s.train) if isinstance(s.model, models.KSparseAutoencoder) else s.exact.code(s.train)
    z = flat(encoded)
    s.close(found.mixture.means_[0], z.mean(axis=0), 5 * s.tolerance)
    s.close(
        found.mixture.covariances_[0], np.cov(z, rowvar=False, bias=True) + 1e-6 * np.eye(z.shape[1]), 5 * s.tolerance
    )
    drawn = np.random.default_rng(1).multivariate_normal(z.mean(axis=0), np.cov(z, rowvar=False), 2000)
    truth = s.exact.decoded(s.exact.coded(drawn.reshape(-1, *encoded.shape[1:]), split=False))
    means_agree(found.sample(2000, seed=0).mean(axis=0), truth, 2000, s.tolerance)


def rates(s: Subject) -> None:
    for rate in compression.rates(s.model.encode, s.model.decode, s.x, [0.5]):
        decoded = s.exact.decoded(0.5 * np.round(s.exact.code(s.x) / 0.5))
        s.close(rate.mse, np.mean((np.clip(decoded, 0, 1) - s.x) ** 2), 10 * s.tolerance)


def restarted(s: Subject) -> None:
    """Whatever the analyses did, the weights are as they were."""
    assert all(np.array_equal(s.exact.weights[id(v)], np.array(v, "float64")) for v in s.model.weights)


ANSWERS: dict[str, Callable[[Subject], None]] = {
    "encode": encode,
    "decode": decode,
    "reconstruct": reconstruct,
    "reconstruct a dataset": reconstruct_a_dataset,
    "reconstruction error": reconstruction_error,
    "predict": predict,
    "activations": activations,
    "all activations": all_activations,
    "attack": attack,
    "maximise": maximise,
    "atoms": atoms,
    "rates": rates,
}
ANALYSES: dict[str, Callable[[Subject], None]] = {
    **TARGETS,
    "target ELBO": target_elbo,
    "negative ELBO": negative_elbo,
    "gradient x input": gradient_x_input,
    "smooth grad": smooth_grad,
    "integrated gradients": integrated_gradients,
    "guided backpropagation": attributed(attribution.guided_backprop, at_relus(lambda g, a: g * (g > 0) * (a > 0))),
    "deconvnet": attributed(attribution.deconvnet, at_relus(lambda g, a: g * (g > 0))),
    "grad cam": attributed(attribution.grad_cam, heat),
    "lrp": attributed(attribution.lrp, relevance, 5.0),
    "lrp of a pixel": lrp_of_a_pixel,
    "occlusion": occlusion,
    "jacobian": jacobian,
    "attack in code space": attack_in_code_space,
    "counterfactual": counterfactual,
    "attack a code": attack_code,
    "nearest normal": nearest_normal,
    "explain": explain,
    "deletion": deletion,
    "randomisation": randomisation,
    "traverse": traverse,
    "interpolate": interpolate,
    "global surrogate": fit_global,
    "local surrogate": explain_local,
    "shapley exact": shapley_exact,
    "shapley kernel": shapley_kernel,
    "parameter gradients": parameter_gradients,
    "density": fit_density,
    "left as it was": restarted,
}
OF_VARIATIONAL: dict[str, Callable[[Subject], None]] = {
    "encode_distribution": encode_distribution,
    "sample": sample,
    "elbo": elbo,
    "log_likelihood": log_likelihood,
}
SUBJECTS = [
    # As they answer, these are "subclassed", "nested" and "functional".
    *(name for name in MODELS if name not in ("masking", "L1", "contractive")),
    "restless + dropout",
    "subclassed + batch normalisation",
    "conv + batch normalisation",
    "tied + mixed_float16",
    "subclassed + mixed_float16",
    "variational + mixed_float16",
    "variational of images + mixed_bfloat16",
]
# A dictionary scales what its parts get and return, and the truths of these are of the parts alone. Nor does an attack
# begin where all features that could move are silent.
OF_PARTS = ("guided backpropagation", "deconvnet", "attack a code", "all activations", "atoms")


# --- what is refused, and with which words ---------------------------------------------------------------------------

ALONE = "y is given|weights are given"  # a generator has samples, and no targets
NO_CLASS, NO_CODE = "for_class|labels are missing", "an autoencoder, which has a code|names no encoder"
NOT_VARIATIONAL, SEVERAL = "VariationalAutoencoder", "returns a tuple|does not return one tensor"
REFUSED: dict[tuple[str, str], str] = {  # (a line of the table, a form of data or a kind of model; a column): words
    ("autoencoder", "fit class weights"): "the target of an autoencoder is no class",
    **{("GAN", use): ALONE for use in USES if "weights" in use or use in ("fit a dataset of three", "fit a PyDataset")},
    ("tied", "layers within"): "only built Dense layers can be transposed",
    **{("not variational", f"target {name}"): NOT_VARIATIONAL for name in ("KL", "KL of a unit", "ELBO")},
    ("not variational", "negative ELBO"): NOT_VARIATIONAL,
    ("table", "grad cam"): "Grad-CAM needs",
    ("linear", "guided backpropagation"): "this network has none",
    ("linear", "deconvnet"): "this network has none",
    ("variational", "lrp of a pixel"): "relevance cannot be followed",  # it draws no layer to take the means
    ("text", "lrp of a pixel"): "relevance cannot be followed",
    ("text", "lrp"): "relevance cannot be followed",
    ("text", "target logit"): "is called 3 times for one input",
    ("dictionary", "lrp"): "relevance cannot be followed",  # it scales what its parts get and return
    ("dictionary", "lrp of a pixel"): "relevance cannot be followed",
    ("dictionary", "target logit"): "which has no activation to leave out",
    ("float16", "parameter gradients"): "the model computes in float16",
    **{("L1 of places", name): r"\(n, units\)" for name in ("traverse", "interpolate", "rates")},
    ("conditional", "reconstruct a dataset"): "for_class",
    **{
        ("conditional", name): NO_CLASS
        for name in (
            "target output", "target logit", "target pixel", "target reconstruction error", "target masked error",
            "negative log-likelihood", "combined scores", "target ELBO", "negative ELBO", "lrp of a pixel", "jacobian",
            "attack", "attack in code space", "counterfactual", "nearest normal", "explain", "traverse", "interpolate",
            "deletion", "randomisation",
            "global surrogate", "local surrogate", "shapley exact", "shapley kernel", "all activations",
            "parameter gradients", "density", "rates",
        )
    },
    **{("GAN", name): f"{NO_CODE}|{NOT_VARIATIONAL}|{SEVERAL}" for name in ANALYSES if name != "left as it was"},
    ("GAN", "target logit"): "is called 2 times for one input",
    ("GAN", "traverse"): "this model takes|the data have",
    ("GAN", "interpolate"): "this model takes|the data have",
    ("GAN", "density"): "has no encode and decode",
}  # fmt: skip


def kinds(name: str) -> set[str]:
    """Return by what a line of the table may be refused something."""
    line, *extra = name.split(" + ")
    model = MODELS[line]
    kind = "GAN" if model.targets is None else "conditional" if model.targets == "labels" else "autoencoder"
    variational = (
        line in ("variational", "beta", "importance", "variational of images", "of class") or kind == "conditional"
    )
    half = {word.removeprefix("mixed_") for word in extra}
    return {line, model.data, kind, "variational" if variational else "not variational", *half}


def cell(name: str, column: str, ask: Callable[[], None]) -> None:
    """Ask, and hold a pair that is refused to one readable error."""
    words = [REFUSED[kind, column] for kind in sorted(kinds(name)) if (kind, column) in REFUSED]
    if not words:
        ask()
    else:
        with pytest.raises(ValueError, match="|".join(words)):
            ask()


@pytest.mark.parametrize(
    ("model", "use"), [(model, use) for model in MODELS for use in USES if not (model in ASIDE and use in WAYS_IN)]
)
def test_use(model, use):
    cell(model, use, lambda: USES[use](Trial(model)))


@pytest.mark.parametrize("model", MODELS)
def test_layers_within(model):
    """Batch normalisation, dropout and regularisers, all at once."""
    use = fit_arrays if MODELS[model].targets is None else fit_targets_and_weights
    cell(model, "layers within", lambda: use(Trial(model, tuple(BETWEEN))))


@pytest.mark.parametrize("model", MODELS)
def test_saving(model, tmp_path):
    save_and_go_on(Trial(model), tmp_path)


@functools.cache
def subject(name: str) -> Subject:
    return Subject(name)


def asked(columns: dict[str, Callable]) -> list[tuple[str, str]]:
    return [(name, column) for name in SUBJECTS for column in columns if name != "dictionary" or column not in OF_PARTS]


@pytest.mark.parametrize(("name", "analysis"), asked(ANALYSES))
def test_analysis(name, analysis):
    cell(name, analysis, lambda: ANALYSES[analysis](subject(name)))


@pytest.mark.parametrize(("name", "answer"), [pair for pair in asked(ANSWERS) if "GAN" not in pair[0]])
def test_answer(name, answer):
    cell(name, answer, lambda: ANSWERS[answer](subject(name)))


@pytest.mark.parametrize("analysis", OF_VARIATIONAL)
@pytest.mark.parametrize("name", [name for name in SUBJECTS if kinds(name) & {"variational"}])
def test_analysis_of_a_distribution(name, analysis):
    cell(name, analysis, lambda: OF_VARIATIONAL[analysis](subject(name)))
