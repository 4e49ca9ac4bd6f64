"""Shapley values are held to permutations, closed forms and games whose values are known; estimates to their errors."""

import itertools
import math

import keras
import numpy as np
import pytest
from keras import layers

from tfae import shapley, targets

RNG = np.random.default_rng(0)
BACKGROUND = RNG.normal(size=(7, 5))
X = RNG.normal(size=(3, 5))
NONE, ALL = np.zeros((1, 49)), np.ones((1, 49))  # a game of 49 players, of which each is in (1) or out (0)


def curved(x):
    """Interactions of all orders, and nothing symmetric."""
    return np.exp(0.5 * x[:, 0]) * x[:, 1] - np.sin(x[:, 2] * x[:, 3] + x[:, 4]) + 3 * x[:, 0] * x[:, 3] * x[:, 4]


def by_permutations(predict, x, background, labels):
    """The definition: what each player adds when all join one after another, averaged over all orders."""
    players = range(labels.max() + 1)
    values = np.zeros(len(players))
    for order in itertools.permutations(players):
        inputs, before = background.copy(), predict(background).mean()
        for player in order:
            inputs[:, labels == player] = x[labels == player]
            after = predict(inputs).mean()
            values[player] += (after - before) / math.factorial(len(players))
            before = after
    return values


def relative(values, truth):
    return np.linalg.norm(values - truth) / np.linalg.norm(truth)


# --- exact -----------------------------------------------------------------------------------------------------------


def test_exact_values_are_those_of_all_permutations():
    found = shapley.exact(curved, X, BACKGROUND)
    for x, values in zip(X, found.values, strict=True):
        np.testing.assert_allclose(values, by_permutations(curved, x, BACKGROUND, np.arange(5)), atol=1e-12)
    np.testing.assert_allclose(found.base_value, curved(BACKGROUND).mean())
    np.testing.assert_allclose(found.predictions, curved(X))
    np.testing.assert_allclose(found.base_value + found.values.sum(axis=1), curved(X))
    np.testing.assert_allclose(found.efficiency_gap, 0, atol=1e-12)
    assert not found.standard_error.any()


def test_a_group_of_features_is_one_player():
    segments = np.array([[0, 1], [2, 0], [1, 3]])
    x, background = RNG.normal(size=(2, 3, 2)), RNG.normal(size=(4, 3, 2))

    def predict(x):
        return np.tanh(x).prod(axis=(1, 2)) + (x[:, 0] * x[:, 1] * x[:, 2] ** 2).sum(axis=1)

    for method in (shapley.exact, shapley.kernel):
        found = method(predict, x, background, segments=segments)
        assert found.values.shape == found.standard_error.shape == (2, 4) and found.values[:, segments].shape == x.shape
        for one, values in zip(x, found.values, strict=True):
            np.testing.assert_allclose(values, by_permutations(predict, one, background, segments), atol=1e-12)


@pytest.mark.parametrize("method", [shapley.exact, shapley.kernel])
def test_axioms(method):
    coef = RNG.normal(size=5)
    linear = method(lambda x: x @ coef + 2, X, BACKGROUND)
    np.testing.assert_allclose(linear.values, coef * (X - BACKGROUND.mean(axis=0)), atol=1e-12)

    dummy = method(lambda x: curved(np.insert(x[:, :4], 4, 1.0, axis=1)), X, BACKGROUND).values
    np.testing.assert_allclose(dummy[:, 4], 0, atol=1e-12)
    assert (np.abs(dummy[:, :4]) > 1e-3).all()

    alike = method(lambda x: np.sin(x[:, 0]) * x[:, 1] * x[:, 2], [[2.0, 3.0, 3.0]], [[1.0, 0.5, 0.5]]).values
    np.testing.assert_allclose(alike[0, 1], alike[0, 2], atol=1e-12)
    assert abs(alike[0, 0] - alike[0, 1]) > 0.1

    first, second = (method(f, X, BACKGROUND).values for f in (curved, lambda x: x.prod(axis=1)))
    both = method(lambda x: curved(x) - 2 * x.prod(axis=1), X, BACKGROUND).values
    np.testing.assert_allclose(both, first - 2 * second, atol=1e-12)


