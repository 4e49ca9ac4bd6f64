"""Activations made of known features: as often, as strong and as dependent as is said."""

import numpy as np
import pytest

from tfae import superposition as world

N = 20_000


@pytest.fixture(scope="module")
def made():
    return world.make(N, seed=0)


@pytest.mark.slow
def test_a_row_is_the_sum_of_its_features_a_constant_and_noise(made):
    x, factors = made
    assert x.shape == (N, 128) and factors.shape == (N, 512) and x.dtype == factors.dtype == np.float32
    silent, noisy = world.draw(np.zeros((2_000, 512))), world.draw(np.zeros((2_000, 512)), seed=1)
    assert not np.array_equal(silent, noisy)
    np.testing.assert_allclose(silent.std(axis=0).mean(), world.NOISE, rtol=0.02)
    np.testing.assert_allclose(silent.mean(axis=0).std(), 0.5, rtol=0.2)  # the constant
    causes = np.random.default_rng(0).normal(size=silent.shape)  # what makes features fire is no part of the noise
    assert abs(np.corrcoef((silent - silent.mean(axis=0)).ravel(), causes.ravel())[0, 1]) < 0.01
    rest = x - factors @ world.directions() - silent.mean(axis=0)
    np.testing.assert_allclose(rest.std(), world.NOISE, rtol=0.01)
    np.testing.assert_allclose(rest.mean(axis=0), 0, atol=0.02)


def test_directions_are_unit_vectors_as_far_apart_as_so_many_can_be():
    directions = world.directions().astype("float64")
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)
    cosines = directions @ directions.T - np.eye(512)
    welch = np.sqrt((512 - 128) / (128 * 511))  # no 512 vectors in 128 dimensions have a smaller root mean square
    np.testing.assert_allclose(np.sqrt(np.sum(cosines**2) / (512 * 511)), welch, rtol=1e-3)


def test_features_fire_as_often_as_zipf_says(made):
    frequencies = (made[1] > 0).mean(axis=0)
    zipf = np.arange(1, 449) ** -0.5
    wanted = 0.004 + 0.196 * (zipf - zipf[-1]) / (zipf[0] - zipf[-1])
    deviations = (frequencies[:448] - wanted) / np.sqrt(wanted * (1 - wanted) / N)
    assert abs(deviations.mean()) < 0.2 and np.abs(deviations).max() < 4.5
    assert 6 < (made[1] > 0).sum(axis=1).mean() < 7


def test_features_fire_as_strongly_as_is_said(made):
    """From 5 for the most frequent to 4; and a child as strongly as its parent lets it."""
    standing, wanted = made[1][:, :448], 5 - np.arange(448) / 448
    fires = standing > 0
    counts = fires.sum(axis=0)
    means = standing.sum(axis=0) / counts
    assert np.abs((means - wanted) * np.sqrt(counts) / 0.5).max() < 4.5
    np.testing.assert_allclose((standing - wanted)[fires].std(), 0.5, rtol=0.02)
    pairs = [made[1][made[1][:, i] > 0][:, [i, world.parent_of(i)]] for i in range(448, 512)]
    together = np.concatenate([pair / pair.mean(axis=0) for pair in pairs])
    assert np.corrcoef(together.T)[0, 1] > 0.5


def test_causes_let_features_fire_together(made):
    fires = (made[1] > 0)[:, :40].astype(float)
    correlations = np.corrcoef(fires.T)[np.triu_indices(40, 1)]
    by_chance = np.corrcoef(np.array([np.random.default_rng(i).permutation(f) for i, f in enumerate(fires.T)]))
    assert correlations.std() > 2 * by_chance[np.triu_indices(40, 1)].std()


def test_children_fire_with_their_parent_and_without_siblings(made):
    fires = made[1] > 0
    assert [world.parent_of(i) for i in (0, 447, 448, 451, 452, 511)] == [None, None, 0, 0, 8, 120]
    for parent in range(0, 128, 8):
        children = [i for i in range(448, 512) if world.parent_of(i) == parent]
        assert len(children) == 4 and not (fires[:, children].any(axis=1) & ~fires[:, parent]).any()
        assert fires[:, children].sum(axis=1).max() == 1
        share = fires[fires[:, parent]][:, children].mean(axis=0)
        np.testing.assert_allclose(share, 0.2, atol=5 * np.sqrt(0.16 / fires[:, parent].sum()))


def test_the_same_call_gives_the_same_answer(made):
    again = world.make(N, seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))
    assert not np.array_equal(world.sample_factors(10, seed=1), world.sample_factors(10, seed=2))
    assert len(world.FACTOR_NAMES) == 512


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: world.make(0), "n is 0"),
        (lambda: world.make(2, seed=-1), "seed is -1"),
        (lambda: world.draw(np.zeros((2, 5))), r"factors has shape \(2, 5\)"),
        (lambda: world.draw(np.full((1, 512), np.nan)), "NaN"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
