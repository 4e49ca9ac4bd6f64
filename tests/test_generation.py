"""Distances between distributions against closed forms and slow loops; copies caught; a density and a GAN."""

from functools import partial

import keras
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import tensorflow as tf
from keras import layers, ops

from tfae import generation, models

RNG = np.random.default_rng(0)
STATE = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_draws_in_any_order():
    RNG.bit_generator.state = STATE


# --- Fréchet distance ------------------------------------------------------------------------------------------------


def with_moments(n, mean, covariance):
    """n points with exactly this sample mean and covariance."""
    x = RNG.normal(size=(n, len(mean)))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T).reshape(len(mean), -1))).T
    return x @ np.linalg.cholesky(np.atleast_2d(covariance)).T + mean


def test_on_a_line_it_is_the_closed_form():
    """(m1 - m2)² + (s1 - s2)²: here 9 + 4."""
    a, b = with_moments(50, [1.0], [[9.0]]), with_moments(70, [4.0], [[1.0]])
    assert generation.frechet_distance(a, b) == pytest.approx(13, rel=1e-12)


def test_commuting_covariances_have_a_closed_form():
    a = with_moments(200, [0, 0, 0.0], np.diag([1.0, 4, 9]))
    b = with_moments(300, [1, 0, 2.0], np.diag([4.0, 4, 1]))
    assert generation.frechet_distance(a, b) == pytest.approx(1 + 4 + 1 + 0 + 4, rel=1e-10)


def test_it_is_the_formula_with_the_root_of_a_matrix():
    a = RNG.normal(size=(400, 12)) @ RNG.normal(size=(12, 12))
    b = RNG.normal(size=(300, 12)) @ RNG.normal(size=(12, 12)) + RNG.normal(size=12)
    ca, cb = np.cov(a.T), np.cov(b.T)
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(ca + cb - 2 * scipy.linalg.sqrtm(ca @ cb).real)
    assert generation.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert generation.frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)
    turn = np.linalg.qr(RNG.normal(size=(12, 12)))[0]
    assert generation.frechet_distance(3 * a @ turn + 5, 3 * b @ turn + 5) == pytest.approx(9 * expected, rel=1e-9)


def test_it_is_zero_for_one_set_and_small_for_two_of_one_distribution():
    a, b = RNG.normal(size=(2, 4000, 10)) + 1e4  # far from 0: no cancellation
    same = generation.frechet_distance(a, a[::-1])
    assert 0 <= same < 1e-6 < generation.frechet_distance(a, b) < 0.05
    assert generation.frechet_distance(a[:40], b[:40]) > 10 * generation.frechet_distance(a, b)


def test_a_feature_that_never_changes_is_no_obstacle():
    a, b = (np.column_stack([RNG.normal(size=(50, 2)), np.full(50, value)]) for value in (1.0, 3.0))
    without = generation.frechet_distance(a[:, :2], b[:, :2])
    assert generation.frechet_distance(a, b) == pytest.approx(without + 4)


# --- precision and recall --------------------------------------------------------------------------------------------


def slow_precision_recall(real, generated, k):
    def share(points, region):
        radii = [sorted(np.linalg.norm(p - q) for q in region)[k] for p in region]  # place 0 is the point itself
        return np.mean([any(np.linalg.norm(p - q) <= r for q, r in zip(region, radii, strict=True)) for p in points])

    return share(generated, real), share(real, generated)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_shares_are_those_of_all_balls(k):
    real, generated = RNG.normal(size=(60, 3)), 0.5 * RNG.normal(size=(40, 3)) + 0.3
    found = generation.precision_recall(real, generated, k=k)
    assert (found.precision, found.recall) == slow_precision_recall(real, generated, k)


def test_points_that_occur_often_cover_their_copies_and_nothing_else():
    """Two sets of the same hundred points, each of them k + 1 times: every ball has radius 0 and holds its copies."""
    points = RNG.normal(size=(100, 32)) + 10
    for k in (1, 3):
        found = generation.precision_recall(np.repeat(points, k + 1, axis=0), np.tile(points, (k + 1, 1)), k=k)
        assert found == generation.PrecisionRecall(1, 1)
    half = np.vstack([points[:50], points[50:] + 1e-6])  # near is not equal
    found = generation.precision_recall(np.repeat(points, 4, axis=0), np.repeat(half, 4, axis=0))
    assert found == generation.PrecisionRecall(0.5, 0.5)


