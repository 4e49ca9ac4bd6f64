"""What the code has learned: projections, clusters, neighbours, agreement, dimension, traversals (chapters 06, 12).

Codes are arrays ``(n, units)``, from ``autoencoder.encode(x)`` or anywhere else. Each picture of them comes with a
number that says how far to trust it.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.stats
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from tfae.checks import check_samples, check_seed, check_size, check_table
from tfae.inference import check_finite, inference, name_of, sample_shape

PROJECTIONS = ("pca", "tsne", "umap")
CLUSTERINGS = ("kmeans", "gaussian_mixture", "hdbscan")
INTERPOLATIONS = ("linear", "spherical")

# Trustworthiness and silhouette compare all pairs of points: above this many, a random part stands for all of them.
SCORED_POINTS = 2000


# --- projections -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Projection:
    """Codes on a plane, and how far the plane can be trusted.

    Attributes
    ----------
    points : ndarray of float32, shape (n, size)
    method : str
    k : int
        How many neighbours the scores look at.
    trustworthiness : float
        In [0, 1]: 1 if every point's neighbours on the plane are its neighbours in the code too [1]_. Points thrown at
        random score about 0.5.
    neighbour_accuracy, code_neighbour_accuracy : float or None
        Share of the points whose `k` nearest other points mostly have their label, on the plane and in the full code:
        the difference is what the plane hides, or makes up. None without labels.

    References
    ----------
    .. [1] J. Venna and S. Kaski, "Neighborhood preservation in nonlinear projection methods: an experimental study",
       ICANN 2001.
    """

    points: np.ndarray = field(repr=False)
    method: str
    k: int
    trustworthiness: float
    neighbour_accuracy: float | None = None
    code_neighbour_accuracy: float | None = None


def project(
    z: np.ndarray,
    method: str = "pca",
    *,
    size: int = 2,
    labels: np.ndarray | None = None,
    k: int = 10,
    seed: int = 0,
    **options: Any,
) -> Projection:
    """Project codes to `size` dimensions, and measure what is left of their neighbourhoods.

    PCA is linear: distances and directions keep their meaning. t-SNE [1]_ and UMAP [2]_ keep neighbours and give up the
    rest: sizes of clusters and distances between them mean little.

    Parameters
    ----------
    z : ndarray, shape (n, units)
    method : str
        ``"pca"``, ``"tsne"`` or ``"umap"``. UMAP needs the package umap-learn.
    size : int
        At most the number of units.
    labels : ndarray, shape (n,), optional
        Classes, for the two accuracies.
    k : int
        How many neighbours the scores look at, fewer than half of the points. With more than 2,000 points the
        trustworthiness is that of 2,000 drawn at random, so `k` is below 1,000.
    seed : int
    **options
        Go to scikit-learn's PCA or TSNE or to umap.UMAP: ``perplexity=50``, ``min_dist=0.5``.

    Returns
    -------
    Projection

    Raises
    ------
    ValueError
        If the method is unknown; if `z` is not finite codes, or all of them are equal; if `size`, `k` or t-SNE's
        perplexity is too large for them; if the labels are not as many.
    ImportError
        If UMAP is asked for and umap-learn is not installed.

    References
    ----------
    .. [1] L. van der Maaten and G. Hinton, "Visualizing data using t-SNE", JMLR 9, 2008.
    .. [2] L. McInnes, J. Healy and J. Melville, "UMAP: uniform manifold approximation and projection for dimension
       reduction", arXiv:1802.03426.
    """
    z = _check_codes(z)
    n, units = z.shape
    n_scored = min(n, SCORED_POINTS)
    if method not in PROJECTIONS:
        raise ValueError(f"unknown projection {method!r}; the known ones are {', '.join(PROJECTIONS)}")
    if check_size(size, "size") > min(n, units):
        raise ValueError(f"size is {size}; {n} codes of {units} units have at most {min(n, units)} dimensions to show")
    if 2 * check_size(k, "k") >= n_scored:
        raise ValueError(
            f"k is {k} and {n_scored} of the {n} codes are scored; k neighbours must be fewer than half of those"
        )
    if (z == z[0]).all():
        raise ValueError(f"all {n} codes are equal; there is nothing to project. Has the code collapsed?")
    if labels is not None:
        labels = _check_labels(labels, n)

    points = _projector(method, n, size, check_seed(seed), options).fit_transform(z)
    scored = _some(n, seed)
    return Projection(
        points.astype("float32"),
        method,
        k,
        float(trustworthiness(z[scored], points[scored], n_neighbors=k)),
        None if labels is None else _neighbour_accuracy(points, labels, k),
        None if labels is None else _neighbour_accuracy(z, labels, k),
    )


def _projector(method: str, n: int, size: int, seed: int, options: dict[str, Any]) -> Any:
    if method == "pca":
        return PCA(size, random_state=seed, **options)
    if method == "tsne":
        perplexity = options.get("perplexity", 30)
        if perplexity >= n:
            raise ValueError(
                f"perplexity is {perplexity:g} and there are {n} codes; it must be smaller, such as {n / 4:g}"
            )
        return TSNE(size, random_state=seed, **options)
    try:
        umap = importlib.import_module("umap")  # optional, and slow to import
    except ImportError as error:
        raise ImportError(
            "method 'umap' needs the package umap-learn, which is not here: pip install umap-learn"
        ) from error
    return umap.UMAP(n_components=size, random_state=seed, **({"n_jobs": 1} | options))


def _neighbour_accuracy(points: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of the points whose label is the most frequent one among their `k` nearest other points."""
    return float(np.mean(scipy.stats.mode(labels[_others(points, k)], axis=1).mode == labels))


