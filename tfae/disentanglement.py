"""Codes against the known factors: which unit carries which factor, and is it alone (chapter 06)?

Codes `z` are ``(n, units)`` and factors ``(n, n_factors)``, both of the same held-out samples. A factor is *discrete*
if its values are whole numbers, at most 20 different ones, and continuous otherwise; ``discrete=`` says it for each
factor where that guess is wrong. All scores are 1 at best. Look at the score of shuffled codes beside each: it is near
0 for all but the modularity.

No score looks at the scale of a unit or a factor: a unit that hardly moves counts as much as any, if it moves with a
factor. A unit that does not move at all carries nothing.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.stats
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import balanced_accuracy_score, mutual_info_score, r2_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from tfae.checks import check_seed, check_size, check_table

MOST_DISCRETE_VALUES = 20  # of a factor that is taken as discrete
FEWEST_OF_A_VALUE = 5  # samples of each value of a discrete factor: some to learn from, some to score on
FEWEST_IN_A_BIN = 10  # samples of each bin, on average


@dataclass(frozen=True, eq=False)
class Score:
    """A score, and what it is the mean of.

    Attributes
    ----------
    value : float
    parts : ndarray
        One for each factor; for the modularity, one for each unit.
    """

    value: float
    parts: np.ndarray


# --- by mutual information -------------------------------------------------------------------------------------------


def mutual_information(
    z: np.ndarray, factors: np.ndarray, *, discrete: Sequence[bool] | None = None, bins: int = 20
) -> np.ndarray:
    """Return the mutual information between each unit and each factor, in nats.

    It is counted in bins of equally many samples, so it depends on the order of a unit's values alone. What has few
    different values is not binned: a discrete factor, and any unit or factor with at most `bins` of them.

    Parameters
    ----------
    z : ndarray, shape (n, units)
    factors : ndarray, shape (n, n_factors)
    discrete : sequence of bool, optional
        One for each factor.
    bins : int
        At least 2. With a bins and b values, chance alone gives about (a - 1)(b - 1) / 2n nats.

    Returns
    -------
    ndarray, shape (units, n_factors)

    Raises
    ------
    ValueError
        If codes and factors are not as many, hold NaN, or are too few for the bins (10 samples each); if a factor is
        constant, or a value of a discrete factor occurs less than 5 times.
    """
    z, factors, discrete = _check(z, factors, discrete)
    return _information(*_binned(z, factors, discrete, bins))


def mig(z: np.ndarray, factors: np.ndarray, *, discrete: Sequence[bool] | None = None, bins: int = 20) -> Score:
    """Return the mutual information gap: is each factor carried by one unit, and by no second [1]_?

    For each factor, the information of the best unit less that of the second best, divided by the factor's entropy. A
    single unit has no second, which counts as one that carries nothing. What a second unit says by chance is taken off:
    with 20 bins, perfect codes of continuous factors reach about 0.97 with 2,000 samples, and 1 as these grow.

    Parameters
    ----------
    z, factors, discrete, bins
        As in `mutual_information`.

    Returns
    -------
    Score
        In [0, 1], the mean over the factors.

    Raises
    ------
    ValueError
        As in `mutual_information`.

    References
    ----------
    .. [1] R. T. Q. Chen, X. Li, R. Grosse and D. Duvenaud, "Isolating sources of disentanglement in variational
       autoencoders", arXiv:1802.04942.
    """
    z, factors, discrete = _check(z, factors, discrete)
    units, values = _binned(z, factors, discrete, bins)
    entropies = np.array([mutual_info_score(value, value) for value in values])
    return _mean(_gap(_information(units, values)) / entropies)


def modularity(z: np.ndarray, factors: np.ndarray, *, discrete: Sequence[bool] | None = None, bins: int = 20) -> Score:
    r"""Return the modularity: does each unit carry one factor, and no other [1]_?

    With :math:`I_{ij}` the information of unit i about factor j and :math:`m_i` its largest, a unit scores
    :math:`1 - \sum_j I_{ij}^2 / (m_i^2 (K - 1))`, the sum going over the K - 1 other factors. Several units may carry
    one factor. A unit is compared with itself alone, so noise is far from 0: by chance it says more of one factor than
    of another. Units that carry exactly nothing have no score (NaN) and no part in the mean; if all do, the score is 0.

    Parameters
    ----------
    z, factors, discrete, bins
        As in `mutual_information`; at least two factors.

    Returns
    -------
    Score
        In [0, 1], the mean over the units that carry something.

    Raises
    ------
    ValueError
        If there is one factor only, and as in `mutual_information`.

    References
    ----------
    .. [1] K. Ridgeway and M. C. Mozer, "Learning deep disentangled embeddings with the F-statistic loss",
       arXiv:1802.05312.
    """
    z, factors, discrete = _check(z, factors, discrete)
    _check_several(factors.shape[1], "factors", "modularity")
    squares = _information(*_binned(z, factors, discrete, bins)) ** 2
    largest = squares.max(axis=1)
    parts = np.full(len(squares), np.nan)
    live = largest > 0
    others = squares.sum(axis=1)[live] - largest[live]
    parts[live] = 1 - others / (largest[live] * (factors.shape[1] - 1))
    return Score(float(parts[live].mean()) if live.any() else 0.0, parts)


# --- by prediction ---------------------------------------------------------------------------------------------------


def sap(z: np.ndarray, factors: np.ndarray, *, discrete: Sequence[bool] | None = None, seed: int = 0) -> Score:
    """Return the separated attribute predictability: does one unit predict a factor far better than any other [1]_?

    Each unit alone predicts each factor: a continuous one by linear regression, scored by R²; a discrete one by
    thresholds, one fewer than it has values, scored by the balanced accuracy, rescaled so that a guess has 0. A
    factor's part is the best unit's score less the second best's. All are scored on a third of the samples, held out,
    and a score below 0 counts as 0. A single unit has no second, which counts as 0.

    Parameters
    ----------
    z, factors, discrete
        As in `mutual_information`.
    seed : int
        Fixes which samples are held out.

    Returns
    -------
    Score
        In [0, 1], the mean over the factors.

    Raises
    ------
    ValueError
        If codes and factors are not as many, hold NaN or are fewer than 15; if a factor is constant, or a value of a
        discrete factor occurs less than 5 times.

    References
    ----------
    .. [1] A. Kumar, P. Sattigeri and A. Balakrishnan, "Variational inference of disentangled latent concepts from
       unlabeled observations", arXiv:1711.00848.
    """
    z, factors, discrete = _check(z, factors, discrete)
    ordered = _normal_scores(z)
    scores = np.zeros((z.shape[1], factors.shape[1]))
    for j, (v, train, test) in enumerate(_splits(factors, discrete, seed)):
        for i in range(z.shape[1]):
            model, unit = (_thresholds(v), ordered[:, [i]]) if discrete[j] else (LinearRegression(), z[:, [i]])
            predicted = model.fit(unit[train], v[train]).predict(unit[test])
            scores[i, j] = max(0.0, _skill(v[test], predicted, discrete[j]))
    return _mean(_gap(scores))


def explicitness(z: np.ndarray, factors: np.ndarray, *, discrete: Sequence[bool] | None = None, seed: int = 0) -> Score:
    """Return the explicitness: can the factors be read off the whole code by a linear model [1]_?

    A discrete factor is read by logistic regression: the area under the ROC curve of each value against all others, on
    a third of the samples, held out, averaged over the values and rescaled so that 0.5 becomes 0. A continuous one is
    read by linear regression: R² on the samples held out. Noise scatters around 0, below it too.

    Parameters
    ----------
    z, factors, discrete, seed
        As in `sap`.

    Returns
    -------
    Score
        At most 1, the mean over the factors.

    Raises
    ------
    ValueError
        As in `sap`.

    References
    ----------
    .. [1] K. Ridgeway and M. C. Mozer, "Learning deep disentangled embeddings with the F-statistic loss",
       arXiv:1802.05312.
    """
    z, factors, discrete = _check(z, factors, discrete)
    parts = []
    for j, (v, train, test) in enumerate(_splits(factors, discrete, seed)):
        linear = LogisticRegression(max_iter=1000) if discrete[j] else LinearRegression()
        model = make_pipeline(StandardScaler(), linear).fit(z[train], v[train])
        if discrete[j]:
            probabilities = zip(model.classes_, model.predict_proba(z[test]).T, strict=True)
            parts.append(2 * np.mean([roc_auc_score(v[test] == value, p) for value, p in probabilities]) - 1)
        else:
            parts.append(r2_score(v[test], model.predict(z[test])))
    return _mean(np.array(parts))


@dataclass(frozen=True, eq=False)
class DCI:
    """Disentanglement, completeness and informativeness.

    Attributes
    ----------
    disentanglement : float
        In [0, 1]: 1 if each unit serves one factor.
    completeness : float
        In [0, 1]: 1 if each factor is served by one unit.
    informativeness : float
        At most 1: how well the factors are predicted from the whole code, the mean of `informativeness_parts`.
    informativeness_parts : ndarray, shape (n_factors,)
    importance : ndarray, shape (units, n_factors)
        How much each unit serves each factor. A column sums to 1, even where the factor is hardly predicted: read it
        beside the informativeness. It sums to 0 where no unit moves, so that no forest can use one.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    informativeness_parts: np.ndarray = field(repr=False)
    importance: np.ndarray = field(repr=False)


