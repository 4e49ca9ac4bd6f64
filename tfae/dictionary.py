"""Sparse dictionaries: an autoencoder that writes another network's activations as few of many features (chapter 16).

Activations are arrays ``(n, d)``, each row what a layer makes of one sample, or of one position of one image. A
dictionary of such rows has more features than they have dimensions, of which each row uses few. Whether a feature means
anything is another question: `recovery` answers it where the truth is known, `card` gathers what can be said where it
is not.

>>> rows = np.concatenate([*harvest(classifier, x_train, "hidden_2")])  # doctest: +SKIP
>>> dictionary = SparseDictionary(256, "topk", k=8)  # doctest: +SKIP
>>> dictionary.compile("adam", jit_compile=True, steps_per_execution=50)  # doctest: +SKIP
>>> dictionary.fit(rows, batch_size=512, epochs=20)  # doctest: +SKIP
>>> card(classifier, "hidden_2", dictionary, x_test, feature=3, labels=y_test)  # doctest: +SKIP
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from scipy.optimize import linear_sum_assignment
from scipy.stats import spearmanr

from tfae.autoencoder import Autoencoder
from tfae.checks import check_inputs, check_number, check_samples, check_seed, check_size, check_table, shape_text
from tfae.features import activations
from tfae.hooks import find_call, recording, replacing
from tfae.inference import batches, in_batches, inference, name_of
from tfae.internals import aggregated, strategy_of
from tfae.loop import is_evaluating
from tfae.losses import at_least_float32
from tfae.replicas import current_share, mean_over_replicas

ACTIVATIONS = ("relu", "topk", "batch_topk", "jumprelu")
PAYING = ("relu", "jumprelu")
MOMENTUM = 0.99  # of the running threshold of batch top-k
THRESHOLD, BANDWIDTH = 0.3, 0.3  # where JumpReLU's thresholds begin, and how near to them they learn: see `_typical`
DEAD_STEPS = 100  # a feature that is silent in so many steps is dead
REVIVED_STEPS = 25  # and is helped long before: benchmarks/dictionary.py finds a tenth more of what is there
MEDIAN_ROWS = 32_768  # that the geometric median is taken of


# --- what it is made of ----------------------------------------------------------------------------------------------


@tf.custom_gradient
def heaviside(z: Any, threshold: Any, bandwidth: Any) -> Any:
    r"""Return 1 where `z` exceeds the threshold and 0 elsewhere, with a derivative for the threshold [1]_.

    The step has none of use. In its place stands :math:`-K((z - \theta) / \epsilon) / \epsilon` with K = 1 on
    :math:`(-\frac12, \frac12)`: averaged over samples, a kernel estimate of how the expected step changes.

    References
    ----------
    .. [1] S. Rajamanoharan et al., "Jumping ahead: improving reconstruction fidelity with JumpReLU sparse
       autoencoders", arXiv:2407.14435.
    """

    def gradient(upstream: Any) -> tuple[Any, Any, Any]:
        near = tf.cast(tf.abs(z - threshold) < bandwidth / 2, z.dtype)
        return tf.zeros_like(z), -tf.reduce_sum(upstream * near, axis=0) / bandwidth, tf.zeros_like(bandwidth)

    return tf.cast(z > threshold, z.dtype), gradient


def kth_largest(a: Any, k: Any, *, of_batch: bool = False) -> Any:
    """Return the k-th largest number of each row of `a`, which holds none below 0, shape ``(n, 1)``.

    With `of_batch`, the ``n k``-th largest of all rows, shape ``(1, 1)``: on several replicas of the global batch.

    Such numbers sort as their bits do. So the answer is found bit by bit, in 31 counts of what is as large, where
    sorting on the way would cost more than all the rest of a step. A count is a product with ones: XLA takes a ninth of
    the time for it that it takes for a sum along rows.
    """
    bits = tf.bitcast(tf.cast(a, tf.float32), tf.int32)  # (n, features)
    rows, share, ones = tf.shape(bits)[0], current_share() if of_batch else None, tf.ones((bits.shape[1], 1))
    low = tf.zeros((1 if of_batch else rows, 1), tf.int32)
    total = tf.cast((rows if share is None else share.total) if of_batch else 1, tf.float32)
    wanted = (k - 0.5 / total) / bits.shape[1]  # as a share, which rounding cannot push over the next count
    counted = tf.cast(rows if of_batch else 1, tf.float32) * bits.shape[1]

    def higher(bit: Any, low: Any) -> Any:
        candidate = low + tf.bitwise.left_shift(1, bit)
        larger = tf.cast(bits >= candidate, tf.float32) @ ones
        found = (tf.reduce_sum(larger, axis=0, keepdims=True) if of_batch else larger) / counted
        return tf.where((mean_over_replicas(found) if share else found) >= wanted, candidate, low)

    if share:  # replicas talk to one another outside loops alone
        for bit in range(30, -1, -1):
            low = higher(bit, low)
    else:
        low = tf.while_loop(lambda bit, _: bit >= 0, lambda bit, low: (bit - 1, higher(bit, low)), (30, low))[1]
    return tf.stop_gradient(tf.bitcast(low, tf.float32))


class Directions(keras.Layer):
    """The decoder: a sum of directions, vectors of length 1, as much of each as its feature fires."""

    def __init__(self, initializer: Callable, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.initializer = initializer

    def build(self, shape: tuple[int, int]) -> None:
        """Make the weights: ``(features, d)``."""
        self.kernel = self.add_weight(shape, self.initializer, autocast=False, name="directions")

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        return (None, self.kernel.shape[0]) if self.built else None

    def unit(self) -> Any:
        """Return the directions: divided by their lengths, so that no gradient changes these."""
        return ops.normalize(self.kernel, axis=-1)

    def prefixes(self, z: Any, widths: Sequence[int]) -> list[Any]:
        """Return what the first ``widths[i]`` features make, for each i."""
        unit, z = ops.cast(self.unit(), self.compute_dtype), ops.cast(z, self.compute_dtype)
        blocks = [ops.matmul(z[:, a:b], unit[a:b]) for a, b in itertools.pairwise((0, *widths))]
        return list(itertools.accumulate(blocks))

    def call(self, z: Any) -> Any:
        return self.prefixes(z, [self.kernel.shape[0]])[0]


def geometric_median(x: np.ndarray, *, steps: int = 100) -> np.ndarray:
    """Return the point that is nearest to all rows of `x` by the sum of the distances, shape ``(d,)`` [1]_.

    References
    ----------
    .. [1] E. Weiszfeld, "Sur le point pour lequel la somme des distances de n points donnés est minimum", Tôhoku
       Mathematical Journal 43, 1937.
    """
    median = x.mean(axis=0)
    for _ in range(steps):
        weights = 1 / np.maximum(np.linalg.norm(x - median, axis=1), 1e-12)
        before, median = median, weights @ x / weights.sum()
        if np.linalg.norm(median - before) < 1e-12 * len(x) / weights.sum():  # beside how far the rows are
            break
    return median


# --- the dictionary --------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tfae")
class SparseDictionary(Autoencoder):
    r"""An autoencoder of activations whose code has many features, few of which fire (chapter 16).

    .. math:: z = \sigma\big(E \, \tfrac{x - c}{s} + b\big), \qquad \hat x = c + s \sum_j z_j w_j, \quad \|w_j\| = 1

    The centre c begins at the geometric median of the data and s is their spread, so that neither a learning rate nor a
    threshold depends on the units of the activations; the encoder E begins as the directions w transposed [2]_. The
    loss is the mean square of :math:`(x - \hat x) / s`, the share of the variance that is missing, and what the
    activation function adds to it, so ``compile`` gets none. ``fit`` logs that share as ``error``, the features that
    fire for a sample as ``l0``, and those that are ``dead``.

    Parameters
    ----------
    n_features : int
        Commonly a few times d.
    activation : str
        ``"relu"``, which pays `weight` for the sum of a sample's features [1]_; ``"topk"`` keeps the `k` largest of
        each sample [2]_; ``"batch_topk"`` the ``n k`` largest of a batch, and outside training those above a threshold
        learned on the way [3]_; ``"jumprelu"`` those above thresholds of their own, and pays `weight` times
        :math:`(l_0 / k - 1)^2` [4]_.
    k : int, optional
        Features that are to fire for a sample, on average or each time; ``"relu"`` has none.
    weight : float, optional
        Of what ``"relu"`` and ``"jumprelu"`` pay.
    widths : sequence of int, optional
        Rising, the last of them `n_features`: the dictionary is a *Matryoshka*, whose first ``widths[i]`` features have
        to reconstruct by themselves, for each i [5]_. The loss is the mean over these.
    revive : bool
        Whether features that were silent for 25 steps learn to reconstruct what the others leave over, d / 2 of them at
        a time [2]_. Those that were silent for a hundred are reported as dead.
    seed : int, optional
        Fixes the initial weights. Without it they follow ``keras.utils.set_random_seed``.

    Raises
    ------
    ValueError
        If an option is unknown, out of range, missing, or of another activation; and, before any training step, if
        ``compile`` got a loss or the data are not rows of numbers that differ.

    References
    ----------
    .. [1] T. Bricken et al., "Towards monosemanticity: decomposing language models with dictionary learning",
       Transformer Circuits Thread, 2023.
    .. [2] L. Gao et al., "Scaling and evaluating sparse autoencoders", arXiv:2406.04093.
    .. [3] B. Bussmann, P. Leask and N. Nanda, "BatchTopK sparse autoencoders", arXiv:2412.06410.
    .. [4] S. Rajamanoharan et al., "Jumping ahead: improving reconstruction fidelity with JumpReLU sparse
       autoencoders", arXiv:2407.14435.
    .. [5] B. Bussmann, N. Nabeshima, A. Karvonen and N. Nanda, "Learning multi-level features with Matryoshka sparse
       autoencoders", arXiv:2503.17547.
    """

    def __init__(
        self,
        n_features: int,
        activation: str = "batch_topk",
        k: int | None = None,
        weight: float | None = None,
        widths: Sequence[int] | None = None,
        revive: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        n_features = check_size(n_features, "n_features")
        normal = keras.initializers.RandomNormal(seed=None if seed is None else check_seed(seed))

        def directions(shape: Any, dtype: Any = None) -> Any:
            return ops.normalize(normal(shape, dtype=dtype), axis=-1)

        def transposed(shape: Any, dtype: Any = None) -> Any:
            return ops.transpose(directions(shape[::-1], dtype))

        encoder = layers.Dense(n_features, kernel_initializer=transposed, name="encoder")
        super().__init__(encoder, Directions(directions, name="decoder"), **kwargs)
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; the known ones are {', '.join(ACTIVATIONS)}")
        for name, value, used in (("k", k, activation != "relu"), ("weight", weight, activation in PAYING)):
            if (value is not None) != used:
                raise ValueError(
                    f"{name} is {value!r} and the activation {activation!r}, which "
                    + (f"needs it; give {name}" if used else f"knows none; leave {name} out")
                )
        self.n_features, self.activation, self.revive, self.seed = n_features, activation, bool(revive), seed
        self.k = None if k is None else check_size(k, "k")
        self.weight = None if weight is None else check_number(weight, "weight", 0)
        self.widths = [check_size(width, "a width") for width in widths or (n_features,)]
        if (k or 1) > n_features:
            raise ValueError(f"k is {k} and there are {n_features} features; k must not be larger")
        if self.widths != sorted(set(self.widths)) or self.widths[-1] != n_features:
            raise ValueError(f"widths is {self.widths}; they must rise, and the last be n_features, {n_features}")
        self.trackers = [keras.metrics.Mean(name) for name in ("error", "l0", "dead")]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 2 or input_shape[1] is None:
            raise ValueError(
                f"a dictionary takes rows of activations, (n, d), and got the shape {shape_text(input_shape)}; of a "
                f"convolution each position is a row: x.reshape(-1, x.shape[-1]), as harvest returns them"
            )
        size, here = input_shape[1], {"autocast": False, "aggregation": "mean"}
        self.decoder.build((self.n_features, size))
        self.encoder.build((None, size))
        self.centre = self.add_weight((size,), "zeros", name="centre", autocast=False)
        self.scale = self.add_weight((), "ones", name="scale", trainable=False, **here)
        self.adapted = self.add_weight((), "zeros", name="adapted", trainable=False, **here)
        self.silent = self.add_weight((self.n_features,), "zeros", name="silent", trainable=False, **here)
        if self.activation == "jumprelu":
            start = keras.initializers.Constant(THRESHOLD * self._typical)
            self.threshold = self.add_weight(
                (self.n_features,), start, constraint="non_neg", name="threshold", autocast=False
            )
        if self.activation == "batch_topk":
            self.threshold = self.add_weight((), "zeros", name="threshold", trainable=False, **here)

    def adapt(self, x: Any) -> None:
        """Set the centre and the scale from rows of activations, which ``fit`` does with the first that it gets."""
        x = check_samples(x, self._sample_shape())
        if not self.built:
            with strategy_of(self).scope():
                self.build((None, *x.shape[1:]))
        rows = x[:: -(-len(x) // MEDIAN_ROWS)].astype("float64")
        centre = geometric_median(rows)
        scale = np.sqrt(np.mean((rows - centre) ** 2))
        if scale == 0:
            raise ValueError(f"all {len(rows)} rows of activations are equal; there is nothing to take apart")
        for variable, value in ((self.centre, centre), (self.scale, scale), (self.adapted, 1.0)):
            variable.assign(value)

    @property
    def directions(self) -> np.ndarray:
        """The directions of the features, each of length 1, shape ``(n_features, d)``."""
        return np.asarray(self.decoder.unit())

    @property
    def dead(self) -> np.ndarray:
        """Which features have not fired in the last hundred steps of training, shape ``(n_features,)``."""
        return self.silent.numpy() >= DEAD_STEPS

    @property
    def _typical(self) -> float:
        """How strongly k features fire that are alike and at right angles: they make up a row of variance 1."""
        return math.sqrt(self.decoder.kernel.shape[1] / self.k)

    # The two halves.

    def code(self, x: Any, training: bool | None = None) -> Any:
        return self._fired(self._before(x), training)

    def decoded(self, z: Any, training: bool | None = None) -> Any:
        return self.centre + self.scale * at_least_float32(self.decoder(z))

    def constrained(self, z: Any) -> Any:
        return ops.relu(z)

    def _before(self, x: Any) -> Any:
        """Return what the activation function gets."""
        if not self.built:
            self.build((None, *x.shape[1:]))
        return ops.cast(self.encoder((ops.cast(x, "float32") - self.centre) / self.scale), "float32")

    def _fired(self, before: Any, training: bool | None = None) -> Any:
        a = ops.relu(before)
        if self.activation == "topk":
            return a * ops.cast(a >= kth_largest(a, self.k), a.dtype)
        if self.activation == "batch_topk":
            threshold = self._threshold_of(a) if training else ops.convert_to_tensor(self.threshold)
            return a * ops.cast(a >= threshold, a.dtype)
        if self.activation == "jumprelu":
            threshold, fires = tf.identity(self.threshold), self._fires(a)
            kept = ops.stop_gradient(fires)
            return a * kept + ops.stop_gradient(threshold) * (fires - kept)  # the second is 0, with a derivative
        return a

    def _fires(self, a: Any) -> Any:
        return heaviside(a, tf.identity(self.threshold), tf.constant(BANDWIDTH * self._typical))

    def _threshold_of(self, a: Any) -> Any:
        """Return the threshold of a batch, and let the one in use outside training follow."""
        found = kth_largest(a, self.k, of_batch=True)
        before, now = ops.convert_to_tensor(self.threshold), found[0, 0]
        self.threshold.assign(ops.where(before == 0, now, MOMENTUM * before + (1 - MOMENTUM) * now))
        return found

    # Training.

    def call(self, x: Any, training: bool | None = None) -> Any:
        before = self._before(x)
        z = self._fired(before, training)
        if not (training or is_evaluating()):
            return self.decoded(z)
        prefixes = [self.centre + self.scale * at_least_float32(p) for p in self.decoder.prefixes(z, self.widths)]
        self._left.for_loss = before, z, prefixes
        return prefixes[-1]

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return the missing share of the variance and what the activation function adds, of the call just made."""
        (before, z, prefixes), self._left.for_loss = self._left.for_loss, None
        target = ops.cast(self._target(x, y, y_pred), "float32")
        errors = [ops.mean(ops.square((target - prefix) / self.scale), axis=-1) for prefix in prefixes]
        error, l0 = sum(errors) / len(errors), ops.sum(ops.cast(z > 0, "float32"), axis=-1)
        if sample_weight is not None:
            error = error * ops.cast(ops.reshape(sample_weight, (-1,)), error.dtype)
        loss = ops.mean(error)
        if self.activation == "relu":
            loss += self.weight * ops.mean(ops.sum(z, axis=-1)) / x.shape[-1]
        if self.activation == "jumprelu":
            fire = mean_over_replicas(ops.mean(ops.sum(self._fires(ops.relu(before)), axis=-1)))
            loss += self.weight * ops.square(fire / self.k - 1)
        if training:
            fired = mean_over_replicas(ops.mean(ops.cast(z > 0, "float32"), axis=0)) > 0
            self.silent.assign(ops.where(fired, 0.0, self.silent + 1))
            if self.revive:
                loss += self._revival(before, (target - y_pred) / self.scale)
        for tracker, values in zip(self.trackers, (errors[-1], l0, ops.sum(self._is_dead())), strict=True):
            tracker.update_state(values)
        return sum((aggregated(self, penalty) for penalty in self.losses), aggregated(self, loss))

    def _is_dead(self) -> Any:
        return ops.cast(ops.convert_to_tensor(self.silent) >= DEAD_STEPS, "float32")

    def _revival(self, before: Any, residual: Any) -> Any:
        """Return how badly silent features make the residual: only they and the centre get its gradient."""
        silent = ops.cast(ops.convert_to_tensor(self.silent) >= REVIVED_STEPS, "float32")
        k = min(max(self.k or 1, residual.shape[1] // 2), self.n_features)
        share = ops.minimum(ops.sum(silent) / k, 1.0)  # few features need not explain all that is left

        def error() -> Any:
            a = ops.relu(before) * silent
            a = a * ops.cast(a >= kth_largest(a, k), a.dtype)
            return share * ops.mean(ops.square(ops.stop_gradient(residual) - at_least_float32(self.decoder(a))))

        return ops.cond(share > 0, error, lambda: ops.zeros(()))

    def _check_batch(self, x: Any, y: Any) -> None:
        if getattr(self, "loss", None) is not None:
            raise ValueError("a dictionary brings its loss along; call compile without one: dictionary.compile('adam')")
        super()._check_batch(x, y)
        if not self.built or not self.adapted.numpy():
            self.adapt(x)

    def get_config(self) -> dict[str, Any]:
        names = ("n_features", "activation", "k", "weight", "widths", "revive", "seed")
        return keras.Model.get_config(self) | {name: getattr(self, name) for name in names}


# --- how well it is found --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Recovery:
    """Which true features a dictionary has found.

    Attributes
    ----------
    cosines : ndarray, shape (n_true,)
        Largest absolute cosine of each true direction with a learned one: methods such as PCA have no sign.
    match : ndarray of int, shape (n_true,)
        Which learned one that is.
    mean_max_cosine : float
        Mean of `cosines`.
    share : float
        Share of the true directions whose cosine reaches the threshold.
    one_to_one : float
        Mean absolute cosine of the best pairing in which no learned direction is used twice; a true one that is left
        over counts 0.
    unique : float
        Share of the learned directions that are nearest to a true one that no other is nearer to.
    """

    cosines: np.ndarray = field(repr=False)
    match: np.ndarray = field(repr=False)
    mean_max_cosine: float
    share: float
    one_to_one: float
    unique: float


def recovery(learned: Any, true: Any, *, threshold: float = 0.9) -> Recovery:
    """Compare learned directions with the true ones.

    Parameters
    ----------
    learned : SparseDictionary or ndarray, shape (n_features, d)
    true : ndarray, shape (n_true, d)
    threshold : float
        Cosine from which on a feature counts as found.

    Raises
    ------
    ValueError
        If the directions have other dimensions, or one of them has length 0.
    """
    cosines = _cosines(learned, true)  # (n_features, n_true)
    check_number(threshold, "threshold", 0, 1)
    best, nearest = cosines.max(axis=0), cosines.argmax(axis=1)
    pairs = linear_sum_assignment(-cosines)
    return Recovery(
        cosines=best,
        match=cosines.argmax(axis=0),
        mean_max_cosine=float(best.mean()),
        share=float(np.mean(best >= threshold)),
        one_to_one=float(cosines[pairs].sum() / cosines.shape[1]),
        unique=len(np.unique(nearest)) / len(cosines),
    )


def firing_f1(z: Any, true: Any) -> np.ndarray:
    """Return how well each feature fires when the true one does: the F1 of its firing, shape ``(n_features,)``.

    Parameters
    ----------
    z, true : ndarray, shape (n, n_features)
        Column by column: ``firing_f1(dictionary.encode(x)[:, found.match], factors)``. What is above 0 fires.

    Raises
    ------
    ValueError
        If the two differ in shape or are not tables of finite numbers.
    """
    z, true = check_table(z, "z") > 0, check_table(true, "true") > 0
    if z.shape != true.shape:
        raise ValueError(f"z has shape {z.shape} and true {true.shape}; give as many samples and features in both")
    both, either = (z & true).sum(axis=0), z.sum(axis=0) + true.sum(axis=0)
    return 2 * both / np.maximum(either, 1)


@dataclass(frozen=True, eq=False)
class Agreement:
    """Which features two dictionaries have in common.

    Attributes
    ----------
    share : float
        Share of the features of the smaller one that have a partner in the other whose cosine reaches the threshold.
    partner : ndarray of int, shape (n_features of a,)
        Of each feature of `a` in `b`, in the best pairing in which none is used twice; -1 for what is left over.
    cosines : ndarray, shape (n_features of a,)
        Of these pairs; 0 for what is left over.
    """

    share: float
    partner: np.ndarray = field(repr=False)
    cosines: np.ndarray = field(repr=False)


def agreement(a: Any, b: Any, *, threshold: float = 0.9) -> Agreement:
    """Pair the features of two dictionaries of the same activations, such as those of two seeds [1]_.

    Parameters
    ----------
    a, b : SparseDictionary or ndarray, shape (n_features, d)
        Leave out features that never fire.
    threshold : float

    Raises
    ------
    ValueError
        As in `recovery`.

    References
    ----------
    .. [1] G. Paulo and N. Belrose, "Sparse autoencoders trained on the same data learn different features",
       arXiv:2501.16615.
    """
    similar = _cosines(a, b)
    check_number(threshold, "threshold", 0, 1)
    rows, columns = linear_sum_assignment(-similar)
    partner, cosines = np.full(len(similar), -1), np.zeros(len(similar))
    partner[rows], cosines[rows] = columns, similar[rows, columns]
    return Agreement(float(np.mean(similar[rows, columns] >= threshold)), partner, cosines)


def _cosines(a: Any, b: Any) -> np.ndarray:
    """Return the absolute cosine of each pair of directions."""
    units = []
    for given in (a, b):
        rows = check_table(getattr(given, "directions", given), "the directions", "(n_features, d)")
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not lengths.all():
            raise ValueError(f"{int(np.sum(lengths == 0))} of {len(rows)} directions have length 0; leave them out")
        units.append(rows / lengths)
    if units[0].shape[1] != units[1].shape[1]:
        raise ValueError(f"directions have {units[0].shape[1]} and {units[1].shape[1]} dimensions; give as many")
    return np.abs(units[0] @ units[1].T)


# --- in a network ----------------------------------------------------------------------------------------------------


def harvest(model: Callable, x: Any, layer: str | keras.Layer, *, batch_size: int = 1024) -> Iterator[np.ndarray]:
    """Yield what a layer makes of `x`, a batch at a time, as rows for a dictionary.

    Of a convolution each position of each image is a row. What does not fit in memory goes into records:
    ``records.write("rows", harvest(...))``, then ``fit(records.read("rows", 512))``.

    Parameters
    ----------
    model : keras.Layer or callable
        Of any form. It runs as in inference.
    x : array, shape (n, *sample), or tf.data.Dataset
        Of a dataset the batches are its own.
    layer : str or keras.Layer
    batch_size : int

    Yields
    ------
    ndarray, shape (rows, d)

    Raises
    ------
    ValueError
        As in `tfae.features.activations`.
    """
    for batch in batches(x, batch_size):
        output = activations(model, np.asarray(batch), layer=layer, batch_size=batch_size)
        yield output.reshape(-1, output.shape[-1])


class Spliced(keras.Model):
    """A model in which one layer returns a function of what it would have returned."""

    def __init__(self, model: keras.Model, layer: str | keras.Layer, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.model, self.layer, self.function = model, layer, function

    @property
    def input_shape(self) -> Any:
        """Shape of a batch, where the model knows it."""
        return getattr(self.model, "input_shape", None)

    def call(self, x: Any, training: bool | None = None) -> Any:
        with recording() as calls, replacing(self.layer, self.function):
            answer = self.model(x, training=training)
        find_call(calls, self.layer)  # says what is wrong if it is none, or several
        return answer


def splice(
    model: keras.Model,
    layer: str | keras.Layer,
    dictionary: SparseDictionary,
    *,
    ablate: Sequence[int] = (),
    add: Mapping[int, float] | None = None,
) -> Spliced:
    """Return `model` with a dictionary at work in one of its layers.

    Parameters
    ----------
    model : keras.Model
        Of any form; its weights are shared.
    layer : str or keras.Layer
        Called once. Of a convolution the dictionary works at each position.
    dictionary : SparseDictionary
        Of this layer's activations.
    ablate : sequence of int
        Features that are taken away, wherever they fire. All else stays as it is, what the dictionary misses too.
    add : mapping of int to float, optional
        Features that are added, each as strongly as said, in every sample. All else stays as it is.

    Returns
    -------
    Spliced
        A Keras model. With neither `ablate` nor `add`, the layer's output is replaced by its reconstruction.

    Raises
    ------
    ValueError
        If there is no such feature; and when it is called, if the layer is not called once, or has other dimensions.
    """
    added, edits = dict(add or {}), bool(len(ablate) or add)
    for number in (*ablate, *added):
        if not 0 <= number < dictionary.n_features:
            raise ValueError(f"there is no feature {number}; the dictionary's are 0 to {dictionary.n_features - 1}")
    taken = np.isin(np.arange(dictionary.n_features), list(ablate)).astype("float32")
    amounts = np.array([added.get(i, 0.0) for i in range(dictionary.n_features)], "float32")

    def through(output: Any) -> Any:
        rows, size = ops.reshape(output, (-1, output.shape[-1])), dictionary.decoder.kernel.shape[1]
        if size != rows.shape[1]:
            raise ValueError(f"the layer returns {rows.shape[1]} numbers and the dictionary is one of {size}")
        if edits:
            change = amounts - taken * dictionary.code(rows)
            rows = ops.cast(rows, "float32") + dictionary.scale * at_least_float32(dictionary.decoder(change))
        else:
            rows = dictionary(rows, training=False)
        return ops.cast(ops.reshape(rows, ops.shape(output)), output.dtype)

    return Spliced(model, layer, through)


@dataclass(frozen=True)
class LossRecovered:
    """What is left of a network's work when a layer goes through a dictionary.

    Attributes
    ----------
    share : float
        1 if the loss stays as it was, 0 if it becomes that of a layer which says the same of all samples.
    intact, spliced, ablated : float
        The mean loss of the network itself, with the dictionary's reconstruction, and with the layer's mean.
    """

    share: float
    intact: float
    spliced: float
    ablated: float


def loss_recovered(
    model: keras.Model,
    layer: str | keras.Layer,
    dictionary: SparseDictionary,
    x: Any,
    y: Any,
    *,
    loss: Any = None,
    batch_size: int = 1024,
) -> LossRecovered:
    """Return how much of what a layer does for the loss its dictionary keeps.

    Parameters
    ----------
    model, layer, dictionary
        As in `splice`.
    x, y : array
        Held-out samples and their targets; of an autoencoder, `x` twice.
    loss : str, callable or keras.losses.Loss, optional
        That of the compiled model, if not given.
    batch_size : int

    Raises
    ------
    ValueError
        If there is no loss, or the layer does not matter to it: then no share can be recovered.
    """
    loss = keras.losses.get(loss if loss is not None else getattr(model, "loss", None))
    if loss is None:
        raise ValueError("no loss is given and the model was compiled with none; give loss='mse', for instance")
    each = loss.call if isinstance(loss, keras.losses.Loss) else loss
    mean = np.concatenate([*harvest(model, x, layer, batch_size=batch_size)]).mean(axis=0)

    def of(network: keras.Model) -> float:
        return float(np.mean(in_batches(lambda b: each(b[1], inference(network)(b[0])), (x, y), batch_size)))

    constant = Spliced(model, layer, lambda output: ops.zeros_like(output) + ops.cast(mean, output.dtype))
    intact, spliced, ablated = of(model), of(splice(model, layer, dictionary)), of(constant)
    if ablated <= intact:
        name = layer if isinstance(layer, str) else name_of(layer)
        raise ValueError(
            f"the loss is {intact:.4g}, and with the mean of {name!r} in its place {ablated:.4g}: the layer does "
            f"nothing for it, so nothing can be recovered"
        )
    return LossRecovered((ablated - spliced) / (ablated - intact), intact, spliced, ablated)


# --- feature cards ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Card:
    """What can be said of one feature of a network, and what cannot. `tfae.plot.card` draws it.

    Attributes
    ----------
    feature : int
    fires : float
        Share of the samples for which it fires; of a convolution, anywhere.
    top : ndarray of int, shape (k,)
        Samples for which it fires most, strongest first; fewer than k, if it fires for fewer.
    strengths : ndarray, shape (k,)
        How strongly it fires for these.
    effect : ndarray, of the shape of one output of the model
        What it adds to the output where it fires: the output less that without it, a mean over these samples.
    classes : ndarray or None, shape (n_classes,)
        Share of each class for which it fires.
    factors : ndarray or None, shape (n_factors,)
        Rank correlation of its strength with each known factor, over all samples.
    twin : int or None
        The feature of the other dictionary that is nearest to it.
    twin_cosine : float or None
    unknown : tuple of str
        What this card does not say.
    """

    feature: int
    fires: float
    top: np.ndarray = field(repr=False)
    strengths: np.ndarray = field(repr=False)
    effect: np.ndarray = field(repr=False)
    classes: np.ndarray | None = field(repr=False)
    factors: np.ndarray | None = field(repr=False)
    twin: int | None
    twin_cosine: float | None
    unknown: tuple[str, ...]


def card(
    model: keras.Model,
    layer: str | keras.Layer,
    dictionary: SparseDictionary,
    x: Any,
    feature: int,
    *,
    labels: Any = None,
    factors: Any = None,
    other: Any = None,
    k: int = 8,
    batch_size: int = 1024,
) -> Card:
    """Gather what can be said of one feature.

    Parameters
    ----------
    model, layer, dictionary
        As in `splice`.
    x : array, shape (n, *sample)
        Held-out samples.
    feature : int
    labels : array of int, shape (n,), optional
    factors : array, shape (n, n_factors), optional
        Numbers whose order means something.
    other : SparseDictionary or ndarray, shape (n_features, d), optional
        A dictionary of the same activations, from another seed.
    k : int
        Samples that are shown.
    batch_size : int

    Raises
    ------
    ValueError
        As in `splice`; if labels or factors are not as many as the samples; or if the feature never fires for them.
    """
    without = splice(model, layer, dictionary, ablate=[feature])
    x, k = check_inputs(model, x), check_size(k, "k")
    rows = np.concatenate([*harvest(model, x, layer, batch_size=batch_size)])
    strength = dictionary.encode(rows)[:, feature].reshape(len(x), -1).max(axis=1)  # of a convolution, anywhere
    fires = strength > 0
    if not fires.any():
        raise ValueError(f"feature {feature} fires for none of the {len(x)} samples; there is nothing to say of it")
    for name, given in (("labels", labels), ("factors", factors)):
        if given is not None and len(given) != len(x):
            raise ValueError(f"there are {len(given)} {name} for {len(x)} samples; give one for each")
    top = np.argsort(-strength, kind="stable")[: min(k, int(fires.sum()))]

    def difference(batch: Any) -> Any:
        return inference(model)(batch) - without(batch, training=False)

    classes = None
    if labels is not None:
        labels = np.asarray(labels)
        classes = np.bincount(labels, fires) / np.maximum(np.bincount(labels), 1)
    nearest = None if other is None else _cosines(dictionary.directions[[feature]], other)[0]
    missing = {"its class": labels, "its factors": factors, "whether another seed finds it": other}
    return Card(
        feature=feature,
        fires=float(fires.mean()),
        top=top,
        strengths=strength[top],
        effect=in_batches(difference, x[fires], batch_size).mean(axis=0),
        classes=classes,
        factors=None if factors is None else np.array([spearmanr(strength, f)[0] for f in np.transpose(factors)]),
        twin=None if nearest is None else int(nearest.argmax()),
        twin_cosine=None if nearest is None else float(nearest.max()),
        unknown=(*(name for name, given in missing.items() if given is None), "what it does on data unlike these"),
    )