def _others(points: np.ndarray, k: int) -> np.ndarray:
    """Rows of the `k` points nearest to each point, itself left out: shape (n, k)."""
    return NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)


# --- clusters --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Clustering:
    """Clusters of codes, and how real they are.

    Attributes
    ----------
    labels : ndarray of int, shape (n,)
        Cluster of each code, from 0; -1 is noise, which only HDBSCAN knows.
    method : str
    n_clusters : int
    scores : dict of int to float
        What the number of clusters was chosen by, for each number tried: the silhouette for k-means (larger is better),
        the Bayesian information criterion for the Gaussian mixture (smaller is better). NaN where a silhouette is not
        defined; such a number is not chosen. Empty for HDBSCAN.
    silhouette : float
        In [-1, 1], noise left out: 1 for tight clusters far apart, 0 where they touch. NaN where it is not defined:
        where the codes that it is measured on are in one cluster or none, or each in its own.
    noise : float
        Share of the codes that HDBSCAN leaves out; 0 for the others.
    ari, nmi : float or None
        Adjusted Rand index and normalised mutual information with the true labels: 1 for the same classes, 0 for no
        better than chance (ARI) or no information (NMI). Noise counts as one more cluster. None without labels.
    """

    labels: np.ndarray = field(repr=False)
    method: str
    n_clusters: int
    scores: dict[int, float] = field(repr=False)
    silhouette: float
    noise: float = 0.0
    ari: float | None = None
    nmi: float | None = None


