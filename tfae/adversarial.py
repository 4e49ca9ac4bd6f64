"""Where a network breaks: the worst change of bounded size, the smallest change that matters (chapter 10).

Every attack here is one search, `minimise_in_ball`: projected gradient descent from a sample, never further than
epsilon. What differs is what is minimised, a classifier's margin or minus the distance of two codes, and where the
search goes, among images or among codes. A search that fails proves nothing: it bounds robustness from above.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfae.checks import check_number, check_samples, check_seed, check_size
from tfae.models import Autoencoder
from tfae.targets import logit

NORMS = ("l2", "linf")
Scores = Callable[[Any], Any]  # samples -> (n, classes): a Keras model, or any other callable


@dataclass(frozen=True, eq=False)
class Attack:
    """Changed samples, and what the change did.

    Attributes
    ----------
    x : ndarray, shape (n, *sample)
        The changed samples. In an attack in code space, what the decoder makes of the changed codes.
    success : ndarray of bool, shape (n,)
        Whether the change did what it was to do.
    eligible : ndarray of bool, shape (n,)
        Whether there was anything to do: a sample that was misclassified before is no success of the attack.
    distance : ndarray, shape (n,)
        Size of the change in the norm of the attack, in the space that was searched.
    """

    x: np.ndarray
    success: np.ndarray
    eligible: np.ndarray
    distance: np.ndarray

    @property
    def success_rate(self) -> float:
        """Share of successes among the eligible samples; NaN if there is none."""
        return float(self.success[self.eligible].mean()) if self.eligible.any() else float("nan")


# --- the search ------------------------------------------------------------------------------------------------------


def minimise_in_ball(
    loss: Callable[[Any, np.ndarray], Any],
    x: np.ndarray,
    epsilon: float | np.ndarray,
    norm: str = "l2",
    steps: int = 40,
    box: tuple[float, float] | None = (0.0, 1.0),
    seed: int = 0,
    batch_size: int = 256,
) -> np.ndarray:
    """Return, for each sample, the point of smallest `loss` that projected gradient descent finds near it [1]_.

    Parameters
    ----------
    loss : callable
        ``loss(points, rows)`` returns one number for each of the points, a tensor that starts at ``x[rows]``.
    x : array, shape (n, ...)
        Centres of the balls: samples, or codes.
    epsilon : float or array, shape (n,)
        Radius, at least 0.
    norm : str
        ``"l2"``, or ``"linf"`` for the largest change of any one feature.
    steps : int
        Steps of 2.5 epsilon / steps each, from a random point of the ball. One step is the fast gradient (sign) method.
    box : tuple of float, optional
        Range of the features, (0, 1) for images; None for codes and tables.
    seed : int
    batch_size : int

    Returns
    -------
    ndarray of the shape of `x`
        The best point of all steps; `x` itself where nothing better was found.

    Raises
    ------
    ValueError
        If `x` is empty or not finite, an option is unknown or out of range, or the loss has no gradient.

    References
    ----------
    .. [1] A. Madry, A. Makelov, L. Schmidt, D. Tsipras and A. Vladu, "Towards deep learning models resistant to
       adversarial attacks", ICLR 2018, arXiv:1706.06083.
    """
    x = check_samples(x, None).astype("float32")
    check_size(steps, "steps")
    check_size(batch_size, "batch_size")
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; the known ones are {', '.join(NORMS)}")
    radius = np.broadcast_to(np.asarray(epsilon, "float32"), (len(x),))
    if not (np.isfinite(radius) & (radius >= 0)).all():
        raise ValueError(f"epsilon is {epsilon!r}; it must be a finite number of at least 0, or one for each sample")
    rng, best = np.random.default_rng(check_seed(seed)), x.copy()
    for start in range(0, len(x), batch_size):
        rows = np.arange(start, min(start + batch_size, len(x)))
        centre = tf.constant(x[rows])
        size = tf.reshape(radius[rows], (-1, *[1] * (x.ndim - 1)))
        push = _unit(tf.constant(rng.standard_normal(centre.shape, "float32")), norm) * rng.random()
        point, lowest = _projected(centre, push * size, size, norm, box), loss(centre, rows)
        found = centre
        for _ in range(steps + 1):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(point)
                value = loss(point, rows)
            better = tf.reshape(value < lowest, size.shape)
            found, lowest = tf.where(better, point, found), tf.minimum(value, lowest)
            slope = tape.gradient(value, point)
            if slope is None:
                raise ValueError("the loss does not depend on the samples: there is no direction to search in")
            point = _projected(centre, point - centre - 2.5 / steps * size * _unit(slope, norm), size, norm, box)
        best[rows] = found
    return best


def random_change(
    x: Any, epsilon: float, norm: str = "l2", box: tuple[float, float] | None = (0.0, 1.0), seed: int = 0
) -> np.ndarray:
    """Return `x` with random noise of norm `epsilon`, less where the box cuts it: what an attack is held against."""
    x = check_samples(x, None).astype("float32")
    check_number(epsilon, "epsilon", 0)
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; the known ones are {', '.join(NORMS)}")
    noise = np.random.default_rng(check_seed(seed)).standard_normal(x.shape, "float32")
    return _projected(tf.constant(x), epsilon * _unit(tf.constant(noise), norm), epsilon, norm, box).numpy()


def _unit(direction: Any, norm: str) -> Any:
    """Return the direction as a step of size 1."""
    return tf.sign(direction) if norm == "linf" else direction / tf.maximum(_length(direction, norm), 1e-12)


def _length(change: Any, norm: str) -> Any:
    axes = list(range(1, len(change.shape)))
    if norm == "linf":
        return tf.reduce_max(tf.abs(change), axis=axes, keepdims=True)
    return tf.sqrt(tf.reduce_sum(tf.square(change), axis=axes, keepdims=True))


def _projected(centre: Any, change: Any, size: Any, norm: str, box: tuple[float, float] | None) -> Any:
    """Return the point of the ball, and of the box, that is nearest to centre + change."""
    if norm == "linf":
        change = tf.clip_by_value(change, -size, size)
    else:
        change = change * tf.minimum(1.0, size / tf.maximum(_length(change, norm), 1e-12))
    point = centre + change
    return point if box is None else tf.clip_by_value(point, *box)


# --- attacks on a classifier -----------------------------------------------------------------------------------------


def attack(
    classifier: Scores,
    x: Any,
    labels: Any,
    epsilon: float | np.ndarray,
    norm: str = "l2",
    to_class: Any = None,
    steps: int = 40,
    box: tuple[float, float] | None = (0.0, 1.0),
    seed: int = 0,
) -> Attack:
    """Change samples by at most `epsilon` so that a classifier errs.

    Parameters
    ----------
    classifier : keras.Layer or callable
        Maps samples to scores ``(n, classes)``. A Keras model is attacked before its last activation, where a
        saturated softmax cannot hide the gradient. A chain, such as ``lambda x: classifier(denoiser(x))``, is attacked
        as a whole.
    x : array, shape (n, *sample)
    labels : array of int, shape (n,)
        True classes.
    epsilon, norm, steps, box, seed
        As in `minimise_in_ball`.
    to_class : int or array of int, optional
        The class that the classifier shall see; any wrong one if not given.

    Raises
    ------
    ValueError
        If labels or classes are not whole numbers in range, or not one for each sample; and as in `minimise_in_ball`.
    """
    x, scores = check_samples(x, None).astype("float32"), _scores(classifier)
    labels, margin = _goal(scores, x[:1], labels, to_class, len(x))
    changed = minimise_in_ball(lambda point, rows: margin(scores(point), rows), x, epsilon, norm, steps, box, seed)
    return _judged(scores, x, changed, changed - x, labels, margin, norm)


def attack_in_code_space(
    classifier: Scores,
    autoencoder: Autoencoder,
    x: Any,
    labels: Any,
    epsilon: float | np.ndarray,
    to_class: Any = None,
    steps: int = 40,
    seed: int = 0,
) -> Attack:
    """Change codes by at most `epsilon` (in l2) so that a classifier errs on what the decoder makes of them.

    The result looks like something that the decoder can draw: the change is of meaning rather than of single pixels. A
    sample is eligible if the classifier is right about its unchanged reconstruction.

    Parameters
    ----------
    autoencoder : Autoencoder
    classifier, x, labels, epsilon, to_class, steps, seed
        As in `attack`.

    Raises
    ------
    ValueError
        As in `attack`.
    """
    z, scores = autoencoder.encode(x), _scores(classifier)

    def decoded(codes: Any) -> Any:
        return scores(autoencoder.decoder(codes, training=False))

    labels, margin = _goal(decoded, z[:1], labels, to_class, len(z))
    changed = minimise_in_ball(lambda point, rows: margin(decoded(point), rows), z, epsilon, "l2", steps, None, seed)
    judged = _judged(decoded, z, changed, changed - z, labels, margin, "l2")
    return Attack(autoencoder.decode(changed), judged.success, judged.eligible, judged.distance)


def counterfactual(
    classifier: Scores,
    x: Any,
    to_class: Any,
    autoencoder: Autoencoder | None = None,
    max_epsilon: float = 10.0,
    halvings: int = 8,
    steps: int = 40,
    box: tuple[float, float] | None = (0.0, 1.0),
    seed: int = 0,
) -> Attack:
    """Return the smallest change (in l2) that makes a classifier see `to_class`: "had it been like this ...".

    The radius of the attack is halved in, for each sample by itself, so that distances are found to within
    ``max_epsilon / 2 ** halvings``.

    Parameters
    ----------
    classifier, x, steps, box, seed
        As in `attack`.
    to_class : int or array of int, shape (n,)
    autoencoder : Autoencoder, optional
        Search among codes instead of images, and measure the distance there.
    max_epsilon : float
        Largest change tried. Where it does not suffice, `success` is False.
    halvings : int

    Raises
    ------
    ValueError
        As in `attack`.
    """
    x = check_samples(x, None).astype("float32")
    high = np.full(len(x), check_number(max_epsilon, "max_epsilon", 0, open_ends=True), "float32")
    low = np.zeros_like(high)

    def tried(radius: np.ndarray) -> Attack:
        if autoencoder is None:
            return attack(classifier, x, None, radius, "l2", to_class, steps, box, seed)
        return attack_in_code_space(classifier, autoencoder, x, None, radius, to_class, steps, seed)

    best = tried(high)
    for _ in range(check_size(halvings, "halvings")):
        middle = (low + high) / 2
        closer = tried(middle)
        high, low = np.where(closer.success, middle, high), np.where(closer.success, low, middle)
        shorter = closer.success & (closer.distance < best.distance)
        images = np.where(shorter.reshape(-1, *[1] * (best.x.ndim - 1)), closer.x, best.x)
        best = Attack(images, best.success, best.eligible, np.where(shorter, closer.distance, best.distance))
    return best


def _scores(classifier: Scores) -> Callable[[Any], Any]:
    return logit(classifier, 0).network if isinstance(classifier, keras.Layer) else classifier


def _goal(scores: Callable, first: np.ndarray, labels: Any, to_class: Any, n: int) -> tuple[Any, Callable]:
    """Return the labels and a margin: a number for each sample that is below 0 where the attack has what it wants."""
    outputs = scores(tf.constant(first))
    if len(outputs.shape) != 2 or outputs.shape[1] < 2:
        raise ValueError(f"the classifier returns shape {tuple(outputs.shape)} for one sample; it must be (1, classes)")
    classes = int(outputs.shape[1])
    if labels is not None:
        labels = _classes(labels, "labels", classes, n)
    wanted = labels if to_class is None else _classes(to_class, "to_class", classes, n)
    if wanted is None:
        raise ValueError("labels are missing: give the true class of each sample, or to_class")
    sign = 1.0 if to_class is None else -1.0

    def margin(values: Any, rows: np.ndarray) -> Any:
        chosen = tf.one_hot(wanted[rows], classes)
        own = tf.reduce_sum(values * chosen, axis=1)
        rival = tf.reduce_max(values - 1e9 * chosen, axis=1)
        return sign * (own - rival)

    return labels, margin


def _classes(values: Any, name: str, classes: int, n: int) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim == 0:
        values = np.full(n, values)
    if values.shape != (n,) or values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= classes:
        raise ValueError(f"{name} must be whole numbers from 0 to {classes - 1}, one for each of the {n} samples")
    return values.astype("int64")


def _judged(
    scores: Callable, x: np.ndarray, changed: np.ndarray, change: np.ndarray, labels: Any, margin: Callable, norm: str
) -> Attack:
    before, after = (
        np.concatenate([margin(scores(tf.constant(part[rows])), rows) for rows in _batches(len(x))])
        for part in (x, changed)
    )
    eligible = before >= 0
    if labels is not None:
        predicted = np.concatenate([np.argmax(scores(tf.constant(x[rows])), axis=1) for rows in _batches(len(x))])
        eligible &= predicted == labels
    distance = _length(tf.constant(change), norm).numpy().reshape(-1)
    return Attack(changed, (after < 0) & eligible, eligible, distance)


def _batches(n: int, batch_size: int = 256) -> list[np.ndarray]:
    return np.array_split(np.arange(n), range(batch_size, n, batch_size))


# --- attacks on an autoencoder ---------------------------------------------------------------------------------------


def attack_code(
    autoencoder: Autoencoder,
    x: Any,
    epsilon: float,
    norm: str = "l2",
    steps: int = 40,
    box: tuple[float, float] | None = (0.0, 1.0),
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Change samples by at most `epsilon` so that their codes move as far as possible.

    Parameters
    ----------
    autoencoder : Autoencoder
    x, epsilon, norm, steps, box, seed
        As in `minimise_in_ball`.

    Returns
    -------
    changed : ndarray, shape (n, *sample)
    moved : ndarray, shape (n,)
        Euclidean distance of each code from what it was. Hold it against the codes of `random_change`.

    Raises
    ------
    ValueError
        As in `minimise_in_ball`.
    """
    codes = autoencoder.encode(x)

    def nearness(point: Any, rows: np.ndarray) -> Any:
        return -ops.sum(ops.square(autoencoder.code(point, training=False) - codes[rows]), axis=-1)

    changed = minimise_in_ball(nearness, x, epsilon, norm, steps, box, seed)
    return changed, np.linalg.norm(autoencoder.encode(changed) - codes, axis=-1)


