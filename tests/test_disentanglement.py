"""Scores with known answers, a second implementation of two of them, and what happens where a score has no meaning."""

import itertools
import math

import numpy as np
import pytest

from tfae import disentanglement
from tfae.disentanglement import dci, dci_scores, explicitness, mig, modularity, mutual_information, sap

RNG = np.random.default_rng(0)
GRID = np.array(list(itertools.product([0.0, 1.0], repeat=10)))  # every combination once: factors exactly independent
DIGITS = RNG.integers(10, size=(20_000, 10))  # 10 factors of 10 values
# Two discrete factors and two continuous ones, independent.
MIXED = np.column_stack([RNG.integers(4, size=1500), RNG.integers(3, size=1500), RNG.normal(size=(1500, 2))])
NOISE = RNG.normal(size=(1500, 4))
STATE = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_draws_in_any_order():
    RNG.bit_generator.state = STATE


def same(score, value, tolerance=1e-6):
    if isinstance(score, disentanglement.DCIScores):
        score = score.disentanglement, score.completeness
    np.testing.assert_allclose(score, value, atol=tolerance)


# --- known answers ---------------------------------------------------------------------------------------------------


def test_importances_on_the_diagonal_are_perfect_and_zeros_are_nothing():
    same(dci_scores(np.eye(10)), (1, 1))
    same(dci_scores(np.diag(np.arange(1, 11))), (1, 1))
    same(dci_scores(np.zeros((10, 10))), (0, 0), 0)
    same(dci_scores(np.ones((5, 10))), (0, 0))


def test_a_unit_for_two_factors_costs_disentanglement_and_a_factor_on_two_units_costs_completeness():
    two_factors_each = np.hstack([np.eye(5), np.eye(5)])  # 5 units, 10 factors
    same(dci_scores(two_factors_each), (1 - math.log(2) / math.log(10), 1))
    same(dci_scores(two_factors_each.T), (1, 1 - math.log(2) / math.log(10)))


def test_the_rows_of_an_importance_matrix_weigh_as_much_as_they_serve():
    importance = np.array([[3.0, 0, 0], [1, 1, 0], [0, 0, 0]])
    same(dci_scores(importance).disentanglement, (3 * 1 + 2 * (1 - math.log(2) / math.log(3))) / 5)


def test_information_between_independent_and_identical_factors_is_exact():
    information = mutual_information(GRID, GRID)
    same(information, math.log(2) * np.eye(10), 1e-12)
    both = mutual_information(GRID[:, [0]] + 2 * GRID[:, [1]], GRID[:, :3])  # a unit of four values
    same(both, [[math.log(2), math.log(2), 0]], 1e-12)


@pytest.mark.slow
def test_factors_as_codes_are_perfect():
    same(mig(GRID, GRID).parts, 1)
    same(modularity(GRID, GRID).parts, 1)
    four = GRID[:, :4]
    same(sap(four, four).value, 1, 0.15)  # the second best unit guesses on 342 held-out samples, and may guess well
    same(explicitness(four, four).parts, 1)
    result = dci(four, four)
    same((result.disentanglement, result.completeness, result.informativeness), 1, 1e-2)
    assert mig(DIGITS, DIGITS).value >= 0.99 and modularity(DIGITS[:, :3], DIGITS[:, :3]).value >= 0.9999


def test_duplicated_codes_have_no_gap():
    twice = np.hstack([GRID, GRID])
    same(mig(twice, GRID).parts, 0)
    same(sap(twice, GRID[:, :3]).parts, 0)
    same(mig(np.hstack([DIGITS[:, :3], DIGITS[:, :3]]), DIGITS[:, :3]).parts, 0)
    same(modularity(twice, GRID).value, 1, 1e-9)  # each unit still carries one factor


def test_one_unit_for_two_factors_has_less_modularity_but_a_full_gap_in_neither():
    units = GRID[:, :5] + 2 * GRID[:, 5:]
    same(modularity(units, GRID).parts, 1 - 1 / 9)
    same(mig(units, GRID).parts, 1)  # the gap looks at factors: each is on one unit alone
    same(modularity(DIGITS[:, :5] + 10 * DIGITS[:, 5:], DIGITS, bins=100).value, 1 - 1 / 9, 1e-3)


