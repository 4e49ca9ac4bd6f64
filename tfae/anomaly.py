"""What is not normal: scores, thresholds, and why (chapter 13).

An autoencoder that has seen normal samples alone reproduces normal samples. A *score* is one number for each sample,
larger for stranger ones; the scores here are targets (`tfae.targets`), so all of `tfae.attribution` explains them. The
anomaly is the positive class throughout, and no anomaly is needed before the evaluation.

Normal samples have three uses, and none has two: one part trains the autoencoder, one makes the score, one the
threshold. What was used before scores lower than what is new, and a threshold from it breaks its promise; `score` warns
of samples that the score was made from.

>>> strangeness = negative_log_likelihood(autoencoder, x_normal[:300])  # doctest: +SKIP
>>> alarm = threshold(score(strangeness, x_normal[300:]), false_alarm_share=0.05)  # doctest: +SKIP
>>> alarm.raised(score(strangeness, x_new))  # doctest: +SKIP
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops
from scipy.stats import beta, rankdata
from sklearn.metrics import average_precision_score, roc_auc_score

from tfae import targets
from tfae.adversarial import check_autoencoder, drawing, nearest_normal
from tfae.attribution import Attribution, integrated_gradients
from tfae.checks import check_inputs, check_number, check_samples, check_size
from tfae.inference import in_batches, name_of, numbers
from tfae.models import Autoencoder, VariationalAutoencoder
from tfae.targets import Target

# --- scores ----------------------------------------------------------------------------------------------------------
#
# The plainest score is targets.reconstruction_error(autoencoder), for which any Keras model will do.


@dataclass(frozen=True, eq=False)
class FittedScore(Target):
    """A score that was made from normal samples, and remembers which.

    Attributes
    ----------
    made_from : frozenset of int
        A digest of each of these samples.
    """

    made_from: frozenset[int] = field(default=frozenset(), repr=False)


def score(target: Callable[[Any], Any], x: Any, *, batch_size: int = 1024) -> np.ndarray:
    """Return the score of each sample.

    Parameters
    ----------
    target : tfae.targets.Target or callable
        Maps a tensor of samples to a tensor ``(n,)``: one of `tfae.targets`, one made here, or a sum of several.
    x : array, shape (n, *sample), or tf.data.Dataset
    batch_size : int
        Of a dataset the batches are its own.

    Returns
    -------
    ndarray of float64, shape (n,)
        Larger for stranger samples.

    Raises
    ------
    ValueError
        If `x` is empty or not finite, or the target does not return one finite number for each sample.

    Warns
    -----
    UserWarning
        If samples of `x` are among those that the score was made from: no threshold must come from these.
    """
    x = x if isinstance(x, tf.data.Dataset) else check_samples(x, None)
    made_from: frozenset[int] = getattr(target, "made_from", frozenset())
    known = 0

    def scored(batch: Any) -> Any:
        nonlocal known
        batch = np.asarray(batch, "float32")
        known += sum(digest in made_from for digest in _digests(batch))
        return target(tf.constant(batch))

    scores = numbers(scored, x, batch_size, name_of(target)).astype("float64")
    if known:
        warnings.warn(
            f"{known} of these {len(scores)} samples are among those that the {name_of(target)} was made from. New "
            f"normal samples score higher, so a threshold from these would raise more false alarms than it promises: "
            f"split the normal samples, one part for the score and one for the threshold.",
            stacklevel=2,
        )
    return scores


def _digests(x: np.ndarray) -> list[int]:
    return [hash(sample.tobytes()) for sample in x]


def code_distance(autoencoder: Autoencoder, x_normal: Any, *, batch_size: int = 1024) -> FittedScore:
    r"""Return the score "how far the code is from the normal codes", the squared Mahalanobis distance [1]_.

    With mean :math:`\mu` and covariance :math:`\Sigma` of the normal codes it is
    :math:`(z - \mu)^T \Sigma^{-1} (z - \mu)`. Over the n codes of k units that it was made from, its
    mean is k (n - 1) / n.

    Parameters
    ----------
    autoencoder : Autoencoder
    x_normal : array, shape (n, *sample)
        Normal samples, clearly more than there are code units.
    batch_size : int

    Raises
    ------
    ValueError
        If there are not more normal samples than code units; if their codes do not vary in some direction, so that
        distances along it have no unit; or if `autoencoder` has no code to look at.

    References
    ----------
    .. [1] P. C. Mahalanobis, "On the generalised distance in statistics", Proceedings of the National Institute of
       Sciences of India 2, 1936.
    """
    code, x = _code_of(autoencoder), check_inputs(autoencoder.encoder, x_normal, "x_normal")
    mean, whiten, _ = _gaussian(in_batches(code, x, batch_size))
    made_from = frozenset(_digests(x))
    return FittedScore("code distance", code, lambda z, x: _squared_distance(z, mean, whiten), made_from=made_from)


def negative_log_likelihood(autoencoder: Autoencoder, x_normal: Any, *, batch_size: int = 1024) -> FittedScore:
    r"""Return the score that weighs reconstruction error and code distance against each other, in nats.

    It is the negative logarithm of the density of a sample x with its code z if normal codes are Gaussian and a
    reconstruction misses by Gaussian noise of variance :math:`\sigma^2` in each of the D features,

    .. math:: -\ln p(x, z) = \frac{\|x - \hat x\|^2}{2 \sigma^2} + \frac{D}{2} \ln 2 \pi \sigma^2
              + \frac12 (z - \mu)^T \Sigma^{-1} (z - \mu) + \frac12 \ln \det 2 \pi \Sigma,

    with :math:`\sigma^2, \mu, \Sigma` estimated from the normal samples. A linear autoencoder makes this the model of
    probabilistic PCA [1]_.

    Parameters
    ----------
    autoencoder : Autoencoder
    x_normal : array, shape (n, *sample)
        Normal samples, best such as the autoencoder was not trained on: it misses those by less than new ones.
    batch_size : int

    Raises
    ------
    ValueError
        As `code_distance`; if the normal samples are reconstructed without any error; and of a conditional autoencoder,
        for which give ``for_class(label)``.

    References
    ----------
    .. [1] M. E. Tipping and C. M. Bishop, "Probabilistic principal component analysis", Journal of the Royal
       Statistical Society B 61(3), 1999.
    """
    code, draw = _code_of(autoencoder), drawing(autoencoder)
    x = check_inputs(autoencoder.encoder, x_normal, "x_normal")
    mean, whiten, log_volume = _gaussian(in_batches(code, x, batch_size))

    def squared_error(z: Any, x: Any) -> Any:
        squares = ops.square(draw(z) - x)
        return ops.sum(squares, axis=tuple(range(1, len(squares.shape))))

    features = math.prod(x.shape[1:])
    errors = in_batches(lambda batch: squared_error(code(batch), batch), x, batch_size)
    variance = float(np.mean(errors, dtype="float64")) / features
    if variance == 0:
        raise ValueError(
            "the normal samples are reconstructed without any error, so an error has no scale; use fewer units"
        )
    constant = features * math.log(2 * math.pi * variance) + log_volume

    def read(z: Any, x: Any) -> Any:
        return 0.5 * (squared_error(z, x) / variance + _squared_distance(z, mean, whiten) + constant)

    return FittedScore("negative log-likelihood", code, read, made_from=frozenset(_digests(x)))


def negative_elbo(vae: VariationalAutoencoder, *, n_samples: int = 8, seed: int = 0) -> Target:
    """Return the score "negative evidence lower bound" of a variational autoencoder, in nats (chapter 05) [1]_.

    It holds both parts by itself: the reconstruction, and how far the code is from the prior. The noise is drawn once
    and is the same for all samples, so that equal samples get equal scores.

    Parameters
    ----------
    vae : VariationalAutoencoder
        Of a conditional one give ``for_class(label)``.
    n_samples : int
        Codes that the reconstruction is averaged over.
    seed : int
        Fixes the noise.

    Raises
    ------
    ValueError
        If `vae` is no variational autoencoder, or an option is out of range; and of a conditional one, when it scores.

    References
    ----------
    .. [1] J. An and S. Cho, "Variational autoencoder based anomaly detection using reconstruction probability", SNU
       Data Mining Center, 2015, scores by the first part alone.
    """
    if not isinstance(vae, VariationalAutoencoder):
        raise ValueError(
            f"a bound needs a VariationalAutoencoder, not {type(vae).__name__}; use negative_log_likelihood"
        )
    bound = targets.elbo(vae, n_samples=n_samples, seed=seed)
    return Target("negative ELBO", bound.network, lambda both, x: -bound.read(both, x))


def combined(scores: Sequence[Callable[[Any], Any]], x_normal: Any, *, batch_size: int = 1024) -> FittedScore:
    """Return the sum of several scores, each less its mean and divided by its standard deviation on normal samples.

    So a score counts by how unusual it is, whatever its unit. `negative_log_likelihood` weighs by a model instead, in
    which an error in hundreds of features drowns a distance in ten units.

    Parameters
    ----------
    scores : sequence of tfae.targets.Target or callable
    x_normal : array, shape (n, *sample)
        Normal samples, best such as the autoencoder was not trained on.
    batch_size : int

    Raises
    ------
    ValueError
        If there is no score, or one is the same for all normal samples, so that it has no unit.
    """
    if not scores:
        raise ValueError("scores is empty; give at least one, such as targets.reconstruction_error(autoencoder)")
    x = check_samples(x_normal, None, "x_normal").astype("float32")
    terms, made_from = [], frozenset(_digests(x))
    for target in scores:
        values = numbers(lambda batch, target=target: target(tf.constant(batch)), x, batch_size, name_of(target))
        mean, spread = values.mean(dtype="float64"), values.std(dtype="float64")
        if spread == 0:
            raise ValueError(
                f"{name_of(target)} is {values[0]:g} for all {len(values)} normal samples, so it has no unit"
            )
        terms.append((target, float(mean), float(spread)))
        made_from |= getattr(target, "made_from", frozenset())
    name = " + ".join(name_of(target) for target in scores)

    def read(_: Any, x: Any) -> Any:
        return sum((target(x) - mean) / spread for target, mean, spread in terms)

    return FittedScore(name, lambda x: x, read, made_from=made_from)


def local_pca(x_normal: Any, *, k: int = 50, n_components: int = 10) -> FittedScore:
    r"""Return the score "how far from the plane through the nearest normal samples, for this place" [1]_ [2]_.

    Around each sample the k nearest normal samples are taken, and their `n_components` leading principal axes
    :math:`V` through their mean m. What these cannot reproduce of the sample,
    :math:`\|(x - m) - V V^T (x - m)\|^2`, is divided by what they cannot reproduce of the k neighbours, on average: 1
    is as normal as they are. So a place where samples scatter widely has no more false alarms than another [3]_. It is
    a linear autoencoder that is fitted anew for every sample: it needs no training, follows a curved surface, and keeps
    all normal samples in memory. Its derivative takes the plane and its neighbours as they are.

    Parameters
    ----------
    x_normal : array, shape (n, *sample)
        Normal samples. Features count by their squares: bring those of different units to one scale.
    k : int
        Neighbours, at most n. A batch of m samples needs room for m k samples.
    n_components : int
        Principal axes, fewer than k - 1, so that something is left of the neighbours, and than features.

    Raises
    ------
    ValueError
        If `x_normal` is not finite or `k` or `n_components` does not fit it.

    Notes
    -----
    Where the neighbours lie in their plane but for rounding, a millionth of their mean square stands for what is left.

    References
    ----------
    .. [1] N. Kambhatla and T. K. Leen, "Dimension reduction by local principal component analysis", Neural Computation
       9(7), 1997.
    .. [2] P. Vincent and Y. Bengio, "K-local hyperplane and convex distance nearest neighbor algorithms", Advances in
       Neural Information Processing Systems 14, 2001.
    .. [3] M. M. Breunig, H.-P. Kriegel, R. T. Ng and J. Sander, "LOF: identifying density-based local outliers",
       SIGMOD 2000, which divides a distance in the same way.
    """
    x = check_samples(x_normal, None, "x_normal").astype("float32")
    k, most = check_size(k, "k"), math.prod(x.shape[1:])
    if not 3 <= k <= len(x) or check_size(n_components, "n_components") >= min(k - 1, most):
        raise ValueError(
            f"k is {k} and n_components {n_components}, for {len(x)} normal samples of {most} features: k must be from "
            f"3 to the number of samples, and n_components less than k - 1 and than the features"
        )
    known = x.reshape(len(x), -1)
    squares = np.sum(np.square(known), axis=1)

    def plane(x: Any) -> tuple[Any, Any, Any]:
        """Return the mean (n, 1, d) of the neighbours, their axes (n, n_components, d), and what is left of them."""
        nearest = tf.math.top_k(2 * tf.matmul(x, known, transpose_b=True) - squares, k).indices
        neighbours = tf.gather(known, nearest)
        mean = tf.reduce_mean(neighbours, axis=1, keepdims=True)
        around = neighbours - mean
        # A neighbour's products with the others lead to the same axes as the covariance, which is larger for images.
        variances, shares = tf.linalg.eigh(tf.matmul(around, around, transpose_b=True))
        # Where neighbours differ by rounding alone they have no axis.
        size = tf.reduce_sum(tf.square(neighbours), axis=(1, 2))
        real = variances > 1e-6 * variances[:, -1:] + 1e-12 * size[:, None]
        scales = tf.sqrt(tf.where(real, variances, np.inf))
        axes = tf.matmul((shares / scales[:, None])[..., -n_components:], around, transpose_a=True)
        left = tf.reduce_sum(tf.maximum(variances[:, :-n_components], 0), axis=1)
        return mean, axes, tf.maximum(left, 1e-6 * size) / k

    def read(_: Any, x: Any) -> Any:
        x = _flat(x)
        mean, axes, left = map(tf.stop_gradient, plane(x))
        away = x[:, None] - mean
        beyond = away - tf.matmul(tf.matmul(away, axes, transpose_b=True), axes)
        return tf.math.divide_no_nan(tf.reduce_sum(tf.square(beyond), axis=(1, 2)), left)

    return FittedScore("distance to local PCA", lambda x: x, read, made_from=frozenset(_digests(x)))


def _code_of(autoencoder: Autoencoder) -> Callable[[Any], Any]:
    """Return the function from samples to codes, in float32."""
    check_autoencoder(autoencoder)
    return lambda x: ops.cast(autoencoder.code(x, training=False), "float32")


def _flat(z: Any) -> Any:
    return ops.reshape(z, (-1, math.prod(z.shape[1:])))


def _gaussian(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the mean of the codes, a matrix that whitens them, and ln det(2 pi covariance)."""
    z = check_samples(z, None, "the codes of x_normal").astype("float64").reshape(len(z), -1)
    n, units = z.shape
    if n <= units:
        raise ValueError(
            f"x_normal holds {n} samples and a code has {units} units; their covariance needs more samples than units, "
            f"better ten times as many"
        )
    mean = z.mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(z, rowvar=False).reshape(units, units))
    if variances[0] <= 1e-10 * variances[-1]:
        flat = int(np.sum(variances <= 1e-10 * variances[-1]))
        raise ValueError(
            f"the codes of x_normal do not vary in {flat} of {units} directions, so distances along these have no "
            f"unit. Use a smaller code, without units that are always 0, or targets.reconstruction_error."
        )
    log_volume = float(np.sum(np.log(2 * math.pi * variances)))
    return mean.astype("float32"), (axes / np.sqrt(variances)).astype("float32"), log_volume