def cluster(
    z: np.ndarray,
    method: str = "kmeans",
    *,
    n_clusters: int | None = None,
    max_clusters: int = 15,
    labels: np.ndarray | None = None,
    seed: int = 0,
    **options: Any,
) -> Clustering:
    """Find clusters of codes, without labels; score them against the labels, where there are any.

    Left open, the number of clusters is chosen from the codes alone: for k-means, from 2 to `max_clusters`, by the
    largest silhouette [1]_; for a Gaussian mixture, from 1, by the smallest Bayesian information criterion [2]_.
    HDBSCAN [3]_ looks for dense regions, and finds their number by itself.

    Parameters
    ----------
    z : ndarray, shape (n, units)
        Distances between codes are what counts: units of larger scale weigh more.
    method : str
        ``"kmeans"``, ``"gaussian_mixture"`` or ``"hdbscan"``.
    n_clusters : int, optional
        Not for HDBSCAN.
    max_clusters : int
        The largest number tried where `n_clusters` is left open.
    labels : ndarray, shape (n,), optional
        True classes. They are used for `ari` and `nmi` and for nothing else.
    seed : int
        Fixes the starts, and which 2,000 codes the silhouette is measured on where there are more.
    **options
        Go to scikit-learn's KMeans, GaussianMixture or HDBSCAN: ``covariance_type="diag"``, ``min_cluster_size=50``.

    Returns
    -------
    Clustering

    Raises
    ------
    ValueError
        If the method is unknown; if `z` is not finite codes or has fewer different ones than clusters are asked for; if
        no number of clusters has a silhouette to be chosen by; if HDBSCAN is told the number of clusters, or looks for
        clusters larger than all codes together; if the labels are not as many.

    References
    ----------
    .. [1] P. J. Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis",
       Journal of Computational and Applied Mathematics 20, 1987.
    .. [2] G. Schwarz, "Estimating the dimension of a model", Annals of Statistics 6, 1978.
    .. [3] R. J. G. B. Campello, D. Moulavi and J. Sander, "Density-based clustering based on hierarchical density
       estimates", PAKDD 2013.
    """
    z = _check_codes(z)
    check_seed(seed)
    if method not in CLUSTERINGS:
        raise ValueError(f"unknown clustering {method!r}; the known ones are {', '.join(CLUSTERINGS)}")
    if labels is not None:
        labels = _check_labels(labels, len(z))

    scores: dict[int, float] = {}
    if method == "hdbscan":
        if n_clusters is not None:
            raise ValueError(f"n_clusters is {n_clusters}; HDBSCAN finds the number itself. Leave it out.")
        _check_density(len(z), options)
        found = HDBSCAN(**({"copy": True} | options)).fit_predict(z)
    else:
        results = {}
        for number in _numbers_to_try(z, method, n_clusters, max_clusters):
            results[number], scores[number] = _partition(z, method, number, seed, options)
        known = [number for number, score in scores.items() if not np.isnan(score)]
        if n_clusters is None and not known:
            raise ValueError(
                f"no number of clusters from {min(scores)} to {max(scores)} has a silhouette: almost all codes fall "
                f"into one cluster, or each into its own. Look for codes far from all others, or give n_clusters."
            )
        best = max if method == "kmeans" else min
        found = results[best(known or scores, key=lambda number: scores[number])]
    kept = found >= 0
    return Clustering(
        found,
        method,
        len(np.unique(found[kept])),
        scores,
        _silhouette(z[kept], found[kept], seed),
        float(np.mean(~kept)),
        None if labels is None else float(adjusted_rand_score(labels, found)),
        None if labels is None else float(normalized_mutual_info_score(labels, found)),
    )


def _check_density(n: int, options: dict[str, Any]) -> None:
    """Raise if HDBSCAN looks for more codes in one place than there are."""
    size = options.get("min_cluster_size", 5)
    for name, fewest in (("min_cluster_size", size), ("min_samples", options.get("min_samples") or size)):
        if fewest > n:
            raise ValueError(f"HDBSCAN's {name} is {fewest} and there are {n} codes; give more codes, or a smaller one")