def test_shares_by_hand():
    """On a line: balls of real points have radius 1, those of generated ones reach 9 and 1."""
    real = np.array([[0.0], [1], [2], [3]])
    generated = np.array([[2.5], [11.5], [12.5]])
    found = generation.precision_recall(real, generated, k=1)
    assert found.precision == pytest.approx(1 / 3)  # 2.5 alone is near real points
    assert found.recall == 1  # the generated 2.5 has its neighbour 9 away: one stray point covers everything
    found = generation.precision_recall(real, np.array([[2.5], [2.6], [12.0], [12.5]]), k=1)
    assert found == generation.PrecisionRecall(0.5, 0)


def test_a_missing_class_costs_recall_and_a_wrong_one_precision():
    classes = [RNG.normal(size=(300, 4)) + 50 * i for i in range(3)]
    two, three = np.vstack(classes[:2]), np.vstack(classes)
    fresh_two, fresh_three = two + 0.1 * RNG.normal(size=two.shape), three + 0.1 * RNG.normal(size=three.shape)
    found = generation.precision_recall(three, fresh_two)
    assert found.precision > 0.95 and 0.6 < found.recall < 0.68
    found = generation.precision_recall(two, fresh_three)
    assert 0.6 < found.precision < 0.68 and found.recall > 0.95


# --- memorising ------------------------------------------------------------------------------------------------------


def test_a_fresh_sample_is_no_copy_and_copies_are_counted():
    train, held_out, fresh = (RNG.normal(size=(n, 8)) for n in (3000, 1000, 1000))
    found = generation.memorisation(fresh, train, held_out)
    assert found.share < 0.03 and abs(found.statistic) < 3
    for copies in (50, 500):
        mixed = fresh.copy()
        mixed[:copies] = train[7 : 7 + copies]
        found = generation.memorisation(mixed, train, held_out)
        assert found.share == pytest.approx(copies / 1000, abs=0.02)
        np.testing.assert_array_equal(found.nearest[:copies], np.arange(7, 7 + copies))
        assert (found.distances[:copies] == 0).all()
    assert found.statistic < -10


def test_bad_samples_hide_copies_from_z_and_not_from_the_share():
    train, held_out = RNG.normal(size=(2000, 8)), RNG.normal(size=(500, 8))
    found = generation.memorisation(np.vstack([train[:200], 5 * RNG.normal(size=(300, 8))]), train, held_out)
    assert found.share == pytest.approx(0.4, abs=0.01) and found.statistic > 0
    assert generation.memorisation(5 * RNG.normal(size=(500, 8)), train, held_out).statistic > 10


def test_z_is_standard_normal_for_samples_of_the_same_distribution():
    train = RNG.normal(size=(100, 2))
    z = [
        generation.memorisation(*RNG.normal(size=(1, 80, 2)), train, *RNG.normal(size=(1, 120, 2))).statistic
        for _ in range(300)
    ]
    assert abs(np.mean(z)) < 0.2 and np.std(z) == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize(("m", "level"), [(19, 0.05), (30, 0.1), (12, 0.25)])
def test_the_share_of_honest_samples_is_the_level_however_few_are_held_out(m, level):
    """Let each of m + 1 draws be the sample, and the others held out: the r nearest of them count, out of m + 1."""
    draws = RNG.random((m + 1, 1)) + 0.1
    shares = [
        generation.memorisation(draws[[i]], [[0.0]], np.delete(draws, i, 0), level=level).share for i in range(m + 1)
    ]
    assert np.mean(shares) <= level + 1e-12
    assert np.mean(shares) == pytest.approx({19: 1 / 20, 30: 3 / 31, 12: 3 / 13}[m])


