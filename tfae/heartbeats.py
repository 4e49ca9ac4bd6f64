"""Heartbeats drawn from known factors: a time series whose anomalies are known to the millisecond (chapter 13).

A beat of an electrocardiogram is a sum of five bell curves, the waves P, Q, R, S and T, placed around the highest as
in the model of McSharry et al. [1]_: their Table 1, solved for the signal. Every beat is drawn from its own heart rate,
its own waves, a slow drift of the electrodes and noise. Some beats are ill, in one of four ways. Since the random
numbers of a beat do not depend on that, the same factors with kind 0 draw the same beats without the illness, and the
difference of the two says where it shows.

>>> x, factors = make(100, seed=0)
>>> factors[:, 0] = 0
>>> healthy = draw(factors, seed=0)

This is a drawing, for learning how anomalies are found. It is no medical data.

References
----------
.. [1] P. E. McSharry, G. D. Clifford, L. Tarassenko and L. A. Smith, "A dynamical model for generating synthetic
   electrocardiogram signals", IEEE Transactions on Biomedical Engineering 50(3), 2003.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfae.checks import check_samples, check_seed, check_size

KINDS = ("normal", "no P wave", "wide QRS", "raised ST", "inverted T")
FACTOR_NAMES = ("kind", "rate", "P", "Q", "R", "S", "T", "drift")

N_TIMES, SAMPLE_RATE = 128, 160.0  # samples in a beat; samples a second
TIMES = np.arange(N_TIMES) / SAMPLE_RATE - 0.3  # seconds from the peak of R

# The waves P, Q, R, S, T in a heart that beats once a second: seconds from R, width (standard deviation) in seconds,
# height in millivolts. In the paper's terms theta / 2 pi, b / 2 pi, and a b^2, scaled so that R is 1.2 mV.
_PLACE = np.array([-1 / 6, -1 / 24, 0, 1 / 24, 1 / 4])
_WIDTH = np.array([0.25, 0.1, 0.1, 0.1, 0.4]) / (2 * np.pi)
_HEIGHT = np.array([0.30, -0.20, 1.20, -0.30, 0.48])
_P, _Q, _R, _S, _T = range(5)

_RATES = (50.0, 110.0)  # beats a minute
_HEIGHT_SPREAD, _WIDTH_SPREAD = 0.25, 0.1  # relative, from heart to heart
_PLACE_SPREAD = np.array([0.01, 0.003, 0, 0.003, 0.012])  # seconds
_DRIFT = 0.15  # millivolts from the first to the last sample
_NOISE = 0.03  # millivolts


def sample_factors(n: int, *, seed: int = 0) -> np.ndarray:
    """Draw the factors of `n` beats.

    Parameters
    ----------
    n : int
        Number of beats, at least 1.
    seed : int

    Returns
    -------
    ndarray of float64, shape (n, 8)
        One column for each of `FACTOR_NAMES`. The kind: 0 to 4, as in `KINDS`, balanced and shuffled. The rate: 50 to
        110 beats a minute. The heights of the five waves, and the drift from the first to the last sample, in
        millivolts: heights spread by a quarter about those of the model, and those of a healthy beat whatever the kind.

    Raises
    ------
    ValueError
        If `n` or `seed` is not a whole number or out of range.
    """
    drawn = _draws(check_size(n, "n"), check_seed(seed))
    return np.column_stack([drawn.kind, drawn.rate, drawn.height, drawn.drift])


def draw(factors: Sequence[Sequence[float]] | np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Draw one beat for each row of factors.

    Parameters
    ----------
    factors : array, shape (n, 8)
        As from `sample_factors`. Kind 0 is normal. 1 lacks the P wave, as when the atria do not beat in time. In 2 the
        waves Q, R and S are 1.5 to 2.2 times as wide, as when the signal takes a way around. In 3 the line between S
        and T is raised by 0.1 to 0.25 mV, in 4 the T wave points down. Rate, heights and drift may leave the ranges
        they are sampled from.
    seed : int
        Of all else: places and widths of the waves, degree of an illness, noise. They depend on the seed, the row
        number and the number of rows alone: all rows redrawn with one factor changed differ in that factor only.

    Returns
    -------
    ndarray of float32, shape (n, 128)
        Millivolts at `TIMES`, 160 times a second, from 0.3 s before the peak of R.

    Raises
    ------
    ValueError
        If `factors` has another shape, is not finite, or holds a kind that is not a whole number from 0 to 4 or a rate
        that is not positive; or if `seed` is not a whole number or out of range.
    """
    factors = _check_factors(factors)
    kind, rate, height, drift = factors[:, 0], factors[:, 1], factors[:, 2:7].copy(), factors[:, 7]
    drawn = _draws(len(factors), check_seed(seed))
    place, width = drawn.place, drawn.width

    # A fast heart shortens its waves with the square root of the time it has; P and T move with the power 3/4 of it.
    seconds = 60 / rate[:, np.newaxis]
    width = width * np.sqrt(seconds)
    place = place * seconds ** np.array([0.75, 0.5, 0.5, 0.5, 0.75])

    height[kind == 1, _P] = 0
    height[kind == 4, _T] *= -0.6
    wide = kind == 2
    stretch = (1.5 + 0.7 * drawn.degree[wide])[:, np.newaxis]
    width[wide, _Q : _S + 1] *= stretch
    place[wide, _Q : _S + 1] *= stretch
    raised = np.where(kind == 3, 0.1 + 0.15 * drawn.degree, 0)[:, np.newaxis]

    offsets = (TIMES - place[:, :, np.newaxis]) / width[:, :, np.newaxis]  # (n, 5, 128)
    x = np.einsum("nw,nwt->nt", height, np.exp(-0.5 * offsets**2))
    # The raised line starts where S ends and falls off under T.
    rise, fall = place[:, [_S]] + width[:, [_S]], place[:, [_T]]
    x += raised / (1 + np.exp(-(TIMES - rise) / 0.01)) / (1 + np.exp((TIMES - fall) / 0.02))
    x += drift[:, np.newaxis] * np.linspace(-0.5, 0.5, N_TIMES) + drawn.noise
    return x.astype("float32")