def _numbers_to_try(z: np.ndarray, method: str, n_clusters: int | None, max_clusters: int) -> Sequence[int]:
    different = len(np.unique(z, axis=0))
    if n_clusters is not None:
        if check_size(n_clusters, "n_clusters") > different:
            raise ValueError(f"n_clusters is {n_clusters} and there are {different} different codes; ask for fewer")
        return [n_clusters]
    fewest = 2 if method == "kmeans" else 1  # one cluster has no silhouette
    most = min(check_size(max_clusters, "max_clusters"), different, len(z) - 1)
    if most < fewest:
        raise ValueError(
            f"there is no number of clusters to choose: it is at least {fewest}, max_clusters is {max_clusters}, and "
            f"{different} of the {len(z)} codes are different"
        )
    return range(fewest, most + 1)


def _partition(z: np.ndarray, method: str, number: int, seed: int, options: dict[str, Any]) -> tuple[np.ndarray, float]:
    if method == "kmeans":
        found = KMeans(number, random_state=seed, **({"n_init": 5} | options)).fit_predict(z)
        return found, _silhouette(z, found, seed)
    mixture = GaussianMixture(number, random_state=seed, **options).fit(z)
    return mixture.predict(z), float(mixture.bic(z))


def _silhouette(z: np.ndarray, found: np.ndarray, seed: int) -> float:
    scored = _some(len(z), seed)
    z, found = z[scored], found[scored]
    if not 2 <= len(np.unique(found)) < len(z):
        return float("nan")
    return float(silhouette_score(z, found))


# --- neighbours and dimension ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The codes nearest to each query, nearest first.

    Attributes
    ----------
    indices : ndarray of int, shape (m, k)
        Rows of the codes that were searched.
    distances : ndarray of float, shape (m, k)
        Euclidean, ascending.
    """

    indices: np.ndarray
    distances: np.ndarray


def neighbours(z: np.ndarray, queries: np.ndarray, *, k: int = 10) -> Neighbours:
    """Return the `k` codes of `z` nearest to each query, nearest first.

    Parameters
    ----------
    z : ndarray, shape (n, units)
    queries : ndarray, shape (m, units)
        A query that is itself one of `z` is its own first neighbour, at distance 0.
    k : int
        At most n.

    Returns
    -------
    Neighbours

    Raises
    ------
    ValueError
        If `k` is larger than n, or `z` and `queries` are not finite codes of one length.
    """
    z, queries = _check_codes(z), _check_codes(queries, "queries")
    if queries.shape[1] != z.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} units and z has {z.shape[1]}; give codes of one encoder")
    if check_size(k, "k") > len(z):
        raise ValueError(f"k is {k} and there are {len(z)} codes; k must not be larger")
    indices = NearestNeighbors(n_neighbors=k).fit(z).kneighbors(queries, return_distance=False)
    # The search is fast and not exact: a code may lie 1e-7 from itself. So the distances are measured once more.
    distances = np.linalg.norm(z[indices] - queries[:, np.newaxis], axis=-1)
    order = np.argsort(distances, axis=1, kind="stable")
    return Neighbours(np.take_along_axis(indices, order, axis=1), np.take_along_axis(distances, order, axis=1))


def intrinsic_dimension(z: np.ndarray, *, k: int = 20) -> np.ndarray:
    r"""Return the dimension of the codes around each of them: how many units they would need, locally.

    With :math:`T_j` the distance to the j-th neighbour, the maximum-likelihood estimate is [1]_

    .. math:: d = \left( \frac{1}{k-1} \sum_{j=1}^{k-1} \ln \frac{T_k}{T_j} \right)^{-1}.

    To average over codes, average the inverses, ``1 / np.mean(1 / d)``: that is the maximum-likelihood estimate of one
    dimension for all, while the plain mean is too large [2]_.

    Parameters
    ----------
    z : ndarray, shape (n, units)
        All different.
    k : int
        From 2 to n - 1. Fewer neighbours look closer, and scatter more; the estimate assumes that the codes are equally
        dense as far as the k-th, so high dimensions, which need many codes, come out too small.

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    ValueError
        If codes occur twice (the logarithm of a zero distance), if the `k` nearest are all equally far (every dimension
        is too small for them), if `k` is out of range, or `z` is not finite codes.

    References
    ----------
    .. [1] E. Levina and P. J. Bickel, "Maximum likelihood estimation of intrinsic dimension", NeurIPS 2004.
    .. [2] D. J. C. MacKay and Z. Ghahramani, "Comments on 'Maximum likelihood estimation of intrinsic dimension' by
       E. Levina and P. Bickel", 2005.
    """
    z = _check_codes(z)
    if not 2 <= check_size(k, "k") < len(z):
        raise ValueError(f"k is {k} and there are {len(z)} codes; k must be from 2 to {len(z) - 1}")
    different = len(np.unique(z, axis=0))
    if different < len(z):
        raise ValueError(
            f"only {different} of the {len(z)} codes are different, and equal codes have no dimension around them. "
            f"Keep one of each: np.unique(z, axis=0)."
        )
    distances = neighbours(z, z, k=k + 1).distances[:, 1:]  # the first is the code itself
    inverse = np.mean(np.log(distances[:, -1:] / distances[:, :-1]), axis=1)
    lattice = int(np.sum(inverse < 1e-9))  # no more than the distances' own rounding
    if lattice:
        raise ValueError(
            f"of {lattice} codes the {k} nearest others are all equally far, as on a lattice or in one-hot codes, and "
            f"no dimension fits that. Give a larger k, or codes that vary."
        )
    return 1 / inverse


# --- two codes of the same samples -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far two codes of the same samples say the same.

    None of the three changes when a code is moved, turned, mirrored or scaled as a whole, or its units put in another
    order: two trainings are free to differ in all that. They do change when single units are scaled.

    Attributes
    ----------
    cka : float
        Linear centred kernel alignment [1]_, in [0, 1]: 1 if one code is the other, turned and scaled. The directions
        of largest variance decide.
    procrustes : float
        In [0, 1]: the share of one code's variance that is left over after the other has been turned and scaled to fit
        it best [2]_, 0 if nothing is. As in ``scipy.spatial.procrustes``, for codes of any two lengths.
    neighbour_overlap : float
        Share of a sample's `k` nearest others in one code that are among its `k` nearest in the other, on average.
    chance_overlap : float
        The same for codes that have nothing in common: k / (n - 1).
    k : int

    References
    ----------
    .. [1] S. Kornblith, M. Norouzi, H. Lee and G. Hinton, "Similarity of neural network representations revisited",
       ICML 2019, arXiv:1905.00414.
    .. [2] J. C. Gower, "Generalized Procrustes analysis", Psychometrika 40, 1975.
    """

    cka: float
    procrustes: float
    neighbour_overlap: float
    chance_overlap: float
    k: int