def test_memorisation_by_hand():
    """Samples at 0.5 and 3 from the training point, held-out data at 1, 2, 4 and 5: 2 pairs of 8 are farther."""
    found = generation.memorisation([[0.5], [3]], [[0.0]], [[1.0], [2], [4], [5]], level=0.25)
    assert found.statistic == pytest.approx((2 - 4) / np.sqrt(8 * 7 / 12))
    assert found.share == 0.5 and found.level == 0.25  # 0.5 is nearer than the nearest of four
    assert generation.memorisation([[0.5], [3]], [[0.0]], [[1.0], [2], [4], [5]], level=0.8).share == 1  # the fourth
    assert list(found.distances) == [0.5, 3] and list(found.held_out_distances) == [1, 2, 4, 5]


# --- bad input -------------------------------------------------------------------------------------------------------

GOOD = RNG.normal(size=(40, 3))


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (generation.frechet_distance, (GOOD, GOOD[:, :2]), "a has 3 features and b has 2"),
        (generation.frechet_distance, (GOOD, GOOD[:3]), "b has 3 samples of 3 features"),
        (generation.frechet_distance, (GOOD, np.full((40, 3), np.nan)), "b holds 120 values that are NaN"),
        (generation.frechet_distance, (np.zeros((40, 2, 2)), GOOD), r"a has shape \(40, 2, 2\).*reshape"),
        (generation.precision_recall, (GOOD, GOOD[:3]), "k is 3, with 40 real and 3 generated samples"),
        (partial(generation.precision_recall, k=0), (GOOD, GOOD), "k is 0"),
        (generation.precision_recall, (GOOD, GOOD[:0]), "generated is empty"),
        (generation.memorisation, (GOOD, GOOD, GOOD[:, :1]), "held_out has 1 features and train has 3"),
        (generation.memorisation, (GOOD, GOOD, GOOD), "nearest 0.01 of 40 held-out samples .* at least 99"),
        (partial(generation.memorisation, level=0.1), (GOOD, GOOD, GOOD), "40 of the 40 held-out samples are also in"),
        (partial(generation.memorisation, level=1.5), (GOOD, GOOD, GOOD), "level is 1.5"),
    ],
)
def test_measures_refuse_what_they_cannot_measure(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


# --- a density on codes ----------------------------------------------------------------------------------------------


class Identity:
    """An autoencoder whose code is the sample, in another shape."""

    def encode(self, x):
        return x.reshape(-1, 2, 1)

    def decode(self, z):
        assert z.shape[1:] == (2, 1) and z.dtype == "float32"
        return z.reshape(-1, 2)


def test_one_component_is_the_normal_of_the_codes():
    x = with_moments(5000, [1.0, -2], [[2.0, 0.6], [0.6, 0.5]])
    density = generation.fit_density(Identity(), x, n_components=1)
    samples = density.sample(20000, seed=1)
    np.testing.assert_allclose(samples.mean(axis=0), [1, -2], atol=0.05)
    np.testing.assert_allclose(np.cov(samples.T), [[2, 0.6], [0.6, 0.5]], atol=0.06)
    normal = scipy.stats.multivariate_normal([1, -2], [[2, 0.6], [0.6, 0.5]])
    np.testing.assert_allclose(density.mixture.score_samples(x[:9]), normal.logpdf(x[:9]), atol=2e-3)


def test_samples_come_from_all_components_in_no_order_and_follow_the_seed():
    x = np.vstack([RNG.normal(size=(300, 2)), RNG.normal(size=(300, 2)) + 100]).astype("float32")
    density = generation.fit_density(Identity(), x, n_components=2)
    samples = density.sample(200, seed=3)
    far = samples[:, 0] > 50
    assert 60 < far.sum() < 140 and 20 < far[:100].sum() < 80  # scikit-learn returns them sorted
    np.testing.assert_array_equal(samples, density.sample(200, seed=3))
    assert (samples != density.sample(200, seed=4)).all() and (density.sample(2) != density.sample(2)).all()


def test_a_density_refuses_too_few_codes_and_what_has_none(images):
    autoencoder = models.dense_autoencoder((28, 28, 1), 8, hidden=(16,), seed=0)
    with pytest.raises(ValueError, match=r"89 codes of 8 units for 10 components; .* give 90 samples or more"):
        generation.fit_density(autoencoder, images[:89])
    assert generation.fit_density(autoencoder, images[:90]).sample(5, seed=0).shape == (5, 28, 28, 1)
    with pytest.raises(ValueError, match="all 50 codes are equal"):
        generation.fit_density(autoencoder, np.repeat(images[:1], 50, axis=0), n_components=1)
    with pytest.raises(ValueError, match="has no encode and decode"):
        generation.fit_density(autoencoder.encoder, images)
    with pytest.raises(ValueError, match="n is 0"):
        generation.fit_density(autoencoder, images).sample(0)


def parts(units=6, out=6):
    return models.dense_encoder((28, 28, 1), units, (16,), seed=0), models.dense_decoder((28, 28, 1), out, (16,))


VARIANTS = {
    "plain": lambda: models.Autoencoder(*parts()),
    "convolutional code": lambda: models.Autoencoder(
        keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(1, 7, 7)]),
        keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2DTranspose(1, 7, 7)]),
    ),
    "denoising": lambda: models.DenoisingAutoencoder(*parts(), level=0.5),
    "tied": lambda: models.TiedAutoencoder(parts()[0]),
    "k-sparse": lambda: models.KSparseAutoencoder(*parts(), k=2),
    "sparse": lambda: models.SparseAutoencoder(*parts()),
    "contractive": lambda: models.ContractiveAutoencoder(*parts()),
    "variational": lambda: models.VariationalAutoencoder(*parts(12, 6)),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_becomes_a_generator(name, images):
    autoencoder = VARIANTS[name]()
    density = generation.fit_density(autoencoder, images, n_components=2)
    samples = density.sample(7, seed=0)
    assert samples.shape == (7, 28, 28, 1) and np.isfinite(samples).all()
    assert density.code_shape == autoencoder.encode(images[:1]).shape[1:]