def test_continuous_factors_as_codes_and_their_monotone_images():
    """Information does not look at scale: the logistic function of a factor carries all of it."""
    factors = RNG.normal(size=(20_000, 3))
    codes = 1 / (1 + np.exp(-3 * factors))
    same(mig(codes, factors).value, 1, 0.01)
    same(np.diag(mutual_information(codes, factors)), math.log(20), 1e-12)
    assert modularity(codes, factors).value > 0.999
    same(mig(codes, factors).parts, mig(factors, factors).parts, 1e-12)


def test_continuous_prediction_is_the_squared_correlation():
    """A noisy copy predicts with R² = 1 / (1 + noise variance), and nothing else predicts."""
    factors = RNG.normal(size=(20_000, 2))
    codes = factors + 0.5 * RNG.normal(size=factors.shape)
    same(sap(codes, factors).parts, 1 / 1.25, 0.02)
    same(explicitness(codes, factors).parts, 1 / 1.25, 0.02)


def test_discrete_prediction_is_the_balanced_accuracy_above_chance():
    """A copy that is replaced by a random value half of the time is right in (1 + 1/4) / 2 of the cases."""
    factor = RNG.integers(4, size=(20_000, 1))
    codes = np.where(RNG.random(factor.shape) < 0.5, factor, RNG.integers(4, size=factor.shape))
    same(sap(codes, factor).value, (0.625 - 0.25) / 0.75, 0.02)
    # 62.5 % of a value's samples and 12.5 % of the others' carry it: the curve through that point has this area.
    same(explicitness(np.eye(4)[codes[:, 0]], factor).value, 2 * (0.625 - 0.125 + 1) / 2 - 1, 0.02)


def test_a_rare_value_counts_as_much_as_a_frequent_one():
    """Two normal clouds two standard deviations apart: the middle between them separates Phi(1) = 0.841 of each."""
    factor = (RNG.random((20_000, 1)) < 0.03).astype(int)
    same(sap(2 * factor + RNG.normal(size=factor.shape), factor).value, 2 * 0.841 - 1, 0.06)


def test_explicit_is_not_the_same_as_disentangled():
    rotation = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    rotated = (MIXED - MIXED.mean(axis=0)) / MIXED.std(axis=0) @ rotation
    assert explicitness(rotated, MIXED).value > 0.97
    assert mig(rotated, MIXED).value < 0.4 and dci(rotated, MIXED).disentanglement < 0.6


# --- chance ----------------------------------------------------------------------------------------------------------


def test_shuffled_codes_score_near_zero():
    codes = RNG.permutation(MIXED)
    assert 0 <= mig(codes, MIXED).value < 0.02 and 0 <= sap(codes, MIXED).value < 0.05
    assert abs(explicitness(codes, MIXED).value) < 0.05
    result = dci(RNG.normal(size=(1500, 6)), MIXED)
    assert result.disentanglement < 0.05 and result.completeness < 0.05 and result.informativeness < 0.05
    assert modularity(codes, MIXED).value > 0.2  # as its docstring says


# --- a second implementation -----------------------------------------------------------------------------------------


def information_by_loops(a, b):
    total = 0.0
    for x in set(a):
        for y in set(b):
            p_xy = np.mean((a == x) & (b == y))
            if p_xy > 0:
                total += p_xy * math.log(p_xy / (np.mean(a == x) * np.mean(b == y)))
    return total


def test_gap_and_modularity_against_loops():
    factors = np.column_stack([RNG.integers(5, size=600), RNG.integers(3, size=600), RNG.normal(size=600)])
    z = factors @ RNG.normal(size=(3, 4)) + 0.3 * RNG.normal(size=(600, 4))

    def bins_of_60(x):  # 10 bins: rank 0 to 59 in the first, and so on
        return np.argsort(np.argsort(x)) // 60

    units, values = [bins_of_60(unit) for unit in z.T], [factors[:, 0], factors[:, 1], bins_of_60(factors[:, 2])]
    table = [[information_by_loops(unit, value) for value in values] for unit in units]
    gaps = []
    for j, value in enumerate(values):
        second, first = sorted(row[j] for row in table)[-2:]
        gaps.append((first - second) / information_by_loops(value, value))
    parts = []
    for row in table:
        others = sum(v**2 for j, v in enumerate(row) if j != row.index(max(row)))
        parts.append(1 - others / (max(row) ** 2 * 2))
    same(mutual_information(z, factors, bins=10), table, 1e-12)
    same(mig(z, factors, bins=10).parts, gaps, 1e-12)
    same(modularity(z, factors, bins=10).parts, parts, 1e-12)
    assert mig(z, factors, bins=10).value == pytest.approx(np.mean(gaps))
    assert modularity(z, factors, bins=10).value == pytest.approx(np.mean(parts))


