"""Membership by hand, LiRA on Gaussians with known ratios, DP-SGD against single gradients written out."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize, stats

from tfae import models, privacy, targets

RNG = np.random.default_rng(0)


def test_membership_by_hand():
    found = privacy.membership([5, 3, 1], [4, 2, 0, -1], at=(0.25, 0.5, 1))
    assert found.auroc == pytest.approx((4 + 3 + 2) / 12)
    assert found.tpr_at == {0.25: pytest.approx(2 / 3), 0.5: 1, 1: 1}
    assert found.false_positives[[0, -1]].tolist() == found.true_positives[[0, -1]].tolist() == [0, 1]


def test_a_sure_attack_on_a_few_is_seen_where_the_area_hides_it():
    scores_out = RNG.normal(size=20_000)
    scores_in = np.where(np.arange(20_000) < 600, 9.0, RNG.normal(size=20_000))  # 3 % are given away
    found = privacy.membership(scores_in, scores_out)
    assert found.auroc < 0.52 and found.tpr_at[0.001] > 0.029


def test_guessing_finds_what_it_accuses():
    found = privacy.membership(RNG.normal(size=20_000), RNG.normal(size=20_000))
    assert found.auroc == pytest.approx(0.5, abs=0.01) and found.tpr_at[0.01] == pytest.approx(0.01, abs=0.004)


@pytest.mark.parametrize("shared", [True, False])
def test_likelihood_ratios_approach_those_of_the_gaussians(shared):
    n, n_models = 200, 4000
    inside = RNG.random((n_models, n)) < 0.5
    mean_in, mean_out = RNG.normal(1, 1, n), RNG.normal(0, 1, n)
    scores = np.where(inside, mean_in + 0.5 * RNG.normal(size=inside.shape), mean_out + RNG.normal(size=inside.shape))
    observed = RNG.normal(size=n)
    true = stats.norm.logpdf(observed, mean_in, 0.5) - stats.norm.logpdf(observed, mean_out, 1)
    found = privacy.likelihood_ratio(scores, inside, observed, shared_variance=shared)
    assert np.median(np.abs(found - true)) < 0.15 and np.corrcoef(found, true)[0, 1] > 0.99


@pytest.mark.parametrize("shared", [True, False])
def test_the_spread_of_few_models_is_not_underestimated(shared):
    """Each mean that was fitted costs a degree of freedom; samples were in and out of unequal numbers of models."""
    inside = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 1], [0, 0, 1], [0, 1, 0], [0, 0, 1]], bool)
    scores, observed = RNG.normal(size=inside.shape), RNG.normal(size=3)
    sides = []
    for there in (inside, ~inside):
        own = [scores[there[:, i], i] for i in range(3)]
        squares, freedom = [np.sum((part - part.mean()) ** 2) for part in own], [len(part) - 1 for part in own]
        variance = np.full(3, sum(squares) / sum(freedom)) if shared else np.divide(squares, freedom)
        sides.append(stats.norm.logpdf(observed, [part.mean() for part in own], np.sqrt(variance)))
    found = privacy.likelihood_ratio(scores, inside, observed, shared_variance=shared)
    np.testing.assert_allclose(found, sides[0] - sides[1])


def test_two_models_are_enough_for_a_shared_variance():
    inside = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], bool)
    found = privacy.likelihood_ratio([[5.0, 0], [5.2, 3], [0, 0.2], [0.2, 3.2]], inside, [5, 3.1])
    assert (found > 0).all()


# --- DP-SGD


def linear():
    weights = [keras.Variable(RNG.normal(size=(3, 2)).astype("float32")), keras.Variable(np.zeros(2, "float32"))]
    x, y = RNG.normal(size=(7, 3)).astype("float32"), RNG.normal(size=(7, 2)).astype("float32")
    return (
        weights,
        x,
        y,
        lambda x, y: tf.reduce_sum((tf.matmul(x, weights[0].value) + weights[1].value - y) ** 2, axis=1),
    )


def test_each_gradient_is_clipped_before_the_sum():
    weights, x, y, loss = linear()
    taken = np.array([1, 1, 1, 0, 1, 1, 1], "float32")
    sums, lengths, _ = privacy._noisy_gradients(
        loss, weights, (x, y), taken, clip=2.0, noise_multiplier=0.0, seed=(0, 0)
    )
    by_hand = [np.zeros((3, 2)), np.zeros(2)]
    for i in range(7):
        error = 2 * (x[i] @ weights[0].numpy() + weights[1].numpy() - y[i])
        single = [np.outer(x[i], error), error]
        length = np.sqrt(sum(np.sum(part**2) for part in single))
        assert float(lengths[i]) == pytest.approx(taken[i] * length, rel=1e-5)
        for total, part in zip(by_hand, single, strict=True):
            total += taken[i] * part * min(1, 2 / length)
    for found, expected in zip(sums, by_hand, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_noise_has_the_promised_size_and_is_another_in_each_weight_and_step():
    weights = [keras.Variable(tf.zeros((200, 200))), keras.Variable(tf.zeros((200, 200)))]

    def loss(x):
        return tf.reduce_sum(weights[0]) * x + tf.reduce_sum(weights[1])

    asked = loss, weights, (np.ones(3, "float32"),), np.ones(3, "float32")
    quiet, *_ = privacy._noisy_gradients(*asked, clip=0.5, noise_multiplier=0.0, seed=(1, 0))
    noise = []
    for step in (0, 1):
        sums, *_ = privacy._noisy_gradients(*asked, clip=0.5, noise_multiplier=3.0, seed=(1, step))
        noise += [(a - b).numpy().ravel() for a, b in zip(sums, quiet, strict=True)]
    for draw in noise:
        assert draw.std() == pytest.approx(1.5, rel=0.02) and abs(draw.mean()) < 0.03
    assert np.abs(np.corrcoef(noise) - np.eye(4)).max() < 0.03


def test_without_noise_and_clip_it_is_plain_gradient_descent():
    weights, x, y, loss = linear()
    start = [weight.numpy() for weight in weights]
    run = privacy.train_privately(
        loss, weights, (x, y), optimizer=keras.optimizers.SGD(0.05), steps=3, batch_size=7, clip=1e6,
        noise_multiplier=0.0,
    )  # fmt: skip
    w, b = start
    for k in range(3):
        error = x @ w + b - y
        assert run.losses[k] == pytest.approx(np.mean(np.sum(error**2, axis=1)), rel=1e-4)
        w, b = w - 0.05 * 2 * x.T @ error / 7, b - 0.05 * 2 * error.sum(axis=0) / 7
    np.testing.assert_allclose(weights[0], w, rtol=1e-4)
    np.testing.assert_allclose(weights[1], b, rtol=1e-4)
    assert (run.clipped == 0).all() and run.sample_probability == 1


def test_samples_take_part_by_the_toss_of_a_coin():
    counter, traced = keras.Variable(tf.zeros(200)), []
    x = np.eye(200, dtype="float32")

    def loss(x):
        traced.append(1)
        gone = tf.linalg.matvec(x, counter)
        return 5 + gone - tf.stop_gradient(gone)  # always 5

    run = privacy.train_privately(
        loss, [counter], (x,), optimizer=keras.optimizers.SGD(1.0), steps=300,
        batch_size=20, clip=1.0, noise_multiplier=0.0,
    )  # fmt: skip
    times = -counter.numpy() * 20  # each gradient is one place, of length 1
    assert times.mean() == pytest.approx(30, abs=1) and times.std() == pytest.approx(np.sqrt(300 * 0.1 * 0.9), abs=1)
    assert abs(times.sum() - 300 * 20) > 1  # and not always as many
    np.testing.assert_allclose(run.losses, 5, rtol=1e-5)  # the mean of those that took part
    assert run.sample_probability == 0.1
    assert len(traced) == 1  # one program, however many samples a step draws


def test_an_autoencoder_learns_privately():
    x = RNG.random((300, 8)).astype("float32")
    autoencoder = models.dense_autoencoder(8, code_size=4, hidden=(16,), seed=0)
    target = targets.reconstruction_error(autoencoder)
    before = autoencoder.reconstruction_error(x).mean()
    run = privacy.train_privately(
        target, autoencoder.trainable_weights, (x,), optimizer=keras.optimizers.Adam(0.01), steps=60, batch_size=50,
        clip=0.1, noise_multiplier=0.5,
    )  # fmt: skip
    assert autoencoder.reconstruction_error(x).mean() < 0.9 * before and 0 < run.clipped.mean() <= 1


def test_layers_run_as_in_inference():
    """So no sample has a part in the gradient of another, and the statistics of batch normalisation stay."""
    x = RNG.normal(size=(40, 6)).astype("float32")

    def trained(*between):
        keras.utils.set_random_seed(0)
        parts = [keras.layers.Dense(5, "tanh"), *between, keras.layers.Dense(6)]
        model = keras.Sequential([keras.Input((6,)), *parts])
        weights = [weight for part in (parts[0], parts[-1]) for weight in part.trainable_weights]
        privacy.train_privately(
            targets.reconstruction_error(model), weights, (x,), optimizer=keras.optimizers.SGD(0.1), steps=4,
            batch_size=20, clip=1.0, noise_multiplier=0.5,
        )  # fmt: skip
        return [weight.numpy() for weight in weights]

    norm = keras.layers.BatchNormalization(epsilon=1e-12)  # of fresh statistics, 0 and 1: it passes on what it gets
    for plain, other in zip(trained(), trained(norm, keras.layers.Dropout(0.5)), strict=True):
        np.testing.assert_allclose(other, plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(norm.moving_mean, np.zeros(5))
    np.testing.assert_array_equal(norm.moving_variance, np.ones(5))


# Of 60,000 samples: batches, noise and steps with the epsilons of dp-accounting 0.6, by Rényi and by the whole loss.
CASES = [(1.1, 256, 14062, 2.597, 2.382), (1.3, 250, 3600, 0.942, 0.853), (0.694, 256, 2343, None, 3.0)]


@pytest.mark.parametrize(("noise", "batch", "steps", "renyi", "exact"), CASES)
def test_epsilon_is_that_of_the_known_cases(noise, batch, steps, renyi, exact):
    found = privacy.epsilon(noise, batch / 60_000, steps)
    assert renyi is None or found == pytest.approx(renyi, abs=0.001)
    assert exact < found < 1.3 * exact


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (5.0, 10), (30.0, 100)])
def test_epsilon_bounds_the_one_that_is_known_where_every_sample_takes_part(noise, steps):
    """Of Gaussian noise alone: B. Balle and Y.-X. Wang, ICML 2018, theorem 8."""
    scale = noise / np.sqrt(steps)

    def excess(epsilon):
        away = epsilon * scale
        return stats.norm.cdf(0.5 / scale - away) - np.exp(epsilon) * stats.norm.cdf(-0.5 / scale - away) - 1e-5

    exact = optimize.brentq(excess, 0, 100)
    assert exact < privacy.epsilon(noise, 1.0, steps) < 1.15 * exact


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: privacy.membership([], [1.0]), "scores_in must be a sequence"),
        (lambda: privacy.membership([1.0], [np.nan]), "scores_out must be a sequence of finite"),
        (lambda: privacy.membership([1.0], [1.0] * 50, at=(0.001,)), "50 samples resolve shares from 0.02"),
        (lambda: privacy.likelihood_ratio(np.ones((2, 3)), np.ones((2, 3)), np.ones(3)), "only 0 models"),
        (lambda: privacy.likelihood_ratio(np.ones((2, 3)), np.ones((2, 2)), np.ones(3)), "scores has shape"),
        (lambda: privacy.epsilon(0, 0.1, 10), "noise_multiplier is 0"),
        (lambda: privacy.epsilon(1, 1.5, 10), "sample_probability is 1.5"),
    ],
)
def test_what_cannot_be_judged_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda x, y: tf.reduce_sum(x, axis=1), "depends on none of the weights"),
        (lambda x, y: tf.reduce_sum(x), r"shape \(\) for one sample"),
        (lambda x, y: x, r"shape \(1, 3\) for one sample"),
    ],
)
def test_a_loss_that_ignores_the_weights_or_the_samples_is_refused(loss, message):
    weights, x, y, _ = linear()
    with pytest.raises(ValueError, match=message):
        privacy.train_privately(
            loss, weights, (x, y), optimizer=keras.optimizers.SGD(), steps=1, batch_size=2, clip=1.0,
            noise_multiplier=0.0,
        )  # fmt: skip


def test_a_batch_statistic_cannot_mix_samples():
    """The mean over the batch, in a loss, is that of the one sample."""
    weights, x, y, _ = linear()

    def centred(x, y):
        return tf.reduce_sum((tf.matmul(x - tf.reduce_mean(x, axis=0), weights[0].value) - y) ** 2, axis=1)

    asked = weights, (x, y), np.ones(7, "float32")
    with pytest.raises(AssertionError):  # in a batch the first weight matters
        np.testing.assert_allclose(centred(x, y), np.sum(y**2, axis=1), rtol=1e-5)
    *_, each = privacy._noisy_gradients(centred, *asked, clip=1.0, noise_multiplier=0.0, seed=(0, 0))
    np.testing.assert_allclose(each, np.sum(y**2, axis=1), rtol=1e-5)