def agreement(a: np.ndarray, b: np.ndarray, *, k: int = 10) -> Agreement:
    r"""Compare two codes of the same samples, such as those of two trainings (chapter 12).

    With both codes centred and scaled to a sum of squares of 1, and :math:`s_i` the singular values of
    :math:`A^T B`,

    .. math:: \mathrm{CKA} = \frac{\sum_i s_i^2}{\|A^T A\|_F \|B^T B\|_F}, \qquad
              \mathrm{Procrustes} = 1 - \Big(\sum_i s_i\Big)^2.

    Parameters
    ----------
    a, b : ndarray, shape (n, units) and (n, other units)
        Row i of both is the code of one sample, best a held-out one. A unit that never changes adds nothing.
    k : int
        Neighbours, fewer than half of the samples.

    Returns
    -------
    Agreement

    Raises
    ------
    ValueError
        If the codes are not as many, not finite, or no more than both have units together, since few points can be
        turned onto each other whatever they are; if all codes of one are equal; or if `k` is too large.
    """
    a, b = _check_codes(a, "a"), _check_codes(b, "b")
    n, units = len(a), a.shape[1] + b.shape[1]
    if len(b) != n:
        raise ValueError(f"a has {n} codes and b has {len(b)}; row i of both must be the code of the same sample")
    if n <= units:
        raise ValueError(f"there are {n} samples for {units} units; give more samples than both codes have units")
    if 2 * check_size(k, "k") >= n:
        raise ValueError(f"k is {k} and there are {n} codes; k neighbours must be fewer than half of the codes")
    for name, z in (("a", a), ("b", b)):
        if (z == z[0]).all():
            raise ValueError(f"all {n} codes in {name} are equal; there is nothing to compare. Has the code collapsed?")
    shared = [len(np.intersect1d(*both)) for both in zip(_others(a, k), _others(b, k), strict=True)]
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    s = np.linalg.svd(a.T @ b, compute_uv=False)
    cka = np.sum(s**2) / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    return Agreement(float(cka), float(max(1 - s.sum() ** 2, 0)), float(np.mean(shared) / k), k / (n - 1), k)


