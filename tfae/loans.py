"""Loans drawn from a known rule: who would repay, whom the bank approved, how it wronged one group (chapter 11).

An applicant belongs to group 0 or 1. Whether a loan is repaid follows `REPAYMENT`, the change of its log-odds for one
unit of each number on the application form; the group has no part in it, nor have the district and the day of the
month. Past decisions follow the same rule with `PENALTY` taken from every applicant of group 1. The form does not name
the group, but it names the district, which tells the group of 85 applicants in 100 (`DISTRICT`): a model that learns
from past decisions finds it.

Group 1 also earns less (`INCOME`), and income counts for repayment, so a part of the difference between the groups is
merit. That part is known too: `repayment_probability` is merit alone, `approval_probability` what the bank made of it.
An applicant's luck and the clerk's mood are factors like the others, so the same applicant can be judged again as one
of the other group:

>>> x, factors = make(1000, seed=0)
>>> twins = factors.copy()
>>> twins[:, 0] = 0
>>> wronged = approved(twins) > approved(factors)  # refused, and approved as one of group 0

This is a drawing, for learning how unfair decisions are found. It says nothing of any bank, group or place.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from tfae.checks import check_samples, check_seed, check_size

FEATURE_NAMES = ("income", "debt", "employed", "amount", "missed", "district", "day")
FACTOR_NAMES = ("group", *FEATURE_NAMES, "luck", "mood")
_FORM = slice(1, 8)  # the columns of the factors that are features

# The truth: by how much the log-odds of repayment grow with one unit of each feature.
REPAYMENT = np.array([0.04, -0.04, 0.06, -0.05, -0.7, 0.0, 0.0])
INTERCEPT = 1.6

# The bank approves with log-odds STRICTNESS * (those of repayment - CUT) - PENALTY * group.
STRICTNESS, CUT, PENALTY = 2.0, 1.2, 2.0

GROUP = 0.3  # share of group 1
DISTRICT = (0.15, 0.85)  # probability of district 1 in either group
INCOME = (33.0, 28.0)  # median of either group, 1000 € a year


def sample_factors(n: int, *, seed: int = 0) -> np.ndarray:
    """Draw the factors of `n` applicants.

    Parameters
    ----------
    n : int
        Number of applicants, at least 1.
    seed : int

    Returns
    -------
    ndarray of float64, shape (n, 10)
        One column for each of `FACTOR_NAMES`. The group, 0 or 1. Income: 1000 € a year, log-normal. Debt: payments for
        older loans in per cent of income, 0 to 100. Employed: years with the present employer, at most 45. The amount
        asked for: 1000 €, log-normal. Missed payments of the last two years. District, 0 or 1. Day of the month, 1 to
        28. Luck and the clerk's mood: from 0, good, to 1, bad, uniformly.

    Raises
    ------
    ValueError
        If `n` or `seed` is not a whole number or out of range.
    """
    check_size(n, "n")
    rng = np.random.default_rng(check_seed(seed))
    group = (rng.random(n) < GROUP).astype(int)
    return np.column_stack(  # in this order: the data set rests on it
        [
            group,
            np.array(INCOME)[group] * np.exp(0.4 * rng.standard_normal(n)),
            100 * rng.beta(2, 6, n),
            np.minimum(rng.gamma(1.5, 4, n), 45),
            10 * np.exp(0.5 * rng.standard_normal(n)),
            rng.poisson(0.6, n),
            rng.random(n) < np.array(DISTRICT)[group],
            rng.integers(1, 29, n),
            rng.random(n),
            rng.random(n),
        ]
    )


def draw(factors: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """Fill in the form that the bank sees: one row of `FEATURE_NAMES` for each row of factors.

    Parameters
    ----------
    factors : array, shape (n, 10)
        As from `sample_factors`. Numbers may leave the ranges they are sampled from.

    Returns
    -------
    ndarray of float32, shape (n, 7)
        In the units of `sample_factors`. Neither the group is on the form, nor luck, nor mood.

    Raises
    ------
    ValueError
        As in all functions that take factors: if `factors` has another shape or is not finite, or if a group or a
        district is neither 0 nor 1.
    """
    return _checked(factors)[:, _FORM].astype("float32")


def make(n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the forms of `n` applicants, (n, 7) float32, and their factors, (n, 10) float64.

    See `draw` and `sample_factors`, also for what is raised.
    """
    factors = sample_factors(n, seed=seed)
    return draw(factors), factors


def repayment_probability(factors: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """Return how likely each applicant is to repay, shape (n,): all that a fair decision can know."""
    return expit(_repayment_log_odds(_checked(factors)))


def approval_probability(factors: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """Return how likely the bank was to approve each applicant, shape (n,), its penalty on group 1 included."""
    factors = _checked(factors)
    return expit(STRICTNESS * (_repayment_log_odds(factors) - CUT) - PENALTY * factors[:, 0])


def repaid(factors: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """Return who repays, or would have repaid: int64, shape (n,)."""
    factors = _checked(factors)
    return (factors[:, FACTOR_NAMES.index("luck")] < repayment_probability(factors)).astype("int64")


def approved(factors: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """Return whom the bank approved: int64, shape (n,)."""
    factors = _checked(factors)
    return (factors[:, FACTOR_NAMES.index("mood")] < approval_probability(factors)).astype("int64")


def _repayment_log_odds(factors: np.ndarray) -> np.ndarray:
    return INTERCEPT + factors[:, _FORM] @ REPAYMENT


def _checked(factors: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    factors = check_samples(factors, (len(FACTOR_NAMES),), "factors").astype("float64")
    for name in ("group", "district"):
        column = factors[:, FACTOR_NAMES.index(name)]
        if not np.isin(column, (0, 1)).all():
            i = int(np.argmin(np.isin(column, (0, 1))))
            raise ValueError(f"{name} of row {i} is {column[i]:g}; it must be 0 or 1")
    return factors