def test_a_k_sparse_decoder_gets_codes_of_k_units(images):
    """Of one component, draws before the k largest are kept have the mean and covariance of the encoder's outputs."""
    autoencoder = VARIANTS["k-sparse"]()
    density = generation.fit_density(autoencoder, images, n_components=1)
    outputs = np.asarray(autoencoder.encoder(images))
    np.testing.assert_allclose(density.mixture.means_[0], outputs.mean(axis=0), atol=1e-5)
    seen = []
    autoencoder.decode = lambda z: seen.append(z) or np.zeros((len(z), 1))
    density.sample(500, seed=0)
    assert ((seen[0] != 0).sum(axis=1) == 2).all()
    kept = np.sort(np.argsort(outputs, axis=1)[:, -2:], axis=1)  # which two of six, in the data and in the draws
    shares = [np.mean((rows == [4, 5]).all(axis=1)) for rows in (kept, np.nonzero(seen[0])[1].reshape(-1, 2))]
    assert abs(shares[0] - shares[1]) < 0.15


def test_a_conditional_decoder_needs_a_class_and_a_broken_one_is_named(images):
    encoder, decoder = models.dense_encoder((28, 28, 1), 4, (8,)), models.dense_decoder((28, 28, 1), 5, (8,))
    with pytest.raises(ValueError, match=r"only with a class; give cvae\.for_class\(label\)"):
        generation.fit_density(models.ConditionalVariationalAutoencoder(encoder, decoder, 3), images)
    autoencoder = VARIANTS["plain"]()
    density = generation.fit_density(autoencoder, images, n_components=1)
    autoencoder.decoder.weights[-1].assign(np.full(784, np.nan))
    with pytest.raises(ValueError, match="the decoder returns NaN or infinity"):
        density.sample(3)
    autoencoder.encoder.weights[-1].assign(np.full(6, np.nan))
    with pytest.raises(ValueError, match="the encoder returns NaN or infinity"):
        generation.fit_density(autoencoder, images)


# --- a generative adversarial network --------------------------------------------------------------------------------