# --- walks through the code ------------------------------------------------------------------------------------------


def traverse(autoencoder: Any, z: np.ndarray, unit: int, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Decode codes with one unit set to each of `values` and the others left as they are.

    Parameters
    ----------
    autoencoder : Autoencoder or callable
        Whatever has ``decode(z)``; or a decoder itself, a Keras model or a function of codes. It runs as outside
        training, and is called once. Of a conditional one, choose the class: ``conditional.for_class(3)``.
    z : ndarray, shape (n, units)
    unit : int
        From 0 to ``units - 1``.
    values : sequence of float
        For instance ``np.quantile(codes[:, unit], [0.05, 0.5, 0.95])``: outside what a unit takes on data, the decoder
        was never trained. Nor has that of a k-sparse autoencoder seen a unit raised beside k others.

    Returns
    -------
    ndarray, shape (n, len(values), ...)

    Raises
    ------
    ValueError
        If there is no such unit; if a value or code is not finite, or what is decoded is not; if the decoder does not
        take codes of this length, does not return one sample for each, or needs a class.
    """
    z = _check_codes(z).astype("float32")
    units = z.shape[1]
    if isinstance(unit, bool) or not isinstance(unit, int | np.integer) or not 0 <= unit < units:
        raise ValueError(f"unit is {unit!r}; the codes have units 0 to {units - 1}")
    values = np.asarray(values, dtype="float32")
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"values must be a sequence of finite numbers, at least one; got {values!r}")
    codes = np.repeat(z[:, np.newaxis], len(values), axis=1)  # (n, values, units)
    codes[:, :, unit] = values
    return _decode(autoencoder, codes)


def interpolate(autoencoder: Any, a: np.ndarray, b: np.ndarray, kind: str = "linear", *, steps: int = 10) -> np.ndarray:
    r"""Decode the way from each code of `a` to that of `b` in the same row, both included.

    The linear way is :math:`(1-t) a + t b`. The spherical way [1]_ turns from one direction to the other,
    :math:`(\sin((1-t)\omega) a + \sin(t\omega) b) / \sin \omega` with :math:`\omega` the angle between them. Between
    codes of equal length it keeps that length, while the straight line passes nearer to 0, where data may be rare.

    Parameters
    ----------
    autoencoder : Autoencoder or callable
        As in `traverse`. It is called once.
    a, b : ndarray, shape (n, units)
    kind : str
        ``"linear"`` or ``"spherical"``.
    steps : int
        How many codes on the way, at least 2.

    Returns
    -------
    ndarray, shape (n, steps, ...)

    Raises
    ------
    ValueError
        If `kind` is unknown, `steps` is less than 2, or the codes differ in shape or are not finite; on the spherical
        way also if a code is 0, which has no direction, or if two are opposite, so that no way round is the shorter;
        and as in `traverse`.

    References
    ----------
    .. [1] T. White, "Sampling generative networks", arXiv:1609.04468.
    """
    if np.shape(a) != np.shape(b) or np.ndim(a) == 1:
        raise ValueError(
            f"a has shape {np.shape(a)} and b has shape {np.shape(b)}; give codes (n, units) to both, a single one as "
            f"a[np.newaxis]"
        )
    if kind not in INTERPOLATIONS:
        raise ValueError(f"unknown interpolation {kind!r}; the known ones are {', '.join(INTERPOLATIONS)}")
    if check_size(steps, "steps") < 2:
        raise ValueError(f"steps is {steps}; there are at least 2, the two codes themselves")
    start, end = _check_codes(a, "a")[:, np.newaxis], _check_codes(b, "b")[:, np.newaxis]
    t = np.linspace(0, 1, steps)[:, np.newaxis]  # beside codes of shape (n, 1, units)
    if kind == "linear":
        codes = (1 - t) * start + t * end
    else:
        omega = _angle(start, end)
        # sin(t omega) / sin(omega) is t sinc(t omega) / sinc(omega), which knows the answer at omega = 0 too.
        left, right = ((s * np.sinc(s * omega / np.pi) / np.sinc(omega / np.pi)) for s in (1 - t, t))
        codes = left * start + right * end
    return _decode(autoencoder, codes.astype("float32"))


def _angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the angles between vectors, exact for small and large ones too: shape (n, 1, 1)."""
    lengths = [np.linalg.norm(code, axis=-1, keepdims=True) for code in (a, b)]
    if min(length.min() for length in lengths) == 0:
        raise ValueError("a code is 0 and has no direction; the spherical way needs one. Use kind='linear'.")
    a, b = a / lengths[0], b / lengths[1]
    omega = 2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))[..., np.newaxis]
    if (np.pi - omega).min() < 1e-6:
        raise ValueError("two codes are opposite, so every way round is as short; use kind='linear', or go by a third")
    return omega