def _squared_distance(z: Any, mean: np.ndarray, whiten: np.ndarray) -> Any:
    return ops.sum(ops.square(ops.matmul(_flat(z) - mean, whiten)), axis=-1)


# --- thresholds ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Threshold:
    """A score above which there is an alarm, and the false alarms to expect.

    Attributes
    ----------
    value : float
    false_alarm_share : float
        Share of new normal samples that will be above `value`, on average over all sets of `n_normal` normal samples.
    interval : tuple of float
        Where that share lies with 95 % probability for the set at hand.
    n_normal : int
    """

    value: float
    false_alarm_share: float
    interval: tuple[float, float]
    n_normal: int

    def raised(self, scores: Any) -> np.ndarray:
        """Return whether each score raises the alarm, shape ``(n,)``."""
        return _check_scores(scores) > self.value


def threshold(normal_scores: Any, *, false_alarm_share: float = 0.05) -> Threshold:
    """Choose the lowest threshold that promises no more false alarms than wanted, from normal samples alone.

    Of n scores of normal samples the r-th smallest is taken. A new one is above it with probability
    (n + 1 - r) / (n + 1), whatever the distribution of the scores; for the set at hand that share is Beta(n + 1 - r, r)
    distributed [1]_. With ties it is smaller.

    Parameters
    ----------
    normal_scores : array, shape (n,)
        Scores of normal samples that the autoencoder was **not** trained on, nor the score made from: those are smaller
        than what new samples will have. `score` warns of the latter.
    false_alarm_share : float
        Largest share of normal samples that may be above the threshold, in (0, 1).

    Returns
    -------
    Threshold

    Raises
    ------
    ValueError
        If there are fewer than 1 / false_alarm_share - 1 scores: none of them could be a threshold.

    References
    ----------
    .. [1] S. S. Wilks, "Determination of sample sizes for setting tolerance limits", Annals of Mathematical Statistics
       12(1), 1941.
    """
    scores = _check_scores(normal_scores, "normal_scores")
    n, wanted = len(scores), check_number(false_alarm_share, "false_alarm_share", 0, 1, open_ends=True)
    above = math.floor(wanted * (n + 1) + 1e-9)  # n + 1 - r
    if above < 1:
        raise ValueError(
            f"a false alarm share of {wanted:g} needs at least {math.ceil(1 / wanted - 1 - 1e-9)} normal samples, and "
            f"there are {n}; even the largest of their scores promises {1 / (n + 1):.3g} at best"
        )
    low, high = beta.ppf([0.025, 0.975], above, n + 1 - above)
    value = float(np.sort(scores)[n - above])
    return Threshold(value, above / (n + 1), (float(low), float(high)), n)


