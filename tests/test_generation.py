"""Distances between distributions against closed forms and slow loops; copies caught; a density and a GAN."""

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
    assert generation.precision_recall(real, generated, k) == slow_precision_recall(real, generated, k)


def test_shares_by_hand():
    """On a line: balls of real points have radius 1, those of generated ones reach 9 and 1."""
    real = np.array([[0.0], [1], [2], [3]])
    generated = np.array([[2.5], [11.5], [12.5]])
    precision, recall = generation.precision_recall(real, generated, 1)
    assert precision == pytest.approx(1 / 3)  # 2.5 alone is near real points
    assert recall == 1  # the generated 2.5 has its neighbour 9 away: one stray point covers everything
    assert generation.precision_recall(real, np.array([[2.5], [2.6], [12.0], [12.5]]), 1) == (0.5, 0)


def test_a_missing_class_costs_recall_and_a_wrong_one_precision():
    classes = [RNG.normal(size=(300, 4)) + 50 * i for i in range(3)]
    two, three = np.vstack(classes[:2]), np.vstack(classes)
    fresh_two, fresh_three = two + 0.1 * RNG.normal(size=two.shape), three + 0.1 * RNG.normal(size=three.shape)
    precision, recall = generation.precision_recall(three, fresh_two)
    assert precision > 0.95 and 0.6 < recall < 0.68
    precision, recall = generation.precision_recall(two, fresh_three)
    assert 0.6 < precision < 0.68 and recall > 0.95


# --- memorising ------------------------------------------------------------------------------------------------------


def test_a_fresh_sample_is_no_copy_and_copies_are_counted():
    train, held_out, fresh = (RNG.normal(size=(n, 8)) for n in (3000, 1000, 1000))
    found = generation.memorisation(fresh, train, held_out)
    assert found.share < 0.03 and abs(found.z) < 3
    for copies in (50, 500):
        mixed = fresh.copy()
        mixed[:copies] = train[7 : 7 + copies]
        found = generation.memorisation(mixed, train, held_out)
        assert found.share == pytest.approx(copies / 1000, abs=0.02)
        np.testing.assert_array_equal(found.nearest[:copies], np.arange(7, 7 + copies))
        assert (found.distances[:copies] == 0).all()
    assert found.z < -10


def test_bad_samples_hide_copies_from_z_and_not_from_the_share():
    train, held_out = RNG.normal(size=(2000, 8)), RNG.normal(size=(500, 8))
    found = generation.memorisation(np.vstack([train[:200], 5 * RNG.normal(size=(300, 8))]), train, held_out)
    assert found.share == pytest.approx(0.4, abs=0.01) and found.z > 0
    assert generation.memorisation(5 * RNG.normal(size=(500, 8)), train, held_out).z > 10


def test_z_is_standard_normal_for_samples_of_the_same_distribution():
    train = RNG.normal(size=(100, 2))
    z = [
        generation.memorisation(*RNG.normal(size=(1, 80, 2)), train, *RNG.normal(size=(1, 120, 2))).z
        for _ in range(300)
    ]
    assert abs(np.mean(z)) < 0.2 and np.std(z) == pytest.approx(1, abs=0.12)


def test_memorisation_by_hand():
    """Samples at 0.5 and 3 from the training point, held-out data at 1, 2, 4 and 5: 2 pairs of 8 are farther."""
    found = generation.memorisation([[0.5], [3]], [[0.0]], [[1.0], [2], [4], [5]], level=0.25)
    assert found.z == pytest.approx((2 - 4) / np.sqrt(8 * 7 / 12))
    assert found.share == 0.5 and found.level == 0.25  # 0.5 is nearer than the lower quartile
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
        (generation.precision_recall, (GOOD, GOOD, 0), "k is 0"),
        (generation.precision_recall, (GOOD, GOOD[:0]), "generated is empty"),
        (generation.memorisation, (GOOD, GOOD, GOOD[:, :1]), "held_out has 1 features and train has 3"),
        (generation.memorisation, (GOOD, GOOD, GOOD), "nearest 0.01 of 40 held-out samples .* at least 100"),
        (generation.memorisation, (GOOD, GOOD, GOOD, 0.1), "40 of the 40 held-out samples are also in the training"),
        (generation.memorisation, (GOOD, GOOD, GOOD, 1.5), "level is 1.5"),
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
    density = generation.fit_density(Identity(), x, 1)
    samples = density.sample(20000, seed=1)
    np.testing.assert_allclose(samples.mean(axis=0), [1, -2], atol=0.05)
    np.testing.assert_allclose(np.cov(samples.T), [[2, 0.6], [0.6, 0.5]], atol=0.06)
    normal = scipy.stats.multivariate_normal([1, -2], [[2, 0.6], [0.6, 0.5]])
    np.testing.assert_allclose(density.mixture.score_samples(x[:9]), normal.logpdf(x[:9]), atol=2e-3)


def test_samples_come_from_all_components_in_no_order_and_follow_the_seed():
    x = np.vstack([RNG.normal(size=(300, 2)), RNG.normal(size=(300, 2)) + 100]).astype("float32")
    density = generation.fit_density(Identity(), x, 2)
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
        generation.fit_density(autoencoder, np.repeat(images[:1], 50, axis=0), 1)
    with pytest.raises(ValueError, match="has no encode and decode"):
        generation.fit_density(autoencoder.encoder, images)
    with pytest.raises(ValueError, match="n is 0"):
        generation.fit_density(autoencoder, images).sample(0)


# --- a generative adversarial network --------------------------------------------------------------------------------


def gan(seed=0):
    generator = keras.Sequential([keras.Input((3,)), layers.Dense(16, "relu"), layers.Dense(2)])
    discriminator = keras.Sequential([keras.Input((2,)), layers.Dense(16, "relu"), layers.Dense(1)])
    return generation.GenerativeAdversarialNetwork(generator, discriminator, seed=seed)


def test_losses_are_the_paper_s():
    """A discriminator with known logits; log(1 - sigma) in float64."""
    generator = keras.Sequential([keras.Input((2,)), layers.Activation("linear")])
    discriminator = keras.Sequential([keras.Input((2,)), layers.Dense(1, kernel_initializer="ones")])
    model = generation.GenerativeAdversarialNetwork(generator, discriminator, seed=5)
    model.compile("adam")
    x = RNG.normal(size=(256, 2)).astype("float32") + 3
    found = model.evaluate(x, batch_size=256, verbose=0, return_dict=True)
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
    found = model.evaluate(np.ones((8, 2), "float32"), verbose=0, return_dict=True)
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
def test_it_trains_survives_saving_and_goes_on(build, tmp_path):
    x = RNG.normal(size=(64, 2)).astype("float32")
    model = build()
    model.compile(keras.optimizers.Adam(0.01, beta_1=0.5))
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
    with pytest.raises(ValueError, match="the size of its codes is unknown"):
        network(Subclassed(2), one).sample(3)
    model = network(two, one)
    model.compile("adam")
    for bad, message in (
        (x[:, :1], r"x has shape \(8, 1\); this model takes \(n, 2\)"),
        (x * np.nan, "x holds 16 values that are NaN"),
        (x[:0], "x is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(bad)
    with pytest.raises(ValueError, match=r"y is given, .* call fit\(x\)"):
        model.fit(x, x)
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="the loss is 'mse'; this model has two of its own"):
        model.evaluate(x)