def _decode(autoencoder: Any, codes: np.ndarray) -> np.ndarray:
    """Decode codes of shape (n, m, units) in one call: shape (n, m, ...)."""
    if hasattr(autoencoder, "for_class"):
        raise ValueError(
            "a conditional autoencoder decodes a code together with a class; choose it by cvae.for_class(label), an "
            "autoencoder of that class alone, and give that"
        )
    decoder = getattr(autoencoder, "decode", autoencoder)
    if not callable(decoder):
        raise ValueError(
            f"{autoencoder!r} cannot decode; give an autoencoder, or a decoder that can be called with codes"
        )
    n, m, units = codes.shape
    flat = check_samples(codes.reshape(n * m, units), sample_shape(decoder), "z")
    answer = inference(decoder)(flat)
    if isinstance(answer, dict | list | tuple):
        raise ValueError(
            f"{name_of(autoencoder)} returns a {type(answer).__name__} of {len(answer)} outputs, and a decoder one; "
            f"give the part that decodes, such as the generator of a generative adversarial network"
        )
    decoded = np.asarray(answer)
    if decoded.shape[:1] != (n * m,):
        raise ValueError(
            f"{name_of(autoencoder)} returns shape {decoded.shape} for {n * m} codes; it must return one sample for "
            f"each"
        )
    return check_finite(decoded, name_of(autoencoder)).reshape(n, m, *decoded.shape[1:])


# --- what is shared --------------------------------------------------------------------------------------------------


def _check_codes(z: Any, name: str = "z") -> np.ndarray:
    return check_table(z, name, "codes (n, units)")


def _check_labels(labels: Any, n: int) -> np.ndarray:
    """Return labels of any kind as whole numbers."""
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"labels have shape {labels.shape} and there are {n} codes; give one label for each")
    return np.unique(labels, return_inverse=True)[1]


def _some(n: int, seed: int) -> np.ndarray | slice:
    """Return at most `SCORED_POINTS` of n rows."""
    return slice(None) if n <= SCORED_POINTS else np.random.default_rng(seed).choice(n, SCORED_POINTS, replace=False)