# --- estimates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("players", [1, 2, 3, 7, 8])
def test_with_all_coalitions_the_estimate_is_exact(players):
    x, background = RNG.normal(size=(1, players)), RNG.normal(size=(2, players))
    asked = []

    def predict(x):
        asked.append(len(x))
        return np.exp(x.sum(axis=1) / 2) + x.prod(axis=1) - np.abs(x[:, 0])

    found = shapley.kernel(predict, x, background, n_samples=2 ** max(3, players))
    assert sum(asked) <= 2 ** max(3, players) * 2 + 1
    np.testing.assert_allclose(found.values, shapley.exact(predict, x, background).values, rtol=1e-9)
    assert not found.standard_error.any()


def test_coalitions_come_once_without_their_complements_and_weigh_like_all_of_their_size():
    for players, n_samples in ((11, 400), (12, 900), (49, 2000)):
        masks, weights, unseen = shapley._pairs(players, n_samples, np.random.default_rng(0))
        assert n_samples - 30 <= 2 * len(masks) + 2 <= n_samples
        assert len(np.unique(np.concatenate([masks, ~masks]), axis=0)) == 2 * len(masks)
        sizes = masks.sum(axis=1)
        assert players > 12 or (sizes == 1).sum() == players  # enumerated: the others get more
        for size in range(1, players // 2 + 1):
            share = 0.5 if 2 * size == players else 1.0
            chosen = sizes == size
            np.testing.assert_allclose(weights[chosen].sum(), share / (size * (players - size)))
            np.testing.assert_allclose(unseen[chosen], 1 - chosen.sum() / (math.comb(players, size) * share))
    assert abs(masks[sizes == 20].mean(axis=0) - 20 / 49).max() < 0.35  # of 40: no player is favoured


def test_games_of_pairs_are_estimated_exactly():
    pairs = RNG.normal(size=(49, 49))
    found = shapley.kernel(lambda x: ((x @ pairs) * x).sum(axis=1), ALL, NONE, n_samples=300)
    np.testing.assert_allclose(found.values[0], (pairs + pairs.T).sum(axis=1) / 2, atol=1e-9)


def test_2000_samples_of_49_players_come_within_the_bar_and_their_errors_are_told():
    """49 single effects and 150 small games of three players: the values are the sums of enumerated ones.

    Interactions of three hold 0.7 % of the variance of coalitions' values; in a trained classifier of digits they held
    0.5 to 0.9 %.
    """
    single = RNG.normal(size=49)
    triples = np.array([RNG.choice(49, 3, replace=False) for _ in range(150)])
    tables = 0.08 * RNG.normal(size=(150, 2, 2, 2))

    def look_up(table, x):
        return table[tuple(x.astype(int).T)]

    def predict(x):
        return x @ single + sum(look_up(table, x[:, t]) for t, table in zip(triples, tables, strict=True))

    truth = single.copy()
    for t, table in zip(triples, tables, strict=True):
        truth[t] += by_permutations(lambda x, v=table: look_up(v, x), np.ones(3), np.zeros((1, 3)), np.arange(3))
    runs = [shapley.kernel(predict, ALL, NONE, n_samples=2000, seed=seed) for seed in range(12)]
    errors = np.array([run.values[0] - truth for run in runs])
    told = np.array([run.standard_error[0] for run in runs])
    assert max(relative(run.values[0], truth) for run in runs) < 0.035
    assert max(np.abs(run.efficiency_gap).max() for run in runs) < 1e-9
    assert 0.9 < np.sqrt((errors**2).mean() / (told**2).mean()) < 1.1
    assert 0.92 < (np.abs(errors) < 2 * told).mean() < 0.98  # 0.954 for a normal distribution


def test_errors_are_told_for_a_network():
    rng = np.random.default_rng(1)
    hidden, bias, out = rng.normal(size=(49, 32)) / 7, rng.normal(size=32) / 3, rng.normal(size=32)

    def estimate(n_samples, seed):
        return shapley.kernel(
            lambda x: np.maximum(x @ hidden + bias, 0) @ out, ALL, NONE, n_samples=n_samples, seed=seed, batch_size=8192
        )

    truth = estimate(60_000, seed=99)
    assert np.linalg.norm(truth.standard_error) < 0.01 * np.linalg.norm(truth.values)
    for n_samples in (600, 2000):
        runs = [estimate(n_samples, seed) for seed in range(12)]
        errors = np.array([run.values - truth.values for run in runs])
        told = np.array([run.standard_error for run in runs])
        assert 0.85 < np.sqrt((errors**2).mean() / (told**2).mean()) < 1.15
    # Weights are random, so the values are small beside the interactions, and the bar is wider than for trained ones.
    assert max(relative(run.values, truth.values) for run in runs) < 0.07


@pytest.mark.parametrize("players", [8, 12])
def test_with_the_fewest_coalitions_errors_are_told_as_well(players):
    """A game without any structure: each coalition has a value of its own."""
    rng = np.random.default_rng(players)
    table, place = rng.normal(size=2**players), 1 << np.arange(players)

    def predict(x):
        return table[(x @ place).astype(int)]

    game = np.ones((1, players)), np.zeros((1, players))
    truth = shapley.exact(predict, *game).values
    runs = [shapley.kernel(predict, *game, n_samples=6 * players + 2, seed=seed) for seed in range(150)]
    errors = np.array([run.values - truth for run in runs])
    told = np.array([run.standard_error for run in runs])
    assert 0.93 < (np.abs(errors) < 1.96 * told).mean() < 0.98
    assert 0.75 < np.sqrt((errors**2).mean() / (told**2).mean()) < 1  # never too sure


def test_players_that_equal_the_background_are_not_asked_about():
    x, background = np.zeros((1, 28, 28, 1)), np.zeros((3, 28, 28, 1))
    x[0, 4:12, 8:16] = RNG.random((8, 8, 1))
    segments = np.kron(np.arange(49).reshape(7, 7), np.ones((4, 4), int))[..., np.newaxis]
    weights = RNG.normal(size=x.shape[1:])
    asked = []

    def predict(x):
        asked.append(len(x))
        return np.tanh((weights * x).sum(axis=(1, 2, 3))) + x[:, 5, 9, 0] * x[:, 10, 14, 0]

    found = shapley.kernel(predict, x, background, segments=segments)
    assert sum(asked) == (2**4 - 2) * 3 + 3 + 1  # 4 players are left, and their 14 coalitions are exact
    assert set(np.flatnonzero(found.values[0])) == {9, 10, 16, 17} and not found.standard_error.any()
    np.testing.assert_allclose(
        found.values, shapley.exact(predict, x, background, segments=segments).values, atol=1e-12
    )
    assert not shapley.kernel(predict, background[:1], background, segments=segments).values.any()


def test_a_seed_fixes_the_estimate_whatever_the_batch_and_the_company():
    x, background = RNG.normal(size=(3, 12)), RNG.normal(size=(4, 12))
    sizes = []

    def predict(x):
        sizes.append(len(x))
        return np.sin(x).prod(axis=1) + np.maximum(x.sum(axis=1), 0)

    values = shapley.kernel(predict, x, background, n_samples=200, seed=3, batch_size=64).values
    assert max(sizes) <= 64
    np.testing.assert_array_equal(
        shapley.kernel(predict, x, background, n_samples=200, seed=3, batch_size=64).values, values
    )
    np.testing.assert_allclose(
        shapley.kernel(predict, x[1:2], background, n_samples=200, seed=3, batch_size=3).values, values[1:2]
    )
    assert not np.allclose(shapley.kernel(predict, x, background, n_samples=200, seed=4).values, values)
    sizes.clear()
    np.testing.assert_allclose(
        shapley.exact(predict, x, background, batch_size=50).values, shapley.exact(predict, x, background).values
    )
    assert max(sizes[:100]) <= 50


def test_networks_and_targets_are_explained_as_they_are(images):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(16, "relu"), layers.Dense(3)])
    segments = np.kron(np.arange(4).reshape(2, 2), np.ones((14, 14), int))[..., np.newaxis]
    asked = (images[:2], images[2:5])
    found = shapley.kernel(targets.output(model, 1), *asked, n_samples=100, segments=segments)
    assert np.abs(found.efficiency_gap).max() < 1e-6
    by_function = shapley.exact(lambda x: model(x)[:, 1], *asked, segments=segments)
    np.testing.assert_allclose(found.values, by_function.values, atol=1e-5)
    np.testing.assert_allclose(by_function.predictions, np.asarray(model(images[:2]))[:, 1], atol=1e-6)
    single = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(1)])  # returns (n, 1)
    weights = single.get_weights()[0].reshape(28, 28, 1) * (images[:2] - images[2:5].mean(axis=0))
    expected = np.stack([weights[:, segments == g].sum(axis=1) for g in range(4)], axis=1)
    np.testing.assert_allclose(shapley.exact(single, *asked, segments=segments).values, expected, atol=1e-4)