def dci(z: np.ndarray, factors: np.ndarray, *, discrete: Sequence[bool] | None = None, seed: int = 0) -> DCI:
    """Predict each factor from all units, and see which of them are used [1]_.

    The predictors are random forests, and a unit's importance is its share of the impurity that they remove. The
    informativeness is R², for a discrete factor the balanced accuracy, rescaled so that a guess has 0; both on a third
    of the samples, held out. Noise scatters around 0, below it too.

    Parameters
    ----------
    z, factors, discrete
        As in `mutual_information`; at least two units and two factors.
    seed : int
        Fixes which samples are held out, and the forests.

    Returns
    -------
    DCI

    Raises
    ------
    ValueError
        If there is one unit or one factor only, where there is nothing to tell apart; and as in `sap`.

    References
    ----------
    .. [1] C. Eastwood and C. K. I. Williams, "A framework for the quantitative evaluation of disentangled
       representations", ICLR 2018.
    """
    z, factors, discrete = _check(z, factors, discrete)
    _check_several(z.shape[1], "units", "completeness")
    _check_several(factors.shape[1], "factors", "disentanglement")
    ordered = _normal_scores(z)
    columns, informativeness = [], []
    for j, (v, train, test) in enumerate(_splits(factors, discrete, seed)):
        # Every split looks at all units: one that serves nothing must get nothing.
        options = {"n_estimators": 30, "min_samples_leaf": 5, "max_features": None, "random_state": seed}
        forest = (
            RandomForestClassifier(class_weight="balanced", **options)
            if discrete[j]
            else RandomForestRegressor(**options)
        )
        forest.fit(ordered[train], v[train])
        columns.append(forest.feature_importances_)
        informativeness.append(_skill(v[test], forest.predict(ordered[test]), discrete[j]))
    importance, parts = np.stack(columns, axis=1), np.array(informativeness)
    scores = dci_scores(importance)
    return DCI(scores.disentanglement, scores.completeness, float(parts.mean()), parts, importance)


