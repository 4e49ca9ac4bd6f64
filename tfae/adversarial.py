"""Where a network breaks: the worst change of bounded size, the smallest change that matters (chapter 10).

Every attack here is one search, `minimise_in_ball`: projected gradient descent from a sample, never further than
epsilon. What differs is what is minimised, a classifier's margin or minus the distance of two codes, and where the
search goes, among images or among codes. A search that fails proves nothing: it bounds robustness from above.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfae.autoencoder import Autoencoder
from tfae.checks import check_number, check_samples, check_seed, check_size
from tfae.inference import check_finite, in_batches, inference, numbers, sample_shape
from tfae.targets import logit

NORMS = ("l2", "linf")
Scores = Callable[[Any], Any]  # samples -> (n, classes): a Keras model, or any other callable
Box = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Attack:
    """Changed samples, and what the change did.

    Attributes
    ----------
    x : ndarray, shape (n, *sample)
        The changed samples. In an attack in code space, what the decoder makes of the changed codes.
    success : ndarray of bool, shape (n,)
        Whether the change did what it was to do. In an attack never where there was nothing to do.
    eligible : ndarray of bool, shape (n,)
        Whether there was anything to do: not for a sample that was misclassified before, or seen as the wanted class.
    distance : ndarray, shape (n,)
        Size of the change in the norm of the attack, in the space that was searched.
    """

    x: np.ndarray
    success: np.ndarray
    eligible: np.ndarray
    distance: np.ndarray

    @property
    def success_share(self) -> float:
        """Share of successes among the eligible samples; NaN if there is none."""
        return float(self.success[self.eligible].mean()) if self.eligible.any() else float("nan")


# --- the search ------------------------------------------------------------------------------------------------------


def minimise_in_ball(
    loss: Callable[[Any, np.ndarray], Any],
    x: Any,
    epsilon: float | np.ndarray,
    *,
    norm: str = "l2",
    steps: int = 40,
    box: Box | None = (0.0, 1.0),
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
        Radius, at least 0, in units of `x`.
    norm : str
        ``"l2"``, or ``"linf"`` for the largest change of any one feature.
    steps : int
        Steps of 2.5 epsilon / steps each, from a random point of the ball. One step is the fast gradient (sign) method.
    box : tuple of float, optional
        Range of the features, which `x` keeps to and the points shall keep to: (0, 1) for images; None for codes and
        tables.
    seed : int
        Fixes the direction in which every search sets out. It is the same for all samples, so that what is found for
        one does not depend on the others that are asked about with it.
    batch_size : int
        Samples searched at once: bounds the memory.

    Returns
    -------
    ndarray of float32, shape of `x`
        The best point of all steps; `x` itself where nothing better was found.

    Raises
    ------
    ValueError
        If `x` is empty, not finite or outside the box, an option is unknown or out of range, or the loss has no
        gradient or is not one finite number for each point.

    References
    ----------
    .. [1] A. Madry, A. Makelov, L. Schmidt, D. Tsipras and A. Vladu, "Towards deep learning models resistant to
       adversarial attacks", ICLR 2018, arXiv:1706.06083.
    """
    x, radius = _checked(x, epsilon, norm, box)
    check_size(steps, "steps")
    rng = np.random.default_rng(check_seed(seed))
    push = rng.random() * _unit(tf.constant(rng.standard_normal((1, *x.shape[1:]), "float32")), norm)

    def searched(part: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Any:
        centre, size, rows = tf.constant(part[0]), tf.constant(part[1]), part[2]

        def asked(point: Any) -> Any:
            value = tf.cast(loss(point, rows), "float32")
            if value.shape != rows.shape:
                raise ValueError(f"the loss returns shape {value.shape} for {len(rows)} points; give one number each")
            check_finite(value.numpy(), "the loss")
            return value

        point, found, lowest = _projected(centre, push * size, size, norm, box), centre, asked(centre)
        for _ in range(steps + 1):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(point)
                value = asked(point)
            found = tf.where(tf.reshape(value < lowest, size.shape), point, found)
            lowest = tf.minimum(value, lowest)
            slope = tape.gradient(value, point)
            if slope is None:
                raise ValueError("the loss does not depend on the samples: there is no direction to search in")
            point = _projected(centre, point - centre - 2.5 / steps * size * _unit(slope, norm), size, norm, box)
        return found

    return in_batches(searched, (x, radius, np.arange(len(x))), batch_size)


def random_change(
    x: Any,
    epsilon: float | np.ndarray,
    *,
    norm: str = "l2",
    box: Box | None = (0.0, 1.0),
    seed: int = 0,
) -> np.ndarray:
    """Return `x` with random noise of norm `epsilon`: what an attack of that size is held against.

    Parameters
    ----------
    x : array, shape (n, ...)
        Samples, or codes.
    epsilon : float or array, shape (n,)
        Size of the noise, at least 0, in units of `x`. Where the box cuts it, the change is smaller.
    norm : str
        ``"l2"``: a direction drawn evenly from all; ``"linf"``: every feature moves by epsilon, up or down.
    box : tuple of float, optional
        As in `minimise_in_ball`.
    seed : int
        Fixes the noise. Each row has its own.

    Returns
    -------
    ndarray of float32, shape of `x`

    Raises
    ------
    ValueError
        If `x` is empty, not finite or outside the box, or an option is unknown or out of range.
    """
    x, radius = _checked(x, epsilon, norm, box)
    noise = tf.constant(np.random.default_rng(check_seed(seed)).standard_normal(x.shape, "float32"))
    return _projected(tf.constant(x), radius * _unit(noise, norm), radius, norm, box).numpy()


def _checked(x: Any, epsilon: Any, norm: str, box: Box | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples, and a radius for each, shape (n, 1, ...), as float32."""
    x = check_samples(x, None).astype("float32")
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; the known ones are {', '.join(NORMS)}")
    radius = np.asarray(epsilon)
    sizes = radius.dtype.kind in "iuf" and radius.shape in ((), (len(x),))
    if not (sizes and np.isfinite(radius).all() and radius.min() >= 0):
        raise ValueError(f"epsilon is {epsilon!r}; it must be a finite number of at least 0, or one for each sample")
    if box is not None:
        _check_inside(x, box)
    column = (len(x), *[1] * (x.ndim - 1))
    return x, np.broadcast_to(radius.astype("float32"), (len(x),)).reshape(column)


def _check_inside(x: np.ndarray, box: Any) -> None:
    try:
        low, high = (float(end) for end in box)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"box is {box!r}; give two finite numbers, the lower first, such as (0, 1), or None")
    if x.min() < low or x.max() > high:
        raise ValueError(
            f"x goes from {x.min():g} to {x.max():g}, outside box=({low:g}, {high:g}), to which changed samples are "
            f"cut. Give box=None for tables and codes, or the range of the features, box=(low, high)."
        )


def _unit(direction: Any, norm: str) -> Any:
    """Return the direction as a step of size 1."""
    return tf.sign(direction) if norm == "linf" else direction / tf.maximum(_length(direction, norm), 1e-12)


def _length(change: Any, norm: str) -> Any:
    axes = list(range(1, len(change.shape)))
    if norm == "linf":
        return tf.reduce_max(tf.abs(change), axis=axes, keepdims=True)
    return tf.sqrt(tf.reduce_sum(tf.square(change), axis=axes, keepdims=True))


def _projected(centre: Any, change: Any, size: Any, norm: str, box: Box | None) -> Any:
    """Return a point of both the ball and the box near to centre + change.

    It is the nearest one for linf, and for l2 without a box. For l2 with a box the change is first cut to the ball and
    then to the box, which holds the centre, so that this makes the change smaller still; another point of both may be
    nearer.
    """
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
    *,
    norm: str = "l2",
    to_class: Any = None,
    steps: int = 40,
    box: Box | None = (0.0, 1.0),
    seed: int = 0,
    batch_size: int = 256,
) -> Attack:
    """Change samples by at most `epsilon` so that a classifier errs.

    Parameters
    ----------
    classifier : keras.Layer or callable
        Maps samples to scores ``(n, classes)``. A Keras model of any form is attacked before its last activation, where
        a saturated softmax cannot hide the gradient; one output, as of a single sigmoid, means the classes 0 and 1.
        Where that activation cannot be found, an error says so: give ``lambda x: model(x, training=False)`` then, or
        better what it computes up to its logits. A callable is attacked as it is and as a whole, such as the chain
        ``lambda x: classifier(denoiser(x))``.
    x : array, shape (n, *sample)
    labels : array of int, shape (n,), or None
        True classes. None is enough where `to_class` is given: then every sample that is not yet seen as that class is
        eligible, otherwise only those that are classified correctly.
    epsilon, norm, steps, box, seed, batch_size
        As in `minimise_in_ball`.
    to_class : int or array of int, shape (n,), optional
        The class that the classifier shall see; any wrong one if not given.

    Returns
    -------
    Attack

    Raises
    ------
    ValueError
        If labels or classes are not whole numbers in range, or not one for each sample; if the classifier does not
        return finite scores of two or more classes, or hides its logits; and as in `minimise_in_ball`.
    """
    x = check_samples(x, sample_shape(classifier)).astype("float32")
    scores = _scores(classifier, x[:1])
    search: dict[str, Any] = {"norm": norm, "steps": steps, "box": box, "seed": seed, "batch_size": batch_size}
    return _attack(scores, x, labels, to_class, epsilon, **search)


def attack_in_code_space(
    classifier: Scores,
    autoencoder: Autoencoder,
    x: Any,
    labels: Any,
    epsilon: float | np.ndarray,
    *,
    to_class: Any = None,
    steps: int = 40,
    seed: int = 0,
    batch_size: int = 256,
) -> Attack:
    """Change codes by at most `epsilon` (in l2) so that a classifier errs on what the decoder makes of them.

    The result looks like something that the decoder can draw: the change is of meaning rather than of single pixels. A
    sample is eligible if the classifier is right about its unchanged reconstruction.

    Parameters
    ----------
    autoencoder : Autoencoder
        Of a k-sparse one the decoder gets the k units of the changed code that are furthest from 0. Of a conditional
        one give ``for_class(label)``.
    classifier, x, labels, epsilon, to_class, steps, seed, batch_size
        As in `attack`; epsilon is in units of the code.

    Returns
    -------
    Attack

    Raises
    ------
    ValueError
        As in `attack`, and if `autoencoder` is none, or a conditional one.
    """
    draw, z, scores = _in_code_space(classifier, autoencoder, x, batch_size)
    search: dict[str, Any] = {"norm": "l2", "steps": steps, "box": None, "seed": seed, "batch_size": batch_size}
    found = _attack(scores, z, labels, to_class, epsilon, **search)
    return replace(found, x=in_batches(draw, found.x, batch_size))


def counterfactual(
    classifier: Scores,
    x: Any,
    to_class: Any,
    *,
    autoencoder: Autoencoder | None = None,
    max_epsilon: float = 10.0,
    halvings: int = 8,
    steps: int = 40,
    box: Box | None = (0.0, 1.0),
    seed: int = 0,
    batch_size: int = 256,
) -> Attack:
    """Return the smallest change (in l2) that makes a classifier see `to_class`: "had it been like this ...".

    The radius of the attack is halved in, for each sample by itself, so that distances are found to within
    ``max_epsilon / 2 ** halvings`` of the smallest radius at which the search succeeds.

    Parameters
    ----------
    classifier, x, steps, seed, batch_size
        As in `attack`.
    to_class : int or array of int, shape (n,)
    autoencoder : Autoencoder, optional
        Search among codes instead of images, as `attack_in_code_space`, and measure the distance there.
    max_epsilon : float
        Largest change tried, above 0.
    halvings : int
    box : tuple of float, optional
        As in `minimise_in_ball`; codes have none.

    Returns
    -------
    Attack
        `success` says whether the classifier sees `to_class` in what is returned; where no radius sufficed that is the
        nearest miss at `max_epsilon`. A sample that is seen as `to_class` already is its own counterfactual, in code
        space its reconstruction: at distance 0, a success, and not eligible, so that `success_share` leaves it out.

    Raises
    ------
    ValueError
        As in `attack` and `attack_in_code_space`.
    """
    longest = check_number(max_epsilon, "max_epsilon", 0, open_ends=True)
    check_size(halvings, "halvings")
    if autoencoder is None:
        start = check_samples(x, sample_shape(classifier)).astype("float32")
        scores = _scores(classifier, start[:1])
    else:
        draw, start, scores = _in_code_space(classifier, autoencoder, x, batch_size)
        box = None
    search: dict[str, Any] = {"norm": "l2", "steps": steps, "box": box, "seed": seed, "batch_size": batch_size}

    def tried(radius: np.ndarray) -> Attack:
        return _attack(scores, start, None, to_class, radius, **search)

    first = tried(np.full(len(start), longest, "float32"))
    found, success, distance, there = first.x, first.success, first.distance, ~first.eligible
    found[there], success[there], distance[there] = start[there], True, 0
    low, high = np.zeros_like(distance), np.where(success, distance, np.float32(longest))
    for _ in range(halvings):
        middle = (low + high) / 2
        closer = tried(middle)
        hit = closer.success  # never where it is there already
        found[hit], success[hit], distance[hit] = closer.x[hit], True, closer.distance[hit]
        low, high = np.where(hit, low, middle), np.where(hit, distance, high)
    return Attack(found if autoencoder is None else in_batches(draw, found, batch_size), success, ~there, distance)


def _attack(scores: Scores, start: np.ndarray, labels: Any, to_class: Any, epsilon: Any, **search: Any) -> Attack:
    """Search around `start`, samples or codes, for points whose scores err."""
    n, classes = len(start), int(scores(tf.constant(start[:1])).shape[1])
    labels = None if labels is None else _classes(labels, "labels", classes, n)
    if labels is None and to_class is None:
        raise ValueError("labels are missing: give the true class of each sample, or to_class")
    # Below 0 a point has what is wanted: the wanted class leads, or the true one does not.
    sign, goal = (1, labels) if to_class is None else (-1, _classes(to_class, "to_class", classes, n))

    def leads(points: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        def lead(part: tuple[np.ndarray, np.ndarray]) -> Any:
            return _lead(scores(tf.constant(part[0])), part[1])

        return numbers(lead, (points, chosen), search["batch_size"], "the classifier")

    eligible = sign * leads(start, goal) >= 0
    if labels is not None:
        eligible &= leads(start, labels) >= 0
    changed = minimise_in_ball(lambda point, rows: sign * _lead(scores(point), goal[rows]), start, epsilon, **search)
    success = eligible & (sign * leads(changed, goal) < 0)
    distance = _length(tf.constant(changed - start), search["norm"]).numpy().reshape(n)
    return Attack(changed, success, eligible, distance)


@tf.function(
    input_signature=[tf.TensorSpec((None, None), tf.float32), tf.TensorSpec((None,), tf.int64)], autograph=False
)
def _lead(values: Any, chosen: np.ndarray) -> Any:
    """Return by how much the score of the chosen class exceeds the largest of the others, shape (n,).

    One program for all classifiers: as single operations this would take half of the time of a search.
    """
    own = tf.gather(values, chosen, axis=1, batch_dims=1)
    others = tf.where(tf.one_hot(chosen, tf.shape(values)[1], on_value=True, off_value=False), values.dtype.min, values)
    return own - tf.reduce_max(others, axis=1)


def _scores(classifier: Scores, sample: Any) -> Scores:
    """Return the classifier as a function from a tensor of samples to float32 scores, (n, two or more classes)."""
    if isinstance(classifier, keras.Layer):
        network = _in_one_program(logit(classifier, 0).network, sample)
    else:
        network = inference(classifier)
    shape = tuple(network(tf.constant(sample)).shape)
    if shape == (1, 1) and isinstance(classifier, keras.Layer):  # the logit of class 1 against class 0
        return lambda x: tf.pad(tf.cast(network(x), "float32"), [[0, 0], [1, 0]])
    if shape == (1, 1):
        raise ValueError(
            "the classifier returns shape (1, 1) for one sample; it must be (1, classes). For one probability give two "
            "columns: lambda x: tf.concat([1 - p(x), p(x)], axis=1); of one logit: tf.concat([-logit(x), logit(x)], 1)."
        )
    if len(shape) != 2:
        raise ValueError(f"the classifier returns shape {shape} for one sample; it must be (1, classes)")
    return lambda x: tf.cast(network(x), "float32")


def _classes(values: Any, name: str, classes: int, n: int) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim == 0:
        values = np.full(n, values)
    if values.shape != (n,) or values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= classes:
        raise ValueError(f"{name} must be whole numbers from 0 to {classes - 1}, one for each of the {n} samples")
    return values.astype("int64")


def _in_one_program(function: Callable[[Any], Any], sample: Any) -> Callable[[Any], Any]:
    """Return a Keras model's answers as one program for batches of any size: a search asks for them many times."""
    function(tf.constant(sample))  # what is not yet built is built here, outside the graph
    signature = [tf.TensorSpec((None, *sample.shape[1:]), tf.float32)]
    return tf.function(function, input_signature=signature, autograph=False)


# --- attacks on an autoencoder ---------------------------------------------------------------------------------------


def drawing(autoencoder: Autoencoder) -> Callable[[Any], Any]:
    """Return the function from a tensor of codes to what the decoder makes of them, in float32.

    Codes that the model could not have made, such as more than k active units of a k-sparse autoencoder, become the
    nearest that it could.

    Raises
    ------
    ValueError
        If `autoencoder` is none; and when codes are drawn by a conditional one, whose decoder must be told the class:
        give ``for_class(label)``, and samples of that class.
    """
    check_autoencoder(autoencoder)
    return lambda z: tf.cast(autoencoder.decoded(autoencoder.constrained(z), training=False), "float32")


@dataclass(frozen=True, eq=False)
class CodeAttack:
    """Changed samples, and how far their codes moved.

    Attributes
    ----------
    x : ndarray, shape (n, *sample)
        The changed samples.
    distance : ndarray, shape (n,)
        Size of the change in the norm of the attack.
    code_distance : ndarray, shape (n,)
        Euclidean distance of each code from what it was. Hold it against the codes of `random_change`.
    """

    x: np.ndarray
    distance: np.ndarray
    code_distance: np.ndarray


def attack_code(
    autoencoder: Autoencoder,
    x: Any,
    epsilon: float | np.ndarray,
    *,
    norm: str = "l2",
    steps: int = 40,
    box: Box | None = (0.0, 1.0),
    seed: int = 0,
    batch_size: int = 256,
) -> CodeAttack:
    """Change samples by at most `epsilon` so that their codes move as far as possible.

    Parameters
    ----------
    autoencoder : Autoencoder
    x, epsilon, norm, steps, box, seed, batch_size
        As in `minimise_in_ball`.

    Returns
    -------
    CodeAttack

    Raises
    ------
    ValueError
        As in `minimise_in_ball`, and if `autoencoder` is none.
    """
    z, x = _encoded(autoencoder, x, batch_size), np.asarray(x, "float32")
    code = _in_one_program(lambda x: tf.cast(autoencoder.code(x, training=False), "float32"), x[:1])

    def nearness(point: Any, rows: np.ndarray) -> Any:
        return -_squares(code(point) - z[rows])

    search: dict[str, Any] = {"norm": norm, "steps": steps, "box": box, "seed": seed, "batch_size": batch_size}
    changed = minimise_in_ball(nearness, x, epsilon, **search)
    moved = in_batches(code, changed, batch_size) - z
    return CodeAttack(changed, _length(tf.constant(changed - x), norm).numpy().reshape(-1), np.sqrt(_squares(moved)))


@dataclass(frozen=True, eq=False)
class NearestNormal:
    """The nearest things that a decoder can draw.

    Attributes
    ----------
    x : ndarray, shape (n, *sample)
        What the decoder draws.
    z : ndarray, shape (n, *code)
        Its codes.
    distance : ndarray, shape (n,)
        Euclidean, between each sample and `x`.
    """

    x: np.ndarray
    z: np.ndarray
    distance: np.ndarray


def nearest_normal(
    autoencoder: Autoencoder, x: Any, *, steps: int = 200, learning_rate: float = 0.05, batch_size: int = 256
) -> NearestNormal:
    """Return the nearest thing that the decoder can draw: for an anomaly, what it would be if it were normal.

    An autoencoder trained on normal samples draws normal samples alone. The search goes through the codes with Adam,
    from the sample's own code, so the answer is never further away than the reconstruction.

    Parameters
    ----------
    autoencoder : Autoencoder
        Of a k-sparse one, codes of k active units alone are tried. Of a conditional one give ``for_class(label)``.
    x : array, shape (n, *sample)
    steps : int
    learning_rate : float
        In units of the code.
    batch_size : int

    Returns
    -------
    NearestNormal

    Raises
    ------
    ValueError
        If `x` is empty, not finite or of the wrong shape, an option is out of range, or `autoencoder` is none, or a
        conditional one.
    """
    check_size(steps, "steps")
    check_number(learning_rate, "learning_rate", 0, open_ends=True)
    draw = drawing(autoencoder)
    start, x = _encoded(autoencoder, x, batch_size), np.asarray(x, "float32")
    draw = _in_one_program(draw, start[:1])

    def searched(part: tuple[np.ndarray, np.ndarray]) -> Any:
        sample, z, found = part[0], tf.Variable(part[1]), tf.constant(part[1])
        optimizer, lowest = keras.optimizers.Adam(learning_rate), tf.fill([len(sample)], np.float32(np.inf))
        for _ in range(steps + 1):
            with tf.GradientTape() as tape:
                distance = _squares(draw(z) - sample)
            check_finite(distance.numpy(), "the decoder")
            found = tf.where(tf.reshape(distance < lowest, (-1, *[1] * (len(z.shape) - 1))), z, found)
            lowest = tf.minimum(distance, lowest)
            optimizer.apply([tape.gradient(distance, z)], [z])
        return autoencoder.constrained(found)

    z = in_batches(searched, (x, start), batch_size)
    nearest = in_batches(draw, z, batch_size)
    return NearestNormal(nearest, z, np.sqrt(_squares(nearest - x)))


def _in_code_space(
    classifier: Scores, autoencoder: Autoencoder, x: Any, batch_size: int
) -> tuple[Callable, np.ndarray, Scores]:
    """Return what draws codes, the codes of `x`, and the scores of a classifier as a function of codes."""
    draw, z = drawing(autoencoder), _encoded(autoencoder, x, batch_size)
    draw = _in_one_program(draw, z[:1])
    scores = _scores(classifier, draw(tf.constant(z[:1])).numpy())
    return draw, z, lambda codes: scores(draw(codes))


def _encoded(autoencoder: Autoencoder, x: Any, batch_size: int) -> np.ndarray:
    check_autoencoder(autoencoder)
    return check_finite(autoencoder.encode(x, batch_size=batch_size).astype("float32"), "the encoder")


def check_autoencoder(autoencoder: Any) -> None:
    """Raise a ValueError if `autoencoder` is no `tfae.models.Autoencoder`, so that it is unknown what its code is."""
    if not isinstance(autoencoder, Autoencoder):
        raise ValueError(
            f"a code is looked for in a {type(autoencoder).__name__}, which names no encoder; wrap your two models as "
            f"tfae.models.Autoencoder(encoder, decoder)"
        )


def _squares(gap: Any) -> Any:
    """Return the sum of squares of each row, shape (n,)."""
    return tf.reduce_sum(tf.square(gap), axis=list(range(1, len(gap.shape))))