def make(n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` beats, (n, 128) float32, and their factors, (n, 8) float64, both from one seed.

    See `draw` and `sample_factors`, also for what is raised.
    """
    factors = sample_factors(n, seed=seed)
    return draw(factors, seed=seed), factors


class _Draws(NamedTuple):
    """All random numbers of n beats; `sample_factors` and `draw` take each their own from one stream."""

    rate: np.ndarray
    height: np.ndarray  # (n, 5), as the next two
    width: np.ndarray
    place: np.ndarray
    drift: np.ndarray
    degree: np.ndarray  # of an illness, where it has degrees
    noise: np.ndarray  # (n, 128)
    kind: np.ndarray


def _draws(n: int, seed: int) -> _Draws:
    rng = np.random.default_rng(seed)
    return _Draws(  # in this order: the data sets rest on it
        rate=rng.uniform(*_RATES, n),
        height=_HEIGHT * np.exp(_HEIGHT_SPREAD * rng.standard_normal((n, 5))),
        width=_WIDTH * np.exp(_WIDTH_SPREAD * rng.standard_normal((n, 5))),
        place=_PLACE + _PLACE_SPREAD * rng.standard_normal((n, 5)),
        drift=_DRIFT * rng.standard_normal(n),
        degree=rng.random(n),
        noise=_NOISE * rng.standard_normal((n, N_TIMES)),
        kind=rng.permutation(np.arange(n) % len(KINDS)),
    )


def _check_factors(factors: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    factors = check_samples(factors, (len(FACTOR_NAMES),), "factors").astype(np.float64)
    for name, good, wanted in (
        ("kind", np.isin(factors[:, 0], range(len(KINDS))), f"a whole number from 0 to {len(KINDS) - 1}"),
        ("rate", factors[:, 1] > 0, "positive, in beats a minute"),
    ):
        if not good.all():
            i = int(np.argmin(good))
            given = factors[i, FACTOR_NAMES.index(name)]
            raise ValueError(f"{name} of row {i} is {given:g}; it must be {wanted}. The kinds are {', '.join(KINDS)}.")
    return factors