class DropsOut(keras.Model):
    """As some authors write it: it trains unless it is told not to."""

    def __init__(self):
        super().__init__()
        self.drop, self.dense = layers.Dropout(0.5), layers.Dense(1)

    def call(self, x, training=True):
        return self.dense(self.drop(x, training=training))


@pytest.mark.parametrize("method", [shapley.exact, shapley.kernel])
def test_a_model_is_asked_as_outside_training(method):
    model = DropsOut()
    model(X)
    coef = np.array([2.0, -1.0, 0.5, 0.0, 3.0])
    model.set_weights([coef[:, np.newaxis], np.array([7.0])])
    found = method(model, X, BACKGROUND)
    np.testing.assert_allclose(found.values, coef * (X - BACKGROUND.mean(axis=0)), atol=1e-5)


@pytest.mark.parametrize("method", [shapley.exact, shapley.kernel])
def test_the_columns_of_a_category_are_one_player(method):
    """A table of two numbers, a category in three columns and one in two."""
    rng = np.random.default_rng(2)
    table = np.column_stack(
        [rng.normal(size=(12, 2)), np.eye(3)[rng.integers(0, 3, 12)], np.eye(2)[rng.integers(0, 2, 12)]]
    )
    segments = np.array([0, 1, 2, 2, 2, 3, 3])
    seen = []

    def predict(x):
        seen.append(x)
        effect = x[:, 2:5] @ [1.0, -2.0, 0.5]
        return np.sin(x[:, 0]) * effect + x[:, 1] * x[:, 5] + effect * x[:, 6]

    found = method(predict, table[:3], table[3:], segments=segments)
    rows = np.concatenate(seen)
    assert (rows[:, 2:5].sum(axis=1) == 1).all() and (rows[:, 5:].sum(axis=1) == 1).all()
    for one, values in zip(table[:3], found.values, strict=True):
        np.testing.assert_allclose(values, by_permutations(predict, one, table[3:], segments), atol=1e-12)
    np.testing.assert_allclose(found.efficiency_gap, 0, atol=1e-12)