@dataclass(frozen=True, eq=False)
class DCIScores:
    """The disentanglement and completeness of a matrix of importances, as in `DCI`."""

    disentanglement: float
    completeness: float


def dci_scores(importance: np.ndarray) -> DCIScores:
    """Return the disentanglement and completeness of a matrix of importances.

    A unit is disentangled by 1 - H, with H the entropy of its row, normalised to sum to 1, and divided by the logarithm
    of the number of factors. The disentanglement is the mean over the units, each weighted by the sum of its row. The
    completeness is the same of the transposed matrix. A matrix of zeros has 0 of both.

    Parameters
    ----------
    importance : ndarray, shape (units, n_factors)
        At least 0, from any predictor; at least two units and two factors.

    Returns
    -------
    DCIScores

    Raises
    ------
    ValueError
        If an importance is negative or not finite, or there is one unit or one factor only.
    """
    importance = check_table(importance, "importance", "(units, n_factors)")
    _check_several(importance.shape[0], "units", "completeness")
    _check_several(importance.shape[1], "factors", "disentanglement")
    if importance.min() < 0:
        raise ValueError(f"an importance is {importance.min():g}; importances are at least 0, such as absolute weights")
    return DCIScores(_concentration(importance), _concentration(importance.T))


# --- what they share -------------------------------------------------------------------------------------------------


def _mean(parts: np.ndarray) -> Score:
    return Score(float(parts.mean()), parts)


def _gap(scores: np.ndarray) -> np.ndarray:
    """Return the best less the second best of each column; of a single row, itself."""
    ordered = np.sort(np.vstack([scores, np.zeros(scores.shape[1])]), axis=0)
    return ordered[-1] - ordered[-2]


def _concentration(rows: np.ndarray) -> float:
    """Return the mean of 1 - entropy over the rows, weighted by their sums."""
    used = rows[rows.sum(axis=1) > 0]
    if len(used) == 0:
        return 0.0
    entropies = scipy.stats.entropy(used, axis=1) / math.log(used.shape[1])
    return float(np.average(1 - entropies, weights=used.sum(axis=1)))


def _information(units: list[np.ndarray], values: list[np.ndarray]) -> np.ndarray:
    return np.array([[mutual_info_score(value, unit) for value in values] for unit in units])