def gan(seed=0):
    generator = keras.Sequential([keras.Input((3,)), layers.Dense(16, "relu"), layers.Dense(2)])
    discriminator = keras.Sequential([keras.Input((2,)), layers.Dense(16, "relu"), layers.Dense(1)])
    return generation.GenerativeAdversarialNetwork(generator, discriminator, seed=seed)


def evaluated(model, x, **options):
    """Return what `evaluate` says as numbers: older versions of Keras return tensors."""
    return {name: float(value) for name, value in model.evaluate(x, return_dict=True, **options).items()}


def test_losses_are_the_paper_s():
    """A discriminator with known logits; log(1 - sigma) in float64."""
    generator = keras.Sequential([keras.Input((2,)), layers.Activation("linear")])
    discriminator = keras.Sequential([keras.Input((2,)), layers.Dense(1, kernel_initializer="ones")])
    model = generation.GenerativeAdversarialNetwork(generator, discriminator, seed=5)
    model.compile("adam")
    x = RNG.normal(size=(256, 2)).astype("float32") + 3
    found = evaluated(model, x, batch_size=256, verbose=0)
    z = generation.GenerativeAdversarialNetwork(generator, discriminator, seed=5)(x)[1].numpy().astype("float64")
    real = 1 / (1 + np.exp(-x.astype("float64").sum(axis=1)))
    fake = 1 / (1 + np.exp(-z))
    assert found["discriminator_loss"] == pytest.approx(-np.log(real).mean() - np.log(1 - fake).mean(), rel=1e-5)
    assert found["generator_loss"] == pytest.approx(-np.log(fake).mean(), rel=1e-5)


def test_a_blind_discriminator_costs_two_and_one_log_two():
    model = gan()
    for weight in model.discriminator.weights:
        weight.assign(ops.zeros_like(weight))
    model.compile("adam")
    found = evaluated(model, np.ones((8, 2), "float32"), verbose=0)
    assert found == pytest.approx({"discriminator_loss": 2 * np.log(2), "generator_loss": np.log(2)})


def test_a_step_moves_each_player_along_its_own_gradient():
    x = RNG.normal(size=(32, 2)).astype("float32")
    model, other = gan(), gan()
    model.set_weights(other.get_weights())
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(x, batch_size=32, epochs=1, shuffle=False, verbose=0)
    z = keras.random.normal((32, 3), seed=keras.random.SeedGenerator(0))
    for player, loss in (
        ("discriminator", lambda real, fake: tf.nn.softplus(-real) + tf.nn.softplus(fake)),
        ("generator", lambda real, fake: tf.nn.softplus(-fake)),
    ):
        before, after = getattr(other, player).trainable_variables, getattr(model, player).trainable_variables
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(other.discriminator(x), other.discriminator(other.generator(z))))
        for old, new, slope in zip(before, after, tape.gradient(value, before), strict=True):
            np.testing.assert_allclose(new, old - 0.1 * slope, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_it_learns_a_distribution():
    """A correlated normal away from 0: the distance to held-out data falls far below the start's."""
    x = (RNG.normal(size=(4000, 2)) @ [[1.0, 0.8], [0, 0.6]] + [3, -2]).astype("float32")
    keras.utils.set_random_seed(0)
    model = gan()
    before = generation.frechet_distance(x[3000:], model.sample(1000, seed=0))
    model.compile(keras.optimizers.Adam(0.003, beta_1=0.5), steps_per_execution=10)
    log = model.fit(x[:3000], epochs=40, batch_size=100, verbose=0, validation_data=x[3000:]).history
    assert set(log) == {p + q + "_loss" for p in ("", "val_") for q in ("discriminator", "generator")}
    assert generation.frechet_distance(x[3000:], model.sample(1000, seed=0)) < 0.1 * before
    assert np.abs(np.array(log["discriminator_loss"][-5:]) - 2 * np.log(2)).max() < 0.3


def test_samples_follow_the_seed_and_not_the_batch_size():
    model = gan()
    samples = model.sample(50, seed=1)
    assert samples.shape == (50, 2) and samples.dtype == "float32" and isinstance(samples, np.ndarray)
    np.testing.assert_array_equal(samples, model.sample(50, seed=1))
    np.testing.assert_allclose(samples, model.sample(50, seed=1, batch_size=7), rtol=1e-5, atol=1e-6)
    assert (samples != model.sample(50, seed=2)).all() and (model.sample(2) != model.sample(2)).all()


def by_hand(model, x, z):
    """Both losses from the parts, layer by layer as outside training."""
    real, fake = model.discriminator(x), model.discriminator(model.generator(z))
    return tf.reduce_mean(tf.nn.softplus(-real)) + tf.reduce_mean(tf.nn.softplus(fake)), tf.reduce_mean(
        tf.nn.softplus(-fake)
    )


def first_codes(n, units=3, seed=0):
    return keras.random.normal((n, units), seed=keras.random.SeedGenerator(seed))


def test_each_player_pays_for_its_own_weights_and_activity():
    generator = keras.Sequential([keras.Input((3,)), layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.5))])
    discriminator = keras.Sequential([keras.Input((2,)), layers.Dense(1, activity_regularizer="l1")])
    model = generation.GenerativeAdversarialNetwork(generator, discriminator, seed=0)
    model.compile("adam")
    x = RNG.normal(size=(32, 2)).astype("float32")
    found = model.evaluate(x, verbose=0, return_dict=True)
    samples = generator(first_codes(32))
    losses = by_hand(model, x, first_codes(32))
    each = [0.01 * np.abs(discriminator(part)).sum() for part in (x, samples)]
    by_batch = np.isclose(sum(discriminator.losses), each[1] / 32)  # Keras 3.13 sums over the batch instead
    activity = sum(each) / (32 if by_batch else 1)
    assert float(found["discriminator_loss"]) == pytest.approx(float(losses[0]) + activity, rel=1e-5)
    weights = 0.5 * np.square(generator.layers[0].kernel).sum()
    assert float(found["generator_loss"]) == pytest.approx(float(losses[1]) + weights, rel=1e-5)