# --- what must not matter --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [mig, modularity, sap, explicitness, dci])
def test_order_sign_scale_and_dead_units_do_not_matter(score):
    factors = MIXED[:600]
    z = factors @ RNG.normal(size=(4, 4)) + 0.3 * NOISE[:600]
    names = ("disentanglement", "informativeness") if score is dci else ("value",)
    # Forests break ties at random, and a logistic regression stops when it is near enough.
    tolerance = {mig: 1e-9, modularity: 1e-9, dci: 0.03}.get(score, 1e-3)
    expected = score(z, factors)
    for other in (z[:, [2, 0, 3, 1]], -z, z * [1e-3, 1, 50, 7] + 3, np.hstack([z, np.full((600, 2), 0.1)])):
        result = score(other, factors)
        for name in names:
            same(getattr(result, name), getattr(expected, name), tolerance)


@pytest.mark.parametrize("score", [mig, modularity, sap, explicitness, dci])
def test_no_scale_of_a_unit_or_a_factor_is_too_small_or_too_large(score):
    """Trees cut in float32 and see no variance below 1e-16; a linear fit drops the smaller of two unlike units."""
    factors = np.column_stack([MIXED[:600], MIXED[:600, 2] * MIXED[:600, 3] > 0])
    z = np.column_stack([MIXED[:600] + 0.3 * NOISE[:600], MIXED[:600, 2] - MIXED[:600, 3]])
    discrete = [True, True, False, False, True]
    expected = score(z, factors, discrete=discrete)
    names = ("importance", "informativeness_parts") if score is dci else ("parts",)
    # A logistic regression stops when it is near enough, and a forest's ties fall as rounding will have them.
    tolerance = {explicitness: 1e-3, dci: 2e-3}.get(score, 1e-9)
    for units, scale in (([1e-7, 1e7, 1, 1e-7, 1e7], 1), ([1e7] * 5, 1e-12), ([1e-12] * 5, 1e12)):
        result = score(z * units, factors * [1, 1, scale, 1 / scale, 1], discrete=discrete)
        for name in names:
            same(getattr(result, name), getattr(expected, name), tolerance)


def test_a_tree_does_not_see_how_a_unit_is_bent():
    """One code of 4 values, and a bent copy that spans twenty orders of magnitude."""
    factor = RNG.integers(4, size=(400, 1))
    same(sap(10.0 ** (-5 * factor), factor).value, 1)
    two = np.column_stack([factor, factor[::-1]])
    result = dci(10.0 ** (-5 * two), two)
    same((result.disentanglement, result.informativeness), (1, 1), 0.02)