# --- evaluation ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """How well scores tell anomalies from normal samples.

    Attributes
    ----------
    auroc : float
        Probability that an anomaly scores higher than a normal sample: 0.5 by chance.
    auroc_standard_error : float
        Of `auroc` [1]_. Where no pair is in the wrong order it is 0, which says that the sample was too easy or too
        small and not that the area is exact.
    average_precision : float
        Mean precision over the anomalies in the order of their scores: `prevalence` by chance.
    prevalence : float
        Share of anomalies among the samples. It changes the average precision and not the AUROC.
    n_normal, n_anomalies : int
    false_alarm_share, detected_share : float or None
        With a threshold: share of the normal samples, and of the anomalies, above it.

    References
    ----------
    .. [1] E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, "Comparing the areas under two or more correlated
       receiver operating characteristic curves: a nonparametric approach", Biometrics 44(3), 1988.
    """

    auroc: float
    auroc_standard_error: float
    average_precision: float
    prevalence: float
    n_normal: int
    n_anomalies: int
    false_alarm_share: float | None = None
    detected_share: float | None = None


def evaluate(scores: Any, is_anomaly: Any, *, alarm: Threshold | None = None) -> Evaluation:
    """Compare scores with the truth, the anomaly being the positive class.

    Parameters
    ----------
    scores : array, shape (n,)
        Larger for stranger samples.
    is_anomaly : array of bool or of 0 and 1, shape (n,)
    alarm : Threshold, optional

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If there are fewer than two normal samples or two anomalies, if the labels are not as many as the scores or not
        0 and 1, or if a score is not finite.
    """
    scores, truth = _check_scores(scores), np.asarray(is_anomaly)
    if truth.shape != scores.shape or not np.isin(truth, (0, 1)).all():
        raise ValueError(
            f"is_anomaly has shape {truth.shape} and scores {scores.shape}; give one True (an anomaly) or False each"
        )
    truth = truth.astype(bool)
    normal, anomalous = int((~truth).sum()), int(truth.sum())
    if min(normal, anomalous) < 2:
        raise ValueError(
            f"there are {normal} normal samples and {anomalous} anomalies; an evaluation needs at least two of each"
        )
    # Share of the normal samples below each anomaly, and of the anomalies above each normal sample; ties count half.
    ranks = rankdata(scores)
    below = (ranks[truth] - rankdata(scores[truth])) / normal
    above = 1 - (ranks[~truth] - rankdata(scores[~truth])) / anomalous
    return Evaluation(
        float(roc_auc_score(truth, scores)),
        math.sqrt(below.var(ddof=1) / anomalous + above.var(ddof=1) / normal),
        float(average_precision_score(truth, scores)),
        anomalous / len(truth),
        normal,
        anomalous,
        None if alarm is None else float(alarm.raised(scores[~truth]).mean()),
        None if alarm is None else float(alarm.raised(scores[truth]).mean()),
    )


def _check_scores(scores: Any, name: str = "scores") -> np.ndarray:
    scores = np.asarray(scores)
    if scores.ndim != 1 or scores.dtype.kind not in "iuf" or len(scores) == 0:
        raise ValueError(f"{name} has shape {scores.shape} and dtype {scores.dtype}; it must be numbers of shape (n,)")
    if not np.isfinite(scores).all():
        bad = np.flatnonzero(~np.isfinite(scores))
        raise ValueError(f"{name} holds {len(bad)} values that are NaN or infinite, the first at {bad[0]}")
    return scores


# --- reasons ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why samples score as they do.

    Attributes
    ----------
    normal : ndarray, shape (n, *sample)
        The nearest thing that the decoder can draw: what each sample would be if it were normal.
    distance : ndarray, shape (n,)
        Euclidean, from the sample to it.
    attribution : Attribution
        What each feature, moved from there to where it is, adds to the score. Its values add up to the score of the
        sample less that of `normal`, within its `completeness_gap`.
    """

    normal: np.ndarray = field(repr=False)
    distance: np.ndarray
    attribution: Attribution