def test_a_step_normalises_once_for_each_batch_that_a_network_sees():
    """Moving means with momentum 1/2: the generator has seen one batch, the discriminator the data and the samples."""
    generator = keras.Sequential([keras.Input((3,)), layers.BatchNormalization(momentum=0.5), layers.Dense(2)])
    discriminator = keras.Sequential([keras.Input((2,)), layers.BatchNormalization(momentum=0.5), layers.Dense(1)])
    model = generation.GenerativeAdversarialNetwork(generator, discriminator, seed=0)
    x, z = RNG.normal(size=(64, 2)).astype("float32") + 5, np.asarray(first_codes(64))
    samples = np.asarray(generator.layers[1]((z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-3)))
    model.compile(keras.optimizers.SGD(0.1))
    model.train_on_batch(x)
    np.testing.assert_allclose(generator.layers[0].moving_mean, 0.5 * z.mean(axis=0), atol=1e-5)
    expected = 0.25 * x.mean(axis=0) + 0.5 * samples.mean(axis=0)
    np.testing.assert_allclose(discriminator.layers[0].moving_mean, expected, atol=1e-4)


def test_dropout_works_in_training_alone():
    generator = keras.Sequential([keras.Input((3,)), layers.Dense(8), layers.Dropout(0.5, seed=1), layers.Dense(2)])
    model = generation.GenerativeAdversarialNetwork(generator, gan().discriminator, seed=0)
    np.testing.assert_array_equal(model.sample(20, seed=0), model.sample(20, seed=0))
    z = RNG.normal(size=(20, 3)).astype("float32")
    assert np.abs(generator(z, training=True) - generator(z, training=True)).max() > 0.01
    model.compile("adam")
    x = RNG.normal(size=(16, 2)).astype("float32")
    losses = by_hand(model, x, first_codes(16))
    np.testing.assert_allclose(model.evaluate(x, verbose=0), losses, rtol=1e-5)