def _binned(
    z: np.ndarray, factors: np.ndarray, discrete: Sequence[bool], bins: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return each unit and each factor as whole numbers that can be counted."""
    if check_size(bins, "bins") < 2:
        raise ValueError("bins is 1; one bin says nothing, give at least 2")
    units = [_bin(unit, bins) for unit in z.T]
    values = [v if is_discrete else _bin(v, bins) for v, is_discrete in zip(factors.T, discrete, strict=True)]
    return units, values


def _bin(x: np.ndarray, bins: int) -> np.ndarray:
    """Put `x` into bins of equally many samples, equal values into one; few different values are their own bins."""
    _, numbers = np.unique(x, return_inverse=True)
    if numbers.max() < bins:
        return numbers
    if len(x) < FEWEST_IN_A_BIN * bins:
        raise ValueError(
            f"there are {len(x)} samples for {bins} bins, and mutual information counts chance as information where "
            f"bins hold few. Give at least {FEWEST_IN_A_BIN * bins} samples, or fewer bins."
        )
    return ((scipy.stats.rankdata(x) - 0.5) * bins // len(x)).astype(int)


def _normal_scores(z: np.ndarray) -> np.ndarray:
    """Return each unit as a normal variable in the same order: a tree sees no more, and in float32 none is lost."""
    return scipy.stats.norm.ppf(scipy.stats.rankdata(z, axis=0) / (len(z) + 1))


def _splits(
    factors: np.ndarray, discrete: Sequence[bool], seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield, for each factor, its values, the samples to learn from and those held out."""
    check_seed(seed)
    n = len(factors)
    if n < 3 * FEWEST_OF_A_VALUE:
        raise ValueError(f"there are {n} samples; give at least {3 * FEWEST_OF_A_VALUE}, a third is held out")
    for v, is_discrete in zip(factors.T, discrete, strict=True):
        kept = v if is_discrete else None
        train, test = train_test_split(np.arange(n), test_size=1 / 3, stratify=kept, random_state=seed)
        yield v, train, test


def _thresholds(v: np.ndarray) -> DecisionTreeClassifier:
    """Return the classifier of one unit that cuts it into as many pieces as `v` has values."""
    return DecisionTreeClassifier(max_leaf_nodes=len(np.unique(v)), class_weight="balanced", random_state=0)


def _skill(v: np.ndarray, predicted: np.ndarray, is_discrete: bool) -> float:
    """Return how much better than a guess: 1 is perfect, 0 the mean or a class at random."""
    if is_discrete:
        return float(balanced_accuracy_score(v, predicted, adjusted=True))
    return float(r2_score(v, predicted))


def _check(z: Any, factors: Any, discrete: Sequence[bool] | None) -> tuple[np.ndarray, np.ndarray, Sequence[bool]]:
    """Return checked codes, checked factors, and which factors are discrete.

    The values of a discrete factor become class numbers; a continuous one is moved and scaled to [0, 1], since trees
    and their variances do not see small numbers.
    """
    z, factors = check_table(z, "z", "(n, units)"), check_table(factors, "factors", "(n, n_factors)")
    if len(z) != len(factors):
        raise ValueError(f"z has {len(z)} rows and factors {len(factors)}; give the same samples to both")
    counts = [np.unique(v, return_counts=True)[1] for v in factors.T]
    for j, count in enumerate(counts):
        if len(count) == 1:
            raise ValueError(f"factor {j} is constant, so no code can tell its values apart; leave it out")
    if discrete is None:
        whole = (factors == np.round(factors)).all(axis=0)
        discrete = [bool(w) and len(count) <= MOST_DISCRETE_VALUES for w, count in zip(whole, counts, strict=True)]
    elif len(discrete) != len(counts):
        raise ValueError(f"discrete has {len(discrete)} values and there are {len(counts)} factors; give one for each")
    for j, count in enumerate(counts):
        if discrete[j]:
            if count.min() < FEWEST_OF_A_VALUE:
                raise ValueError(
                    f"factor {j} is discrete, and one of its {len(count)} values occurs {count.min()} times; give at "
                    f"least {FEWEST_OF_A_VALUE} samples of each, or say discrete=[...] if it is continuous"
                )
            factors[:, j] = np.unique(factors[:, j], return_inverse=True)[1]
        else:
            factors[:, j] = (factors[:, j] - factors[:, j].min()) / np.ptp(factors[:, j])
    return z, factors, discrete


def _check_several(number: int, what: str, score: str) -> None:
    if number < 2:
        raise ValueError(f"there is one of the {what}; {score} tells several apart, give at least 2")
