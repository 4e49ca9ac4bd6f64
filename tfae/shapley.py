"""Shapley values: the share of each feature, or segment of features, in one prediction (chapter 09).

The features are players. A coalition keeps its features as they are in the sample and takes all others from a
background sample; its value is the mean prediction over the background. A player's Shapley value is what it adds to a
coalition, averaged over all orders in which the players can join [1]_.

>>> explanation = kernel(lambda x: model(x)[:, 3], x_test[:4], background, segments=segments)  # doctest: +SKIP
>>> explanation.values, explanation.standard_error  # doctest: +SKIP

References
----------
.. [1] L. S. Shapley, "A value for n-person games", Contributions to the Theory of Games II, 1953.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations, islice
from typing import Any

import numpy as np
from scipy.special import beta

from tfae.checks import check_samples, check_seed, check_segments, check_size
from tfae.inference import in_batches, inference, numbers

MAX_PLAYERS = 16  # 65,536 coalitions
PAIRS_PER_PLAYER = 3  # fewer would leave some values resting on a single pair, and their errors unknown


@dataclass(frozen=True, eq=False)
class ShapleyValues:
    """Shapley values of a few samples.

    Attributes
    ----------
    values : ndarray, of the shape of the samples, or with segments ``(n, segments)``
        In units of the prediction. With segments, ``values[:, segments]`` has the shape of the samples again.
    standard_error : ndarray, of the shape of `values`
        How much sampling coalitions moves each value, as one standard deviation. 0 where nothing was sampled. The
        background is taken as given: another one asks another question.
    base_value : float
        Mean prediction over the background.
    predictions : ndarray, shape (n,)
    efficiency_gap : ndarray, shape (n,)
        `base_value` plus the sum of the values, minus the prediction: 0 up to rounding.
    """

    values: np.ndarray
    standard_error: np.ndarray = field(repr=False)
    base_value: float
    predictions: np.ndarray

    @property
    def efficiency_gap(self) -> np.ndarray:
        return self.base_value + self.values.reshape(len(self.values), -1).sum(axis=1) - self.predictions


def exact(predict: Callable, x: Any, background: Any, *, segments: Any = None, batch_size: int = 1024) -> ShapleyValues:
    """Return Shapley values from the values of all coalitions.

    Parameters
    ----------
    predict : callable
        Maps an array ``(n, *sample)`` to one number for each sample: a Keras model with one output, a target of
        `tfae.targets`, or a function such as ``lambda x: model(x)[:, 3]``. A model that is given itself runs
        as outside training.
    x : array, shape (n, *sample)
        The samples to explain.
    background : array, shape (m, *sample)
        Where absent features come from: some typical samples, or one, such as an empty image.
    segments : array of int, of the shape of a sample, optional
        The segment of each feature, numbered from 0; a segment is one player. Without it each feature is. The columns
        of a one-hot category are one segment: apart, they would show the model rows of several categories or none.
    batch_size : int
        Samples given to `predict` at once.

    Returns
    -------
    ShapleyValues

    Raises
    ------
    ValueError
        If more than 16 players of a sample differ from the background; if `background` is empty or of another shape
        than the samples; if `predict` returns something else than one finite number for each sample.

    Notes
    -----
    A player that equals the background in all its features changes no prediction. Its value is 0 without asking.
    """

    def check(sample: int, players: int) -> None:
        if players > MAX_PLAYERS:
            raise ValueError(
                f"{players} players of sample {sample} differ from the background, which makes 2**{players} "
                f"coalitions; exact takes at most {MAX_PLAYERS} players. Join features into segments, or use "
                f"shapley.kernel."
            )

    def solve(value: Callable, total: float, players: int) -> tuple[np.ndarray, np.ndarray]:
        masks = (np.arange(2**players)[:, np.newaxis] >> np.arange(players)) % 2 == 1  # (coalitions, players)
        size = masks.sum(axis=1, keepdims=True)
        # A coalition of size s without player j is met by j in s! (players - s - 1)! / players! of all orders.
        share = np.where(masks, beta(size, players - size + 1), -beta(size + 1, players - size))
        return value(masks) @ share, np.zeros(players)

    return _explain(predict, x, background, segments, batch_size, solve, check)


def kernel(
    predict: Callable,
    x: Any,
    background: Any,
    *,
    n_samples: int = 2000,
    segments: Any = None,
    seed: int = 0,
    batch_size: int = 1024,
) -> ShapleyValues:
    r"""Return Shapley values estimated from some coalitions, by a weighted linear regression [2]_.

    Shapley values are the linear model :math:`v(\emptyset) + \sum_{j \in S} \phi_j` that fits the value v(S) of all
    coalitions best, where a coalition of s of the k players has weight :math:`1 / (\binom{k}{s} s (k - s))` and the
    values must sum to :math:`v(\text{all}) - v(\emptyset)`. Three choices make few coalitions go far:

    - Each coalition comes with its complement [3]_. Only half the difference of the two values depends on
      :math:`\phi`, and all interactions of two players cancel in it: for games of pairs the estimate is exact.
    - Coalitions of each size are equally many, as their leverage in the regression asks [4]_, and no coalition comes
      twice. Sizes that have fewer coalitions than that, the smallest and the largest, are enumerated.
    - The sum is fixed before the regression, which then moves the values only in directions that keep it.

    The standard errors are a jackknife's: they sum how far the values move when each pair in turn is left out, less
    the share of the pairs of its size that was asked. With 3 pairs for each player, the least, they are up to a quarter
    too large, with 10 right within 6 %; two of them to each side hold 91 % (6 players) to 98 % (49) of the true values.

    Parameters
    ----------
    predict, x, background, segments
        As in `exact`.
    n_samples : int
        Coalitions for each sample, at most; each asks `predict` about as many inputs as the background has samples.
        Where it reaches the number of all coalitions, the values are exact; else 6 for each player and 2 are the least
        from which the errors can be told.
    seed : int
        Of the choice of coalitions, the same for each sample.
    batch_size : int

    Returns
    -------
    ShapleyValues

    Raises
    ------
    ValueError
        If `n_samples` is less than 6 for each player plus 2, and less than all coalitions; else as in `exact`, without
        its limit.

    References
    ----------
    .. [2] S. M. Lundberg and S.-I. Lee, "A unified approach to interpreting model predictions", arXiv:1705.07874.
    .. [3] I. Covert and S.-I. Lee, "Improving KernelSHAP: practical Shapley value estimation via linear regression",
       arXiv:2012.01536.
    .. [4] C. Musco and R. T. Witter, "Provably accurate Shapley value estimation via leverage score sampling",
       arXiv:2410.01917.
    """
    check_size(n_samples, "n_samples")
    check_seed(seed)

    def check(sample: int, players: int) -> None:
        least = min(2**players, 2 * PAIRS_PER_PLAYER * players + 2)
        if n_samples < least:
            raise ValueError(
                f"n_samples is {n_samples} and {players} players of sample {sample} differ from the background; give "
                f"at least {least} (some thousands are usual), or join features into segments"
            )

    def solve(value: Callable, total: float, players: int) -> tuple[np.ndarray, np.ndarray]:
        if players == 1:
            return np.array([total]), np.zeros(1)
        masks, weights, unseen = _pairs(players, n_samples, np.random.default_rng(seed))
        half = (value(masks) - value(~masks)) / 2
        z = masks - 0.5
        centred = z - z.mean(axis=1, keepdims=True)  # orthogonal to (1, ..., 1): the sum of the values stays
        rest = half - z.sum(axis=1) * total / players
        weighted = weights[:, np.newaxis] * centred
        inverse = np.linalg.pinv(weighted.T @ centred, rcond=1e-10, hermitian=True)
        step = inverse @ (weighted.T @ rest)
        # What a pair moves by being there: its residual, were it not fitted itself, times its pull. What was enumerated
        # has no chance in it, and its residual says nothing.
        pull = weighted @ inverse
        leverage = np.where(unseen > 0, (pull * centred).sum(axis=1), 0)
        moves = pull * ((rest - centred @ step) / (1 - leverage))[:, np.newaxis]
        return total / players + step, np.sqrt(unseen @ moves**2)

    return _explain(predict, x, background, segments, batch_size, solve, check)


def _explain(
    predict: Callable,
    x: Any,
    background: Any,
    segments: Any,
    batch_size: int,
    solve: Callable,
    check: Callable,
) -> ShapleyValues:
    """Set up the game of each sample, `check` that its players are not too many, and `solve` it."""
    background = check_samples(background, None, "background")
    x = check_samples(x, background.shape[1:])
    dtype = np.result_type(x, background, "float32")
    x, background = x.astype(dtype), background.astype(dtype)
    shape = x.shape[1:]
    player_of = np.arange(math.prod(shape)).reshape(shape) if segments is None else check_segments(segments, shape)
    n_players = int(player_of.max()) + 1
    differs = [np.bincount(player_of.ravel(), (sample != background).any(axis=0).ravel()) > 0 for sample in x]
    for i, playing in enumerate(differs):
        check(i, int(playing.sum()))

    predict = inference(predict)

    def ask(inputs: np.ndarray) -> np.ndarray:
        return numbers(predict, inputs, batch_size, "predict").astype(float)

    predictions, base_value = ask(x), float(ask(background).mean())
    values, errors = np.zeros((2, len(x), n_players))
    for i, playing in enumerate(differs):
        if not playing.any():
            continue

        def blended(masks: np.ndarray, sample: np.ndarray = x[i], playing: np.ndarray = playing) -> np.ndarray:
            kept = np.zeros((len(masks), n_players), bool)
            kept[:, playing] = masks
            inputs = np.where(kept[:, player_of][:, np.newaxis], sample, background)  # (coalitions, m, *sample)
            return ask(inputs.reshape(-1, *shape)).reshape(len(masks), -1).mean(axis=1)

        def value(masks: np.ndarray, blended: Callable = blended) -> np.ndarray:
            return in_batches(blended, masks, max(1, batch_size // len(background)))

        values[i, playing], errors[i, playing] = solve(value, predictions[i] - base_value, int(playing.sum()))
    out = x.shape if segments is None else (len(x), n_players)
    return ShapleyValues(values.reshape(out), errors.reshape(out), base_value, predictions)


def _pairs(players: int, n_samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose coalitions, one of each pair with its complement.

    Returns
    -------
    masks : ndarray of bool, shape (pairs, players)
    weights : ndarray, shape (pairs,)
        In the regression: what all pairs of a size weigh, shared among those chosen.
    unseen : ndarray, shape (pairs,)
        Share of the pairs of that size that was not chosen.
    """
    sizes = np.arange(1, players // 2 + 1)
    there = [math.comb(players, int(s)) >> (2 * s == players) for s in sizes]  # a pair of halves has one size: half
    left = (n_samples - 2) // 2
    masks, weights, unseen = [np.zeros((0, players), bool)], [np.zeros(0)], [np.zeros(0)]
    for done, i in enumerate(np.argsort(there, kind="stable")):
        size, count = int(sizes[i]), min(there[i], left // (len(sizes) - done))
        left -= count
        masks.append(_coalitions(players, size, count, there[i], rng))
        weights.append(np.full(count, there[i] / math.comb(players, size) / (size * (players - size)) / max(1, count)))
        unseen.append(np.full(count, 1 - count / there[i]))
    return np.concatenate(masks), np.concatenate(weights), np.concatenate(unseen)


def _coalitions(players: int, size: int, count: int, there: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` different coalitions of one size, all of them or a random choice, none with its complement."""
    if count == there:
        masks = np.zeros((count, players), bool)  # of half the players, the first half of the list has player 0
        np.put_along_axis(masks, np.array(list(islice(combinations(range(players), size), count))), True, axis=1)
        return masks
    masks = np.zeros((0, players), bool)
    while len(masks) < count:
        drawn = rng.random((2 * count, players)).argsort(axis=1) < size  # a random order has its small numbers anywhere
        if 2 * size == players:
            drawn ^= ~drawn[:, :1]  # the one of a pair that has player 0
        masks = np.concatenate([masks, drawn])
        _, first = np.unique(masks, axis=0, return_index=True)
        masks = masks[np.sort(first)]
    return masks[:count]