def test_half_precision_trains_as_single_does():
    x = RNG.normal(size=(64, 2)).astype("float32") + 1
    ends, start = {}, None
    for policy in ("float32", "mixed_float16", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        try:
            model = gan()
        finally:
            keras.config.set_dtype_policy("float32")
        if start is not None:
            model.set_weights(start)
        start = model.get_weights()
        model.compile(keras.optimizers.SGD(0.1))
        log = model.fit(x, batch_size=32, epochs=2, shuffle=False, verbose=0).history
        assert np.isfinite(log["generator_loss"]).all()
        ends[policy] = np.concatenate([weight.ravel() for weight in model.get_weights()])
        assert model.sample(4, seed=0).dtype == np.float32
    moved = np.abs(ends["float32"] - np.concatenate([weight.ravel() for weight in start])).max()
    assert np.abs(ends["mixed_float16"] - ends["float32"]).max() < 0.05 * moved
    assert np.abs(ends["mixed_bfloat16"] - ends["float32"]).max() < 0.3 * moved


@pytest.mark.parametrize("frozen", ["generator", "discriminator"])
def test_a_frozen_part_stays_and_the_other_learns(frozen):
    other = {"generator": "discriminator", "discriminator": "generator"}[frozen]
    model, free = gan(), gan()
    free.set_weights(model.get_weights())
    getattr(model, frozen).trainable = False
    before = [weight.copy() for weight in getattr(model, frozen).get_weights()]
    x = RNG.normal(size=(32, 2)).astype("float32")
    for one in (model, free):
        one.compile(keras.optimizers.SGD(0.1))
        one.fit(x, batch_size=32, verbose=0)
    for own, old in zip(getattr(model, frozen).get_weights(), before, strict=True):
        np.testing.assert_array_equal(own, old)
    for own, same in zip(getattr(model, other).get_weights(), getattr(free, other).get_weights(), strict=True):
        np.testing.assert_allclose(own, same, rtol=1e-5, atol=1e-7)  # both step from the same state
    getattr(model, other).trainable = False
    model.compile("adam")
    assert np.isfinite(model.train_on_batch(x)).all()  # nothing left to train, and no error


def test_a_batch_is_a_step_of_fit_and_whole_numbers_are_samples():
    x = RNG.integers(0, 3, (32, 2)).astype("uint8")
    model, other = gan(), gan()
    other.set_weights(model.get_weights())
    for one in (model, other):
        one.compile(keras.optimizers.SGD(0.1))
    log = model.fit(x.astype("float32"), batch_size=32, verbose=0).history
    assert other.train_on_batch(x) == pytest.approx([log["discriminator_loss"][0], log["generator_loss"][0]], rel=1e-5)
    for own, same in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(own, same, rtol=1e-5, atol=1e-7)


@keras.saving.register_keras_serializable("tests_generation")
class Subclassed(keras.Model):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden, self.out = layers.Dense(8, "relu"), layers.Dense(units)

    def call(self, x, training=None):
        return self.out(self.hidden(x))

    def get_config(self):
        return super().get_config() | {"units": self.units}


def subclassed():
    generator = Subclassed(2)
    generator(np.zeros((1, 3)))
    return generation.GenerativeAdversarialNetwork(generator, Subclassed(1), seed=0)


def convolutional():
    generator = keras.Sequential(
        [keras.Input((4,)), layers.Dense(2), layers.BatchNormalization(), layers.Reshape((2, 1))]
    )
    unbuilt = keras.Sequential(
        [
            layers.Reshape((2, 1)),
            layers.Conv1D(4, 2, activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.1),
            layers.Dense(1),
        ]
    )
    return generation.GenerativeAdversarialNetwork(keras.Sequential([generator, layers.Flatten()]), unbuilt)


@pytest.mark.parametrize("build", [gan, subclassed, convolutional])
def test_a_clone_has_the_form_and_not_the_weights(build):
    model = build()
    x = RNG.normal(size=(16, 2)).astype("float32")
    model(x)
    clone = keras.models.clone_model(model)
    clone(x)
    assert type(clone) is type(model) and clone.seed == model.seed and clone.sample(3).shape == (3, 2)
    assert not np.array_equal(clone.sample(9, seed=0), model.sample(9, seed=0))
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone.sample(9, seed=0), model.sample(9, seed=0))