def explain(
    target: Callable[[Any], Any],
    autoencoder: Autoencoder,
    x: Any,
    *,
    search_steps: int = 200,
    learning_rate: float = 0.05,
    batch_size: int = 256,
    **options: Any,
) -> Explanation:
    """Find the nearest normal sample, and what of the difference makes the score.

    Integrated gradients need a baseline. Zero stands for "absent" only where nothing is the normal case: a blank page
    is itself an anomaly, and a sensor that is dead and reads 0 gets exactly 0 from it, though it is all that is wrong.
    The nearest normal sample is the least change that would have been no surprise.

    Parameters
    ----------
    target : tfae.targets.Target or callable
        The score.
    autoencoder : Autoencoder
        Of a conditional one give ``for_class(label)``.
    x : array, shape (n, *sample)
    search_steps, learning_rate
        Of the search, as `steps` and `learning_rate` in `tfae.adversarial.nearest_normal`.
    batch_size : int
        Samples worked on at once, by the search and by integrated gradients.
    **options
        Go to `tfae.attribution.integrated_gradients`: ``tolerance=0.01``, ``max_steps=256``, ``steps=64``.

    Returns
    -------
    Explanation

    Raises
    ------
    ValueError
        As in these two.
    """
    found = nearest_normal(autoencoder, x, steps=search_steps, learning_rate=learning_rate, batch_size=batch_size)
    attribution = integrated_gradients(target, x, baseline=found.x, batch_size=batch_size, **options)
    return Explanation(found.x, found.distance, attribution)