# --- bad input -------------------------------------------------------------------------------------------------------

SEGMENTS = np.arange(5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shapley.exact(curved, X, BACKGROUND[:0]), "background is empty"),
        (lambda: shapley.exact(curved, X[:, :4], BACKGROUND), r"x has shape \(3, 4\); this model takes \(n, 5\)"),
        (lambda: shapley.exact(curved, X[0], BACKGROUND), r"For a single sample, give x\[np.newaxis\]"),
        (lambda: shapley.exact(curved, X * np.nan, BACKGROUND), "x holds 15 values that are NaN"),
        (
            lambda: shapley.exact(lambda x: curved(x) * np.nan, X, BACKGROUND),
            "predict returns NaN or infinity: 3 of",
        ),
        (lambda: shapley.exact(lambda x: x, X, BACKGROUND), r"predict returns shape \(3, 5\) for 3 samples.*Pick one"),
        (lambda: shapley.exact(lambda x: [x, x[:, 0]], X, BACKGROUND), "predict returns a list of 2 outputs"),
        (lambda: shapley.kernel(lambda x: x[:, 0], ALL[:, :6], NONE[:, :6], n_samples=37), "is 37.*at least 38"),
        (lambda: shapley.kernel(curved, X, BACKGROUND, n_samples=31), "at least 32"),
        (lambda: shapley.exact(curved, X, BACKGROUND, segments=SEGMENTS + 1), "numbered 0, 1, 2"),
        (lambda: shapley.exact(curved, X, BACKGROUND, segments=SEGMENTS[:4]), r"segments has shape \(4,\)"),
        (lambda: shapley.exact(curved, X, BACKGROUND, segments=SEGMENTS * 1.0), "dtype float64"),
        (lambda: shapley.exact(lambda x: x[:, 0], ALL, NONE), "49 players of sample 0.*at most 16.*shapley.kernel"),
        (lambda: shapley.kernel(lambda x: x[:, 0], ALL, NONE, n_samples=295), "is 295 and 49 players.*at least 296"),
        (lambda: shapley.kernel(curved, X, BACKGROUND, n_samples=0), "n_samples is 0"),
        (lambda: shapley.kernel(curved, X, BACKGROUND, seed=-1), "seed is -1"),
        (lambda: shapley.kernel(curved, X, BACKGROUND, batch_size=0), "batch_size is 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