@pytest.mark.slow
@pytest.mark.parametrize("build", [gan, subclassed, convolutional])
def test_it_trains_survives_saving_and_goes_on(build, tmp_path):
    x = RNG.normal(size=(64, 2)).astype("float32")
    model = build()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.5))
    model.fit(x, batch_size=64, verbose=0)
    model.save(tmp_path / "gan.keras")
    loaded = keras.models.load_model(tmp_path / "gan.keras")
    assert type(loaded) is type(model) and loaded.seed == model.seed
    np.testing.assert_array_equal(loaded.sample(9, seed=0), model.sample(9, seed=0))
    np.testing.assert_array_equal(loaded.discriminator(x), model.discriminator(x))
    if build is gan:
        loaded.seed_generator.state.assign(model.seed_generator.state)  # Keras begins the noise anew
        data = tf.data.Dataset.from_tensor_slices(x).batch(64)
        logs = [m.fit(data, epochs=2, verbose=0).history for m in (model, loaded)]
        assert logs[0]["generator_loss"] == pytest.approx(logs[1]["generator_loss"], rel=1e-5)  # the optimizer too
        weights = zip(model.weights, loaded.weights, strict=True)
        assert all(np.allclose(own, other, rtol=1e-4, atol=1e-6) for own, other in weights)


def test_a_network_refuses_what_it_cannot_train():
    one = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    two = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    sigmoid = keras.Sequential([keras.Input((2,)), layers.Dense(1, "sigmoid")])
    network, x = generation.GenerativeAdversarialNetwork, np.zeros((8, 2), "float32")
    with pytest.raises(ValueError, match="the generator must be a Keras layer or model, not str"):
        network("generator", one)
    with pytest.raises(ValueError, match="ends with a sigmoid; it must return logits"):
        network(two, sigmoid)
    with pytest.raises(ValueError, match="seed is -1"):
        network(two, one, seed=-1)
    with pytest.raises(ValueError, match=r"the discriminator returns \(n, 2\); it must return one logit"):
        network(two, two)(x)
    with pytest.raises(ValueError, match=r"samples of shape \(1,\) and the data have \(2,\)"):
        network(one, one)(x)
    with pytest.raises(ValueError, match="the size of the generator's codes is unknown"):
        network(Subclassed(2), one).sample(3)
    any_size = keras.Sequential([keras.Input((None, 2)), layers.GlobalAveragePooling1D()])
    with pytest.raises(ValueError, match="it has not seen one yet, or takes any"):
        network(any_size, one).sample(3)
    model = network(two, one)
    model.compile("adam")
    for bad, message in (
        (x[:, :1], r"x has shape \(8, 1\); this model takes \(n, 2\)"),
        (x * np.nan, "x holds 16 values that are NaN"),
        (x[:0], "x is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(bad)
    weights, pairs = np.ones(8), tf.data.Dataset.from_tensor_slices((x, x)).batch(4)
    for train in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match=r"y is given, .* call fit\(x\)"):
            train(x, x)
        with pytest.raises(ValueError, match="weights are given, and the generator's samples have none"):
            train(x, sample_weight=weights)
    with pytest.raises(ValueError, match="y is given"):
        model.fit(pairs, verbose=0)
    with pytest.raises(ValueError, match="y is given"):
        model.fit(x, validation_data=(x, x))
    assert "val_generator_loss" in model.fit(x, validation_data=(x,), verbose=0).history
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="the loss is 'mse'; this model has two of its own"):
        model.evaluate(x)


def test_several_devices_are_refused():
    class Two:
        num_replicas_in_sync = 2

    model = gan()
    model.compile("adam")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.distribute, "get_strategy", lambda: Two())
        with pytest.raises(ValueError, match=r"2 devices are to share the training.*outside the strategy's scope"):
            model.fit(np.zeros((8, 2), "float32"))
        with pytest.raises(ValueError, match="2 devices are to share the training"):
            generation.GenerativeAdversarialNetwork(model.generator, model.discriminator)