def nearest_normal(
    autoencoder: Autoencoder, x: Any, steps: int = 200, learning_rate: float = 0.05, batch_size: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest thing that the decoder can draw: for an anomaly, what it would be if it were normal.

    An autoencoder trained on normal samples draws normal samples alone. The search goes through the codes with Adam,
    from the sample's own code, so the answer is never further away than the reconstruction.

    Parameters
    ----------
    autoencoder : Autoencoder
    x : array, shape (n, *sample)
    steps : int
    learning_rate : float
        In units of the code.
    batch_size : int

    Returns
    -------
    nearest : ndarray, shape (n, *sample)
    distance : ndarray, shape (n,)
        Euclidean, between each sample and its nearest normal.

    Raises
    ------
    ValueError
        If `x` is empty, not finite or of the wrong shape, or an option is out of range.
    """
    check_size(steps, "steps")
    check_number(learning_rate, "learning_rate", 0, open_ends=True)
    codes = autoencoder.encode(x)
    x = np.asarray(x, "float32")
    best = codes.copy()
    for rows in _batches(len(x), check_size(batch_size, "batch_size")):
        z, sample = tf.Variable(codes[rows]), tf.constant(x[rows])
        optimizer = keras.optimizers.Adam(learning_rate)
        lowest, found = np.full(len(rows), np.inf, "float32"), codes[rows].copy()
        for _ in range(steps + 1):
            with tf.GradientTape() as tape:
                gap = autoencoder.decoder(z, training=False) - sample
                distance = tf.reduce_sum(tf.square(gap), axis=list(range(1, x.ndim)))
            better = distance.numpy() < lowest
            found[better], lowest[better] = z.numpy()[better], distance.numpy()[better]
            optimizer.apply([tape.gradient(distance, z)], [z])
        best[rows] = found
    nearest = autoencoder.decode(best)
    return nearest, np.linalg.norm((nearest - x).reshape(len(x), -1), axis=1)