def test_same_seed_same_scores_and_another_seed_another_split():
    z, factors = (MIXED + NOISE)[:300], MIXED[:300]
    for score, name in ((sap, "parts"), (explicitness, "parts"), (dci, "importance")):
        first, again, other = (getattr(score(z, factors, seed=seed), name) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


def test_float32_codes_and_the_callers_arrays_are_left_alone():
    z, factors = MIXED.astype("float32"), (10 * MIXED).astype("float32")
    kept = factors.copy()
    mig(z, factors, discrete=[True, True, False, False])
    np.testing.assert_array_equal(factors, kept)


# --- kinds of factors ------------------------------------------------------------------------------------------------


def test_whole_numbers_with_few_values_are_discrete_whatever_their_dtype():
    many = np.repeat(np.arange(30), 50)[:, np.newaxis]  # 30 values: binned as continuous
    few = many % 20
    for factor, entropy in ((few, math.log(20)), (few.astype(float), math.log(20)), (many, None), (few + 0.5, None)):
        is_discrete = disentanglement._check(factor, factor, None)[2]
        assert is_discrete == [entropy is not None]
    same(mutual_information(few, few), disentanglement.mutual_info_score(few[:, 0], few[:, 0]))
    same(mig(many, many, discrete=[True], bins=30).value, 1)


def test_discrete_says_which_factors_are_classes():
    """Classes in an order without meaning: thresholds and areas see them, a line does not."""
    factor = np.array([0, 3, 1, 2])[RNG.integers(4, size=2000)]
    z = np.eye(4)[factor]
    for score in (explicitness, mig):
        same(score(z, factor[:, np.newaxis] / 7, discrete=[True]).value, score(z, factor[:, np.newaxis]).value)
    code = np.array([0.0, 1, -1, 0])[factor][:, np.newaxis]  # 0 and 3 alike, 1 above, 2 below
    assert sap(code, factor[:, np.newaxis]).value > 0.6
    assert sap(code, factor[:, np.newaxis], discrete=[False]).value < 0.3


# --- where a score has no meaning ------------------------------------------------------------------------------------


def test_a_dead_code_carries_nothing():
    dead = np.zeros((1500, 3))
    for score in (mig, modularity, sap):
        assert score(dead, MIXED).value == 0
    assert abs(explicitness(dead, MIXED).value) < 0.02
    result = dci(dead, MIXED)
    assert (result.disentanglement, result.completeness) == (0, 0) and result.informativeness < 0.02
    assert (result.importance == 0).all()
    same(dci(np.column_stack([MIXED[:, 0], dead]), MIXED).importance, np.eye(4)[:, :1] @ np.ones((1, 4)))
    parts = modularity(np.hstack([MIXED, dead]), MIXED).parts
    assert np.isnan(parts[4:]).all() and (parts[:4] > 0.9).all()


def test_a_single_unit_has_a_second_that_carries_nothing():
    same(mig(GRID[:, :1], GRID).parts, np.eye(10)[0])
    same(sap(GRID[:, :1], GRID[:, :3]).parts[0], 1)
    assert modularity(GRID[:, :1], GRID).value == 1
    with pytest.raises(ValueError, match="one of the units; completeness tells several apart"):
        dci(GRID[:, :1], GRID)


def test_a_single_factor_has_a_gap_but_no_modularity():
    same(mig(GRID, GRID[:, :1]).value, 1)
    for score in (modularity, dci):
        with pytest.raises(ValueError, match="one of the factors"):
            score(GRID, GRID[:, :1])


@pytest.mark.parametrize("score", [mutual_information, mig, modularity, sap, explicitness, dci])
def test_every_score_refuses_what_it_cannot_read(score):
    bad = MIXED.copy()
    bad[3, 1] = np.nan
    constant, rare = MIXED.copy(), MIXED.copy()
    constant[:, 2] = 4
    rare[:3, 0] = 9
    for z, factors, message in (
        (bad, MIXED, r"z holds 1 values that are NaN .* \(3, 1\)"),
        (MIXED, bad, "factors holds 1 values that are NaN"),
        (MIXED[:-1], MIXED, "z has 1499 rows and factors 1500"),
        (MIXED, constant, "factor 2 is constant"),
        (MIXED, rare, "factor 0 is discrete, and one of its 5 values occurs 3 times"),
        (MIXED, MIXED[:, 0], "factors has shape .* it must be"),
        (MIXED[:, :, np.newaxis], MIXED, "z has shape .* it must be"),
        (MIXED[:0], MIXED[:0], "z is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            score(z, factors)
    with pytest.raises(ValueError, match="discrete has 2 values and there are 4 factors"):
        score(MIXED, MIXED, discrete=[True, False])
    with pytest.raises(ValueError, match="factor 2 is discrete, and one of its 1500 values occurs 1 times"):
        score(MIXED, MIXED, discrete=[True] * 4)


def test_too_few_samples_and_bad_options_are_refused():
    with pytest.raises(ValueError, match="199 samples for 20 bins"):
        mig(MIXED[:199, 2:], MIXED[:199, 2:])
    mig(MIXED[:200, 2:], MIXED[:200, 2:])
    with pytest.raises(ValueError, match="bins is 1"):
        mig(MIXED, MIXED, bins=1)
    with pytest.raises(ValueError, match="14 samples"):
        sap(MIXED[:14, 2:], MIXED[:14, 2:])
    with pytest.raises(ValueError, match="seed is -1"):
        explicitness(MIXED, MIXED, seed=-1)
    with pytest.raises(ValueError, match="an importance is -1"):
        dci_scores(np.array([[1.0, -1], [0, 1]]))
    with pytest.raises(ValueError, match="one of the units"):
        dci_scores(np.ones((1, 3)))
