"""Are samples any good? Distances between distributions, a check for copies, and two more generators (chapter 12).

The measures take tables of features ``(n, features)`` and never look at what made them. For images that is a layer of a
classifier, ``tfae.features.activations(classifier, x, layer="features")``: distances between pixels reward blur.

>>> frechet_distance(real_features, sample_features)  # doctest: +SKIP
>>> precision_recall(real_features, sample_features).recall  # doctest: +SKIP
>>> memorisation(sample_features, training_features, held_out_features).share  # doctest: +SKIP
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import scipy.stats
import tensorflow as tf
from keras import ops
from sklearn.mixture import GaussianMixture

from tfae.checks import check_number, check_samples, check_seed, check_size, check_table, compatible, shape_text
from tfae.inference import check_finite, in_batches, inference, sample_shape
from tfae.latent import neighbours

# --- distances between distributions ---------------------------------------------------------------------------------


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    r"""Return the squared Fréchet distance between the normal distributions fitted to two sets of features [1]_.

    .. math:: \|\mu_a - \mu_b\|^2 + \mathrm{tr}\,(C_a + C_b - 2 (C_a C_b)^{1/2})

    It sees means and covariances and nothing else. It is 0 for equal ones only, and does not care which set is which.
    Two samples of one distribution are a little apart, the more so the fewer they are: compare numbers from sets of
    equal size, and beside the number of two sets of real data.

    Parameters
    ----------
    a : ndarray, shape (n, features)
    b : ndarray, shape (m, features)

    Returns
    -------
    float
        In the squared units of the features: numbers from two feature spaces cannot be compared.

    Raises
    ------
    ValueError
        If the sets differ in features or are not finite tables, or if one has no more samples than features, so that
        its covariance is singular whatever was sampled.

    References
    ----------
    .. [1] M. Heusel, H. Ramsauer, T. Unterthiner, B. Nessler and S. Hochreiter, "GANs trained by a two time-scale
       update rule converge to a local Nash equilibrium", NeurIPS 2017, arXiv:1706.08500.
    """
    a, b = _check_pair(a, b, "a", "b")
    for name, x in (("a", a), ("b", b)):
        if len(x) <= x.shape[1]:
            raise ValueError(
                f"{name} has {len(x)} samples of {x.shape[1]} features; a covariance needs more samples than features. "
                f"Give more samples, or fewer features (PCA)."
            )
    root_a, root_b = _covariance_root(a), _covariance_root(b)
    # The trace of (C_a C_b)^(1/2) is the sum of the singular values of R_a R_bᵀ: no root of a matrix is needed.
    common = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.sum(root_a**2) + np.sum(root_b**2) - 2 * common
    return max(float(distance), 0.0)  # rounding can leave -1e-12


def _covariance_root(x: np.ndarray) -> np.ndarray:
    """Return R with Rᵀ R the covariance of the columns, shape (features, features)."""
    return np.asarray(np.linalg.qr(x - x.mean(axis=0), mode="r")) / math.sqrt(len(x) - 1)


@dataclass(frozen=True)
class PrecisionRecall:
    """How far two sets of features cover each other.

    Attributes
    ----------
    precision : float
        Share of the generated samples inside the real region, in [0, 1]. Low means bad samples.
    recall : float
        Share of the real samples inside the generated region, in [0, 1]. Low means missing ones.
    """

    precision: float
    recall: float


def precision_recall(real: np.ndarray, generated: np.ndarray, *, k: int = 3) -> PrecisionRecall:
    """Return which share of the samples could be real, and which share of the real data could be sampled [1]_.

    A set stands for the region it was drawn from: balls around its points, each as large as the distance to the `k`-th
    nearest other point of the set. A point that occurs more than `k` times has a ball of radius 0, which holds its
    copies alone: distances are exact.

    Parameters
    ----------
    real : ndarray, shape (n, features)
    generated : ndarray, shape (m, features)
        As many as real ones: with more points the balls are smaller.
    k : int
        Larger balls are kinder to both shares. The paper takes 3.

    Returns
    -------
    PrecisionRecall
        Two sets drawn from one distribution score well below 1: measure that first.

    Raises
    ------
    ValueError
        If the sets differ in features or are not finite tables, or if `k` is not below the size of both.

    References
    ----------
    .. [1] T. Kynkäänniemi, T. Karras, S. Laine, J. Lehtinen and T. Aila, "Improved precision and recall metric for
       assessing generative models", NeurIPS 2019, arXiv:1904.06991.
    """
    real, generated = _check_pair(real, generated, "real", "generated")
    if check_size(k, "k") >= min(len(real), len(generated)):
        raise ValueError(
            f"k is {k}, with {len(real)} real and {len(generated)} generated samples; a sample has at most as many "
            f"neighbours as there are others in its set"
        )
    centre = real.mean(axis=0)  # distances are the same from anywhere, and fastest to tell apart from the middle
    real, generated = real - centre, generated - centre
    return PrecisionRecall(_share_inside(generated, real, k), _share_inside(real, generated, k))


def _share_inside(points: np.ndarray, region: np.ndarray, k: int) -> float:
    """Share of the points in at least one of the balls around the points of `region`."""
    radii = neighbours(region, region, k=k + 1).distances[:, k]  # at place 0 is the point itself
    inside = [(rows <= radii).any(axis=1) for rows in _distances(points, region)]
    return float(np.concatenate(inside).mean())


def _distances(points: np.ndarray, region: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the Euclidean distances of some of the points to all of `region`, in a bounded memory.

    |a|² - 2ab + |b|² is fast, and blind to what is small beside |a|². There the differences are squared themselves, so
    that equal points are at distance 0.
    """
    squares, rows = np.sum(region**2, axis=1), max(1, 2**25 // region.size)
    for start in range(0, len(points), rows):
        part = points[start : start + rows]
        scale = np.sum(part**2, axis=1, keepdims=True) + squares
        found = scale - 2 * part @ region.T
        i, j = np.nonzero(found < 1e-6 * scale)
        found[i, j] = np.sum((part[i] - region[j]) ** 2, axis=1)
        yield np.sqrt(found)


# --- memorising ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Memorisation:
    """How near samples are to the training data, beside held-out data, which nobody could have copied.

    Attributes
    ----------
    share : float
        Share of the samples nearer to a training sample than the ⌊level (m + 1)⌋-th nearest of the m held-out ones.
        Samples of the same distribution score `level` or a little less on average, whatever m is; one copy in ten
        scores 0.1 and more.
    level : float
    statistic : float
        That of Meehan et al. [1]_ for the whole space: are samples nearer to the training data than held-out
        data are, or farther? Standard normal if neither; below -3 says copying, above 3 says samples off the data.
        Copies and bad samples cancel in it, while `share` sees the copies.
    distances, held_out_distances : ndarray, shape (n,) and (m,)
        Euclidean, to the nearest training sample.
    nearest : ndarray of int, shape (n,)
        Which training sample that is, to be looked at.

    References
    ----------
    .. [1] C. Meehan, K. Chaudhuri and S. Dasgupta, "A non-parametric test to detect data-copying in generative models",
       AISTATS 2020, arXiv:2004.05675.
    """

    share: float
    level: float
    statistic: float
    distances: np.ndarray = field(repr=False)
    held_out_distances: np.ndarray = field(repr=False)
    nearest: np.ndarray = field(repr=False)


def memorisation(
    generated: np.ndarray, train: np.ndarray, held_out: np.ndarray, *, level: float = 0.01
) -> Memorisation:
    """Compare the distances of samples and of held-out data to their nearest training samples.

    Parameters
    ----------
    generated : ndarray, shape (n, features)
    train : ndarray, shape (m, features)
        All that the generator was trained on: a copy of what is missing here cannot be seen.
    held_out : ndarray, shape (l, features)
        Of the distribution of the training data, and not seen in training.
    level : float
        Between 0 and 1: share of the held-out data that counts as suspiciously near.

    Returns
    -------
    Memorisation

    Raises
    ------
    ValueError
        If the sets differ in features or are not finite tables; if `level` of the held-out data, and one more, is less
        than one sample; or if that many of them are in the training data, which are then not held out.

    Notes
    -----
    Between pixels a blurred image is near to many. Measure in a feature space, and look at the nearest pairs.
    """
    generated, train = _check_pair(generated, train, "generated", "train")
    held_out, _ = _check_pair(held_out, train, "held_out", "train")
    # One more sample of the same distribution is as likely in any place among the sorted held-out distances: it is
    # nearer than the r-th of m with probability r / (m + 1).
    rank = math.floor(check_number(level, "level", 0, 1, open_ends=True) * (len(held_out) + 1) + 1e-9)
    if rank < 1:
        raise ValueError(
            f"the nearest {level:.3g} of {len(held_out)} held-out samples is less than one; give at least "
            f"{math.ceil(1 / level - 1e-9) - 1}, or a larger level"
        )
    found = neighbours(train, generated, k=1)
    nearest, distances = found.indices[:, 0], found.distances[:, 0]
    held_out_distances = neighbours(train, held_out, k=1).distances[:, 0]
    limit = np.sort(held_out_distances)[rank - 1]
    if limit == 0:
        count = np.sum(held_out_distances == 0)
        raise ValueError(
            f"{count} of the {len(held_out)} held-out samples are also in the training data, so they are not held out. "
            f"Remove them, or training samples that occur many times."
        )
    n, m = len(distances), len(held_out_distances)
    farther = scipy.stats.mannwhitneyu(distances, held_out_distances).statistic  # pairs with the sample farther off
    statistic = (farther - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
    share = float(np.mean(distances < limit))
    return Memorisation(share, float(level), float(statistic), distances, held_out_distances, nearest)


def _check_pair(a: Any, b: Any, name_a: str, name_b: str) -> tuple[np.ndarray, np.ndarray]:
    a, b = check_table(a, name_a, "features (n, features)"), check_table(b, name_b, "features (n, features)")
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{name_a} has {a.shape[1]} features and {name_b} has {b.shape[1]}; give the same layer of one model"
        )
    return a, b


# --- a density on codes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CodeDensity:
    """An autoencoder and a density of its codes: together a generator.

    Attributes
    ----------
    autoencoder : Autoencoder
    mixture : sklearn.mixture.GaussianMixture
        Of flat codes; ``score_samples`` gives log densities in nats. Of a k-sparse autoencoder, the codes before its
        largest k units are kept.
    code_shape : tuple of int
    """

    autoencoder: Any = field(repr=False)
    mixture: GaussianMixture
    code_shape: tuple[int, ...]

    def sample(self, n: int, *, seed: int | None = None) -> np.ndarray:
        """Return `n` decoded draws from the density, shape ``(n, *sample)``; without a seed others at each call.

        Raises
        ------
        ValueError
            If `n` or `seed` is no such number, or the decoder returns NaN or infinity.
        """
        rng = np.random.default_rng(None if seed is None else check_seed(seed))
        mixture = copy.copy(self.mixture)  # its seed is ours for this call alone
        mixture.random_state = int(rng.integers(2**31))
        codes = rng.permutation(mixture.sample(check_size(n, "n"))[0])  # they come sorted by component
        codes = codes.reshape(n, *self.code_shape).astype("float32")
        top_k = getattr(self.autoencoder, "top_k", None)  # its decoder has only seen codes of k units
        codes = codes if top_k is None else np.asarray(top_k(codes))
        return check_finite(self.autoencoder.decode(codes), "the decoder")


def fit_density(
    autoencoder: Any, x: np.ndarray, *, n_components: int = 10, seed: int = 0, **options: Any
) -> CodeDensity:
    """Fit a Gaussian mixture to the codes of `x`, and so make a generator of an autoencoder that was none [1]_.

    Parameters
    ----------
    autoencoder : Autoencoder
        Trained; whatever has ``encode(x)`` and ``decode(z)``. Of a variational one, the means are fitted. Of a k-sparse
        one, the codes before the largest k units are kept: a draw goes the same way, so that the decoder gets codes of
        the kind it knows. Of a conditional one, take ``cvae.for_class(label)``.
    x : ndarray, shape (n, *sample)
        Training samples.
    n_components : int
        One is the normal distribution with the mean and covariance of the codes.
    seed : int
        Fixes the start of the fit.
    **options
        Go to scikit-learn's GaussianMixture: ``covariance_type="diag"``, ``max_iter=500``.

    Returns
    -------
    CodeDensity

    Raises
    ------
    ValueError
        If there are too few samples for so many components of such codes, if all codes are equal or not finite, or if
        the autoencoder cannot encode and decode, or not without a class.

    References
    ----------
    .. [1] P. Ghosh, M. S. M. Sajjadi, A. Vergari, M. Black and B. Schölkopf, "From variational to deterministic
       autoencoders", ICLR 2020, arXiv:1903.12436.
    """
    if not (hasattr(autoencoder, "encode") and hasattr(autoencoder, "decode")):
        raise ValueError(f"{autoencoder!r} has no encode and decode; give a tfae.models.Autoencoder, or one like it")
    if hasattr(autoencoder, "for_class"):
        raise ValueError(
            "a conditional autoencoder decodes a code only with a class; give cvae.for_class(label), and the samples "
            "of that class"
        )
    check_size(n_components, "n_components")
    z = check_finite(_codes(autoencoder, x), "the encoder")
    flat = check_table(z.reshape(len(z), -1), "the codes of x")
    n, units = flat.shape
    if n < n_components * (units + 1):
        raise ValueError(
            f"there are {n} codes of {units} units for {n_components} components; each takes at least {units + 1}, so "
            f"give {n_components * (units + 1)} samples or more, or fewer components"
        )
    if (flat == flat[0]).all():
        raise ValueError(f"all {n} codes are equal; there is nothing to fit. Has the code collapsed?")
    mixture = GaussianMixture(n_components, random_state=check_seed(seed), **options).fit(flat)
    return CodeDensity(autoencoder, mixture, z.shape[1:])


def _codes(autoencoder: Any, x: np.ndarray) -> np.ndarray:
    if hasattr(autoencoder, "top_k"):  # a mixture of normals has no zeros: fit what comes before them
        x = check_samples(x, sample_shape(autoencoder.encoder))
        return in_batches(inference(autoencoder.encoder), x, 1024)
    return np.asarray(autoencoder.encode(x))


# --- a generative adversarial network --------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tfae")
class GenerativeAdversarialNetwork(keras.Model):
    r"""A generator that learns from a discriminator, which learns to tell its samples from data [1]_.

    With D the discriminator's logit, of "this is data", and :math:`\sigma` the logistic function, each pays in nats per
    sample

    .. math:: L_D = -E_x[\log \sigma(D(x))] - E_z[\log(1 - \sigma(D(G(z))))], \qquad L_G = -E_z[\log \sigma(D(G(z)))]

    with z standard normal, and what its own regularisers ask for. :math:`L_G` is the non-saturating form of section 3
    of the paper: its gradient does not vanish while the discriminator is ahead. Both networks take one step for each
    batch, from the same state: the generator runs once and the discriminator twice, on the data and on the samples.
    Where neither can improve, :math:`L_D = 2 \ln 2` and :math:`L_G = \ln 2`; a falling loss is no sign of better
    samples.

    ``compile`` gets an optimizer and no loss; ``fit(x)`` logs ``discriminator_loss`` and ``generator_loss``, and so do
    ``evaluate(x)`` and ``validation_data``. A call returns the logits of the data and of as many samples. A part that
    is frozen, ``generator.trainable = False``, keeps its weights while the other one learns.

    Parameters
    ----------
    generator : keras.Layer
        Maps codes ``(n, *code_shape)`` to samples. One that Keras has not built is to be called once on codes before,
        ``generator(np.zeros((1, 16)))``: nothing else says how long they are.
    discriminator : keras.Layer
        Maps samples to logits ``(n, 1)``: no sigmoid at its end.
    seed : int, optional
        Fixes the codes drawn in training.

    Raises
    ------
    ValueError
        If a part is not a Keras layer, the code size is unknown, the discriminator ends with a sigmoid or does not
        return one number for each sample, the generator's samples are not of the shape of the data, or several devices
        are to share the training; and before training if ``compile`` got a loss, if there are targets or sample
        weights, or if the data are empty, of the wrong shape or not finite.

    References
    ----------
    .. [1] I. Goodfellow et al., "Generative adversarial nets", NeurIPS 2014, arXiv:1406.2661.
    """

    def __init__(
        self, generator: keras.Layer, discriminator: keras.Layer, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        for name, part in (("generator", generator), ("discriminator", discriminator)):
            if not isinstance(part, keras.Layer):
                raise ValueError(f"the {name} must be a Keras layer or model, not {type(part).__name__}: {part!r}")
        last = (getattr(discriminator, "layers", None) or [discriminator])[-1]
        if getattr(last, "activation", None) is keras.activations.sigmoid:
            raise ValueError("the discriminator ends with a sigmoid; it must return logits: Dense(1), no activation")
        _check_one_device()
        self.generator = generator
        self.discriminator = discriminator
        self.seed = None if seed is None else check_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.trackers = [keras.metrics.Mean(name) for name in ("discriminator_loss", "generator_loss")]
        self.built = generator.built and discriminator.built

    def call(self, x: Any, training: bool | None = None) -> tuple[Any, Any]:
        z = keras.random.normal((ops.shape(x)[0], *self._code_shape()), seed=self.seed_generator)
        samples = self.generator(z, training=training)
        if not compatible(samples.shape[1:], x.shape[1:]):
            raise ValueError(
                f"the generator returns samples of shape {shape_text(samples.shape[1:])} and the data have "
                f"{shape_text(x.shape[1:])}; the two must be equal"
            )
        x = ops.cast(x, samples.dtype)  # whole numbers, too
        real, fake = self.discriminator(x, training=training), self.discriminator(samples, training=training)
        if real.shape[1:] != (1,):
            raise ValueError(
                f"the discriminator returns {shape_text(('n', *real.shape[1:]))}; it must return one logit, (n, 1)"
            )
        return real, fake

    # Training.

    def train_step(self, data: Any) -> dict[str, Any]:
        with tf.GradientTape(persistent=True) as tape:
            losses = self._two_losses(data, training=True)
            discriminator_loss, generator_loss = map(self.optimizer.scale_loss, losses)
        generates, discriminates = self.generator.trainable_variables, self.discriminator.trainable_variables
        slopes = tape.gradient(generator_loss, generates) + tape.gradient(discriminator_loss, discriminates)
        if slopes:
            self.optimizer.apply(slopes, generates + discriminates)
        return {tracker.name: tracker.result() for tracker in self.trackers}

    def test_step(self, data: Any) -> dict[str, Any]:
        self._two_losses(data, training=False)
        return {tracker.name: tracker.result() for tracker in self.trackers}

    def _two_losses(self, data: Any, training: bool) -> tuple[Any, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        _check_alone(y, sample_weight)
        real, fake = (ops.cast(logits, "float32") for logits in self(x, training=training))
        # -log sigma(D) is softplus(-D), and -log(1 - sigma(D)) is softplus(D), with no logarithm of 0.
        losses = (
            sum(self.discriminator.losses, ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))),
            sum(self.generator.losses, ops.mean(ops.softplus(-fake))),
        )
        for tracker, loss in zip(self.trackers, losses, strict=True):
            tracker.update_state(loss, sample_weight=ops.shape(real)[0])
        return losses

    # Keras's own, after one look at the data.

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        self._check_data(x, y, kwargs.get("sample_weight"), kwargs.get("class_weight"))
        if kwargs.get("validation_data") is not None:
            self._check_data(*keras.utils.unpack_x_y_sample_weight(kwargs["validation_data"]))
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        self._check_data(x, y, kwargs.get("sample_weight"))
        return super().evaluate(x, y, *args, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        self._check_data(x, y, *args[:2], kwargs.get("sample_weight"), kwargs.get("class_weight"))
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        self._check_data(x, y, *args[:1], kwargs.get("sample_weight"))
        return super().test_on_batch(x, y, *args, **kwargs)

    def _check_data(self, x: Any, y: Any, *weights: Any) -> None:
        _check_one_device()
        if getattr(self, "loss", None) is not None:
            raise ValueError(f"the loss is {self.loss!r}; this model has two of its own: compile without")
        _check_alone(y, *weights)
        if isinstance(x, tf.data.Dataset):  # read batch by batch: what it holds is known
            _check_alone(*keras.utils.unpack_x_y_sample_weight(x.element_spec)[1:])
        elif hasattr(x, "shape"):
            check_samples(x, sample_shape(self.discriminator))

    # Answers.

    def sample(self, n: int, *, seed: int | None = None, batch_size: int = 1024) -> np.ndarray:
        """Return `n` samples, float32 of shape ``(n, *sample)``; without a seed others at each call.

        Raises
        ------
        ValueError
            If `n`, `seed` or `batch_size` is no such number, or the generator returns NaN or infinity.
        """
        rng = np.random.default_rng(None if seed is None else check_seed(seed))
        z = rng.normal(size=(check_size(n, "n"), *self._code_shape())).astype("float32")
        return check_finite(in_batches(inference(self.generator), z, batch_size), "the generator").astype("float32")

    def _code_shape(self) -> tuple[int, ...]:
        shape = sample_shape(self.generator) or (None,)
        if None in shape:
            raise ValueError(
                "the size of the generator's codes is unknown: it has not seen one yet, or takes any. Begin it with "
                "keras.Input((16,)), or call it once: generator(np.zeros((1, 16)))."
            )
        return tuple(size for size in shape if size is not None)

    def get_config(self) -> dict[str, Any]:
        parts = {"generator": self.generator, "discriminator": self.discriminator}
        serialized = {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}
        return super().get_config() | serialized | {"seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "GenerativeAdversarialNetwork":
        parts = ("generator", "discriminator")
        return cls(**(config | {name: keras.saving.deserialize_keras_object(config[name]) for name in parts}))


def _check_alone(y: Any, *weights: Any) -> None:
    """Raise if there is more than samples: Keras would drop it without a word."""
    if y is not None:
        raise ValueError("y is given, and there is nothing to predict: call fit(x), or give a dataset of x alone")
    if any(weight is not None for weight in weights):
        raise ValueError(
            "weights are given, and the generator's samples have none. To learn another distribution than that of x, "
            "draw from x with these weights: x[rng.choice(len(x), len(x), p=weights / weights.sum())]."
        )


def _check_one_device() -> None:
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:
        raise ValueError(
            f"{replicas} devices are to share the training, and this model draws its codes for one: build it and call "
            f"fit outside the strategy's scope"
        )
