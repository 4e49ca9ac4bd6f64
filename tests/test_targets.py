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
        targets.reconstruction_error(autoencoder, mask): squares[:, 3:5, 7].mean(axis=(1, 2)),
        targets.reconstruction_error(autoencoder, 3 * mask): squares[:, 3:5, 7].mean(axis=(1, 2)),
    }
    for target, values in expected.items():
        np.testing.assert_allclose(target(tf.constant(x)), values, rtol=1e-5, atol=1e-7, err_msg=target.name)


def test_targets_of_a_variational_autoencoder(vae, images):
    x = tf.constant(images[:7])
    mean, log_variance = vae.encode_distribution(images[:7])
    divergence = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance)
    np.testing.assert_allclose(targets.latent(vae, 2)(x), mean[:, 2], rtol=1e-5)
    np.testing.assert_allclose(targets.kl(vae)(x), divergence.sum(axis=1), rtol=1e-4)
    np.testing.assert_allclose(targets.kl(vae, 1)(x), divergence[:, 1], rtol=1e-3, atol=1e-6)
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


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda ae, vae: targets.latent(ae, 5),
            "there is no code unit 5: a sample has outputs of shape .5,., .*0 to 4",
        ),
        (lambda ae, vae: targets.latent(ae, -1), "there is no code unit -1"),
        (lambda ae, vae: targets.latent(vae, 3), "there is no code unit 3"),
        (lambda ae, vae: targets.kl(vae, 3), "there is no code unit 3"),
        (lambda ae, vae: targets.pixel(ae, 784), "from 0 to 783 or 3 of them, one for each axis"),
        (lambda ae, vae: targets.pixel(ae, (28, 0, 0)), r"there is no pixel \(28, 0, 0\)"),
        (lambda ae, vae: targets.pixel(ae, (1, 2)), r"there is no pixel \(1, 2\)"),
        (lambda ae, vae: targets.output(ae, 1.5), "there is no output 1.5"),
        (lambda ae, vae: targets.reconstruction_error(ae, np.ones((28, 28))), "the mask has shape"),
        (lambda ae, vae: targets.reconstruction_error(ae, np.zeros((28, 28, 1))), "must be above 0"),
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
