"""Each target is the number it says it is, whatever form the network has."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfae import attribution, models, targets


@pytest.fixture(scope="module")
def autoencoder():
    return models.dense_autoencoder((28, 28, 1), 5, hidden=(16,), seed=0)


@pytest.fixture(scope="module")
def vae():
    encoder = models.dense_encoder((28, 28, 1), 6, hidden=(16,), seed=0)
    return models.VariationalAutoencoder(encoder, models.dense_decoder((28, 28, 1), 3, hidden=(16,), seed=1))


def test_targets_of_an_autoencoder_are_its_own_answers(autoencoder, images):
    x = images[:7]
    codes, reconstruction = autoencoder.encode(x), autoencoder.reconstruct(x)
    squares = (reconstruction - x) ** 2
    mask = np.zeros((28, 28, 1))
    mask[3:5, 7] = 1
    expected = {
        targets.latent(autoencoder, 3): codes[:, 3],
        targets.pixel(autoencoder, (4, 7, 0)): reconstruction[:, 4, 7, 0],
        targets.pixel(autoencoder, 4 * 28 + 7): reconstruction[:, 4, 7, 0],
        targets.output(autoencoder.encoder, 0): codes[:, 0],
        targets.reconstruction_error(autoencoder): autoencoder.reconstruction_error(x),
        targets.reconstruction_error(autoencoder, mask=mask): squares[:, 3:5, 7].mean(axis=(1, 2)),
        targets.reconstruction_error(autoencoder, mask=3 * mask): squares[:, 3:5, 7].mean(axis=(1, 2)),
    }
    for target, values in expected.items():
        np.testing.assert_allclose(target(tf.constant(x)), values, rtol=1e-5, atol=1e-7, err_msg=target.name)


def test_targets_of_a_variational_autoencoder(vae, images):
    x = tf.constant(images[:7])
    mean, log_variance = vae.encode_distribution(images[:7])
    divergence = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)
    np.testing.assert_allclose(targets.latent(vae, 2)(x), mean[:, 2], rtol=1e-5)
    np.testing.assert_allclose(targets.kl(vae)(x), divergence.sum(axis=1), rtol=1e-4)
    np.testing.assert_allclose(targets.kl(vae, unit=1)(x), divergence[:, 1], rtol=1e-3, atol=1e-6)
    many = targets.elbo(vae, n_samples=2000)(x)
    np.testing.assert_allclose(many, vae.elbo(images[:7], n_samples=2000), rtol=2e-3)


def test_the_noise_of_the_elbo_is_frozen(vae, images):
    target = targets.elbo(vae, n_samples=2, seed=1)
    together = target(tf.constant(images[:5]))
    np.testing.assert_allclose(together, [target(tf.constant(images[i : i + 1]))[0] for i in range(5)], rtol=1e-5)
    np.testing.assert_array_equal(together, targets.elbo(vae, n_samples=2, seed=1)(tf.constant(images[:5])))
    assert not np.allclose(together, targets.elbo(vae, n_samples=2, seed=2)(tf.constant(images[:5])), rtol=1e-5)


def test_targets_run_as_in_inference(images):
    noisy = models.DenoisingAutoencoder(
        models.dense_encoder((28, 28, 1), 4, hidden=(8,)), models.dense_decoder((28, 28, 1), 4, hidden=(8,)), level=1.0
    )
    target = targets.reconstruction_error(noisy)
    np.testing.assert_allclose(target(tf.constant(images[:4])), noisy.reconstruction_error(images[:4]), rtol=1e-5)


def heads():
    """One classifier, its softmax written in four ways."""
    x = keras.Input((4,))
    fused = [keras.Input((4,)), layers.Dense(3, "softmax")]
    return {
        "inside Dense": keras.Sequential(fused),
        "Activation": keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Activation("softmax")]),
        "Softmax": keras.Model(x, layers.Softmax()(layers.Dense(3)(x))),
        "reshaped": keras.Sequential([keras.Sequential(fused), layers.Reshape((3, 1)), layers.Flatten()]),
    }


@pytest.mark.parametrize("form", heads())
def test_a_logit_is_the_number_before_the_softmax(form):
    model, x = heads()[form], np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    w, b = model.get_weights()
    target = targets.logit(model, 2)
    for _ in range(2):
        np.testing.assert_allclose(target(tf.constant(x)), (x @ w + b)[:, 2], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model(x), keras.ops.softmax(x @ w + b), rtol=1e-5)  # the model is as it was
    np.testing.assert_allclose(attribution.gradient(target, x).values, np.tile(w[:, 2], (6, 1)), rtol=1e-5)
    np.testing.assert_allclose(attribution.lrp(target, x, epsilon=1e-9).values, x * w[:, 2], rtol=1e-4, atol=1e-6)


class Ending(keras.Model):
    """A subclassed classifier that ends in any function."""

    def __init__(self, end, activation=None):
        super().__init__()
        self.last, self.end = layers.Dense(3, activation), end

    def call(self, x):
        return self.end(self.last(x))


@pytest.mark.parametrize("softmax", [keras.ops.softmax, tf.nn.softmax])
def test_a_softmax_that_is_no_layer_is_refused_instead_of_explained(softmax):
    """Its outputs are probabilities, with and without the activation of the last layer."""
    with pytest.raises(ValueError, match=r"goes on computing after its last layer.*Make it one, layers\.Softmax"):
        targets.logit(Ending(softmax), 0)(tf.ones((2, 4)))
    with pytest.raises(ValueError, match=r"goes on computing"):  # also where no sample comes to the bound
        targets.logit(Ending(lambda z: tf.minimum(z, 1e9), "relu"), 0)(tf.ones((2, 4)))


def test_a_change_of_shape_that_is_no_layer_and_a_layer_of_ones_own_are_no_obstacle():
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    column = lambda p: tf.cast(tf.expand_dims(tf.reshape(p, (-1, 3)), -1), "float64")  # noqa: E731
    for end, activation in ((column, "softmax"), (layers.Softmax(), None)):
        model = Ending(end, activation)
        model(x)
        w, b = model.get_weights()
        np.testing.assert_allclose(targets.logit(model, 1)(x), (x @ w + b)[:, 1], rtol=1e-4, atol=1e-6)


def test_a_layer_whose_activation_counts_more_than_once_is_refused():
    shared = layers.Dense(4, "relu", name="shared")
    x = keras.Input((4,))
    with pytest.raises(ValueError, match="layer 'shared' is called 2 times"):
        targets.logit(keras.Model(x, shared(shared(x))), 0)(tf.ones((2, 4)))
    recurrent = keras.Sequential([keras.Input((3, 2)), layers.SimpleRNN(4)])
    with pytest.raises(ValueError, match=r"explain|called"):
        targets.logit(recurrent, 0)(tf.ones((2, 3, 2)))


def test_the_first_call_of_a_logit_may_be_inside_a_graph():
    model, x = heads()["Softmax"], np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    w, b = model.get_weights()
    found = tf.function(targets.logit(model, 2), autograph=False)(tf.constant(x))
    np.testing.assert_allclose(found, (x @ w + b)[:, 2], rtol=1e-4, atol=1e-6)


def test_a_conditional_model_is_asked_about_its_code_and_needs_its_class_for_the_rest(images):
    encoder = models.dense_encoder((28, 28, 1), 6, hidden=(8,), seed=0)
    cvae = models.ConditionalVariationalAutoencoder(
        encoder, models.dense_decoder((28, 28, 1), 3 + 2, hidden=(8,), seed=1), 2
    )
    x, both = tf.constant(images[:4]), encoder(images[:4])
    np.testing.assert_allclose(targets.latent(cvae, 1)(x), both[:, 1], rtol=1e-5)
    mean, log_variance = np.asarray(both[:, 2]), np.asarray(both[:, 5])
    divergence = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)
    np.testing.assert_allclose(targets.kl(cvae, unit=2)(x), divergence, rtol=1e-3, atol=1e-6)
    for target in (targets.reconstruction_error(cvae), targets.pixel(cvae, 0), targets.elbo(cvae)):
        with pytest.raises(ValueError, match="for_class"):
            target(x)
    of_one = targets.reconstruction_error(cvae.for_class(1))(x)
    np.testing.assert_allclose(of_one, cvae.reconstruction_error(images[:4], labels=1), rtol=1e-5)


# --- precision -------------------------------------------------------------------------------------------------------


@pytest.fixture
def policy():
    """Set the dtype policy of new layers for one test."""
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_targets_are_computed_in_float32_at_least(precision, policy):
    """Errors of hundreds have squares beyond 65504, where half precision ends."""
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32") * 400
    policy(precision)
    encoder, decoder = (keras.Sequential([keras.Input((4,)), layers.Dense(4)]) for _ in range(2))
    autoencoder = models.Autoencoder(encoder, decoder)
    (w, b, v, c), rough = autoencoder.get_weights(), 0.02 if precision != "float64" else 1e-6
    codes = x @ w + b
    error = ((codes @ v + c - x) ** 2).mean(axis=1)
    assert error.max() > 65504
    for target, wanted in (
        (targets.reconstruction_error(autoencoder), error),
        (targets.latent(autoencoder, 1), codes[:, 1]),
        (targets.pixel(autoencoder, 2), (codes @ v + c)[:, 2]),
        (targets.logit(decoder, 0), (x @ v + c)[:, 0]),
    ):
        for samples in (x, tf.constant(x), x.astype("float64")):
            found = np.asarray(target(samples))
            assert found.dtype in ("float32", "float64")
            np.testing.assert_allclose(found, wanted, rtol=rough, atol=rough * np.abs(wanted).max())


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_bound_in_mixed_precision_is_the_bound(likelihood, policy, images):
    def build():
        encoder = models.dense_encoder((28, 28, 1), 6, hidden=(8,), seed=0)
        decoder = models.dense_decoder((28, 28, 1), 3, hidden=(8,), seed=1)
        return models.VariationalAutoencoder(encoder, decoder, likelihood=likelihood)

    full = build()
    policy("mixed_float16")
    mixed = build()
    for of in (targets.elbo, targets.kl):
        found = of(mixed)(images[:5])
        assert found.dtype == "float32"
        np.testing.assert_allclose(found, of(full)(images[:5]), rtol=0.01, atol=1e-4)


def test_whole_numbers_are_taken_for_what_they_are():
    x = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1)).astype("uint8")
    for autoencoder in (models.dense_autoencoder((8, 8, 1), 3, (8,)), models.conv_autoencoder((8, 8, 1), 3)):
        target = targets.reconstruction_error(autoencoder)
        wanted = ((np.asarray(autoencoder(x.astype("float32"))) - x.astype("float64")) ** 2).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(target(x), wanted, rtol=1e-5)
        np.testing.assert_allclose(target(tf.constant(x)), wanted, rtol=1e-5)


# --- errors ----------------------------------------------------------------------------------------------------------


class Pair(keras.Model):
    def call(self, x):
        return {"a": x, "b": x}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda ae, vae: targets.latent(ae, 5),
            "there is no code unit 5: a sample has outputs of shape .5,., .*0 to 4",
        ),
        (lambda ae, vae: targets.latent(ae, -1), "there is no code unit -1"),
        (lambda ae, vae: targets.latent(vae, 3), "there is no code unit 3"),
        (lambda ae, vae: targets.kl(vae, unit=3), "there is no code unit 3"),
        (lambda ae, vae: targets.pixel(ae, 784), "from 0 to 783 or 3 of them, one for each axis"),
        (lambda ae, vae: targets.pixel(ae, (28, 0, 0)), r"there is no pixel \(28, 0, 0\)"),
        (lambda ae, vae: targets.pixel(ae, (1, 2)), r"there is no pixel \(1, 2\)"),
        (lambda ae, vae: targets.output(ae, 1.5), "there is no output 1.5"),
        (lambda ae, vae: targets.reconstruction_error(ae, mask=np.ones((28, 28))), "the mask has shape"),
        (lambda ae, vae: targets.reconstruction_error(ae.encoder), r"the reconstruction has shape \(5,\) and a sample"),
        (
            lambda ae, vae: targets.latent(ae.encoder, 0),
            "needs an autoencoder, which has a code, and is given a Sequent",
        ),
        (lambda ae, vae: targets.kl(ae), "needs a VariationalAutoencoder, .* is given a Autoencoder"),
        (lambda ae, vae: targets.elbo(ae), "needs a VariationalAutoencoder, .* is given a Autoencoder"),
        (lambda ae, vae: targets.output(Pair(), 0), "returns a dict; a target reads one tensor"),
        (lambda ae, vae: targets.reconstruction_error(ae, mask=np.zeros((28, 28, 1))), "must be above 0"),
        (lambda ae, vae: targets.elbo(vae, n_samples=0), "n_samples is 0"),
        (
            lambda ae, vae: targets.logit(keras.Sequential([keras.Input((28, 28, 1)), layers.MaxPooling2D()]), 0),
            "ends with 'max_pooling2d.*no activation to leave out",
        ),
    ],
)
def test_says_what_is_wrong(build, message, autoencoder, vae, images):
    with pytest.raises(ValueError, match=message):
        build(autoencoder, vae)(tf.constant(images[:2]))
