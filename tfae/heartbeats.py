"""Heartbeats drawn from known factors: a time series whose anomalies are known to the millisecond.

A beat of an electrocardiogram is a sum of five bell curves, the waves P, Q, R, S and T, placed around the highest as
in the model of McSharry et al. [1]_: their Table 1, solved for the signal. Every beat is drawn from its own heart rate,
its own waves, a slow drift of the electrodes and noise. Some beats are ill, in one of four ways. Since the random
numbers of a beat do not depend on that, ``make(0 * kinds, seed)`` draws the same beats without the illness, and the
difference of the two says where it shows.

This is a drawing, for learning how anomalies are found. It is no medical data.

References
----------
.. [1] P. E. McSharry, G. D. Clifford, L. Tarassenko and L. A. Smith, "A dynamical model for generating synthetic
   electrocardiogram signals", IEEE Transactions on Biomedical Engineering 50(3), 2003.
"""

from typing import Any

import numpy as np

from tfae.checks import check_seed

KINDS = ("normal", "no P wave", "wide QRS", "raised ST", "inverted T")
FACTOR_NAMES = ("kind", "rate", "P", "Q", "R", "S", "T", "drift")

N_TIMES, SAMPLING_RATE = 128, 160.0  # samples in a beat; samples a second
TIMES = np.arange(N_TIMES) / SAMPLING_RATE - 0.3  # seconds from the peak of R

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


def make(kinds: Any, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw a beat of each of the given kinds.

    Parameters
    ----------
    kinds : array of int, shape (n,)
        0 is normal. 1 lacks the P wave, as when the atria do not beat in time. In 2 the waves Q, R and S are 1.5 to
        2.2 times as wide, as when the signal takes a way around. In 3 the line between S and T is raised by 0.1 to
        0.25 mV, in 4 the T wave points down.
    seed : int

    Returns
    -------
    x : ndarray of float32, shape (n, 128)
        Millivolts at `TIMES`, 160 times a second, from 0.3 s before the peak of R.
    factors : ndarray of float32, shape (n, 8)
        As `FACTOR_NAMES`: the kind, the rate in beats a minute, the heights of the five waves as they were drawn and
        the drift, in millivolts.

    Raises
    ------
    ValueError
        If a kind is not a whole number from 0 to 4.
    """
    kinds = np.asarray(kinds)
    if kinds.ndim != 1 or kinds.dtype.kind not in "iu" or not np.isin(kinds, range(len(KINDS))).all():
        raise ValueError(f"kinds must be whole numbers from 0 to {len(KINDS) - 1}, of shape (n,): {', '.join(KINDS)}")
    n, rng = len(kinds), np.random.default_rng(check_seed(seed))
    rate = rng.uniform(*_RATES, n)
    height = _HEIGHT * np.exp(_HEIGHT_SPREAD * rng.standard_normal((n, 5)))
    width = _WIDTH * np.exp(_WIDTH_SPREAD * rng.standard_normal((n, 5)))
    place = _PLACE + _PLACE_SPREAD * rng.standard_normal((n, 5))
    drift = _DRIFT * rng.standard_normal(n)
    strength = rng.random(n)  # of an illness, where it has degrees
    noise = _NOISE * rng.standard_normal((n, N_TIMES))

    # A fast heart shortens its waves with the square root of the time it has; P and T move with the power 3/4 of it.
    seconds = 60 / rate[:, np.newaxis]
    width = width * np.sqrt(seconds)
    place = place * seconds ** np.array([0.75, 0.5, 0.5, 0.5, 0.75])

    height[kinds == 1, _P] = 0
    height[kinds == 4, _T] *= -0.6
    wide = kinds == 2
    stretch = (1.5 + 0.7 * strength[wide])[:, np.newaxis]
    width[wide, _Q : _S + 1] *= stretch
    place[wide, _Q : _S + 1] *= stretch
    raised = np.where(kinds == 3, 0.1 + 0.15 * strength, 0)[:, np.newaxis]

    offsets = (TIMES - place[:, :, np.newaxis]) / width[:, :, np.newaxis]  # (n, 5, 128)
    x = np.einsum("nw,nwt->nt", height, np.exp(-0.5 * offsets**2))
    # The raised line starts where S ends and falls off under T.
    rise, fall = place[:, [_S]] + width[:, [_S]], place[:, [_T]]
    x += raised / (1 + np.exp(-(TIMES - rise) / 0.01)) / (1 + np.exp((TIMES - fall) / 0.02))
    x += drift[:, np.newaxis] * np.linspace(-0.5, 0.5, N_TIMES) + noise
    factors = np.column_stack([kinds, rate, height, drift])
    return x.astype("float32"), factors.astype("float32")
