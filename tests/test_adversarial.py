"""Attacks where the best one is known: on linear classifiers, linear codes and decoders with a known range."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfae import adversarial, models

W = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, -1.0]], "float32")  # three features, two classes
B = np.array([0.3, 0.0], "float32")
NORMAL = W[:, 0] - W[:, 1]  # the margin of class 0 is x·normal + 0.3
X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
MARGIN = X @ NORMAL + 0.3
LABELS = (MARGIN < 0).astype(int)
DISTANCE = {"l2": np.abs(MARGIN) / np.linalg.norm(NORMAL), "linf": np.abs(MARGIN) / np.abs(NORMAL).sum()}


def linear(activation="softmax"):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, activation)])
    model.set_weights([W, B])
    return model


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_on_a_linear_classifier_an_attack_succeeds_exactly_where_the_border_is_near_enough(norm):
    epsilon = float(np.median(DISTANCE[norm]))
    result = adversarial.attack(linear(), X, LABELS, epsilon, norm, box=None)
    clear = np.abs(DISTANCE[norm] - epsilon) > 0.02 * epsilon
    np.testing.assert_array_equal(result.success[clear], (DISTANCE[norm] < epsilon)[clear])
    assert result.eligible.all() and (result.distance <= epsilon * 1.0001).all()
    assert abs(result.success_rate - 0.5) < 0.06
    changed = ((result.x @ NORMAL + 0.3) < 0).astype(int)
    np.testing.assert_array_equal(changed != LABELS, result.success)


def test_a_saturated_softmax_does_not_hide_the_gradient():
    model = linear()
    model.set_weights([W * 300, B * 300])
    result = adversarial.attack(model, X, LABELS, 1.05 * float(DISTANCE["l2"].max()), box=None)
    assert result.success_rate == 1
    blind = adversarial.attack(lambda x: model(x), X, LABELS, 1.05 * float(DISTANCE["l2"].max()), box=None)
    assert blind.success_rate < 1  # the same network behind its softmax: floats round its gradient to 0


def test_a_counterfactual_lies_at_the_border():
    to_class = 1 - LABELS
    result = adversarial.counterfactual(linear(), X, to_class, max_epsilon=8, halvings=10, box=None)
    assert result.success.all()
    np.testing.assert_allclose(result.distance, DISTANCE["l2"], atol=8 / 2**10 + 0.01 * DISTANCE["l2"].max())
    too_near = adversarial.counterfactual(linear(), X, to_class, max_epsilon=float(np.median(DISTANCE["l2"])), box=None)
    assert 0.4 < too_near.success_rate < 0.6


def test_misclassified_samples_are_not_counted():
    wrong = LABELS.copy()
    wrong[:10] = 1 - wrong[:10]
    result = adversarial.attack(linear(), X, wrong, 100.0, box=None)
    assert not result.eligible[:10].any() and not result.success[:10].any() and result.success[10:].all()
    assert result.success_rate == 1
    assert np.isnan(adversarial.attack(linear(), X, 1 - LABELS, 1.0, box=None).success_rate)


def test_images_stay_in_their_box_and_in_the_ball(images):
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10)])
    labels = np.argmax(model(images[:9]), axis=1)
    for norm, epsilon in (("l2", 2.0), ("linf", 0.1)):
        result = adversarial.attack(model, images[:9], labels, epsilon, norm, seed=1)
        noise = adversarial.random_change(images[:9], epsilon, norm)
        for changed in (result.x, noise):
            assert changed.min() >= 0 and changed.max() <= 1
            size = np.abs(changed - images[:9]).max(axis=(1, 2, 3))
            if norm == "l2":
                size = np.linalg.norm((changed - images[:9]).reshape(9, -1), axis=1)
            assert (size <= epsilon * 1.001).all() and size.min() > 0.5 * epsilon
        again = adversarial.attack(model, images[:9], labels, epsilon, norm, seed=1)
        np.testing.assert_array_equal(again.x, result.x)


def test_an_attack_with_a_goal_reaches_that_class():
    centres = 3 * np.eye(3, dtype="float32")
    result = adversarial.attack(
        lambda x: -tf.reduce_sum((x[:, None] - centres) ** 2, axis=2),
        centres,
        [0, 1, 2],
        3.0,
        to_class=[1, 2, 0],
        box=None,
    )
    assert result.success.all()
    assert (np.argmin(((result.x[:, None] - centres) ** 2).sum(axis=2), axis=1) == [1, 2, 0]).all()


def line_autoencoder():
    """Codes are the first two features of three; the decoder puts 0 for the third."""
    encoder = keras.Sequential([keras.Input((3,)), layers.Dense(2, use_bias=False)])
    decoder = keras.Sequential([keras.Input((2,)), layers.Dense(3, use_bias=False)])
    encoder.set_weights([np.eye(3)[:, :2]])
    decoder.set_weights([np.eye(3)[:2]])
    return models.Autoencoder(encoder, decoder)


def test_an_attack_in_code_space_moves_only_what_the_decoder_can_draw():
    autoencoder, flat = line_autoencoder(), X * [1, 1, 0]
    margin = flat @ NORMAL + 0.3
    labels = (margin < 0).astype(int)
    result = adversarial.counterfactual(linear(), flat, 1 - labels, autoencoder, max_epsilon=8, halvings=10)
    assert result.success.all() and (result.x[:, 2] == 0).all()
    distance = np.abs(margin) / np.linalg.norm(NORMAL[:2])
    np.testing.assert_allclose(result.distance, distance, atol=8 / 2**10 + 0.01 * distance.max())


def test_the_attack_on_a_linear_code_moves_it_along_its_largest_singular_direction():
    directions = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 3)))[0]
    matrix = (directions * [3, 1, 0.5]).astype("float32")
    encoder = keras.Sequential([keras.Input((6,)), layers.Dense(3, use_bias=False)])
    encoder.set_weights([matrix])
    autoencoder = models.Autoencoder(encoder, keras.Sequential([keras.Input((3,)), layers.Dense(6)]))
    x = np.zeros((4, 6), "float32")
    changed, moved = adversarial.attack_code(autoencoder, x, 0.5, box=None, steps=100)
    largest = 0.5 * 3
    np.testing.assert_allclose(moved, largest, rtol=0.02)
    assert (moved <= largest * 1.0001).all()
    noise = adversarial.random_change(x, 0.5, box=None)
    assert np.linalg.norm(autoencoder.encode(noise), axis=1).mean() < moved.mean()
    np.testing.assert_allclose(np.linalg.norm(changed, axis=1), 0.5, rtol=1e-4)


def test_the_nearest_normal_is_the_nearest_point_of_the_decoders_range():
    rng = np.random.default_rng(0)
    autoencoder = line_autoencoder()
    autoencoder.encoder.set_weights([rng.normal(size=(3, 2))])  # a poor encoder: the reconstruction is not the nearest
    x = rng.normal(size=(7, 3)).astype("float32")
    nearest, distance = adversarial.nearest_normal(autoencoder, x, steps=400)
    np.testing.assert_allclose(nearest, x * [1, 1, 0], atol=0.02)
    np.testing.assert_allclose(distance, np.abs(x[:, 2]), atol=0.01)
    start = np.linalg.norm(autoencoder.reconstruct(x) - x, axis=1)
    assert (adversarial.nearest_normal(autoencoder, x, steps=1)[1] <= start + 1e-6).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: adversarial.attack(linear(), X, LABELS, 1.0, norm="l1"),
            "unknown norm 'l1'; the known ones are l2, linf",
        ),
        (lambda: adversarial.attack(linear(), X, LABELS, -1.0), "epsilon is -1.0"),
        (lambda: adversarial.attack(linear(), X, LABELS, float("nan")), "epsilon is nan"),
        (lambda: adversarial.attack(linear(), X, LABELS + 1, 1.0), "labels must be whole numbers from 0 to 1"),
        (lambda: adversarial.attack(linear(), X, LABELS[:3], 1.0), "one for each of the 40 samples"),
        (lambda: adversarial.attack(linear(), X, None, 1.0), "labels are missing"),
        (lambda: adversarial.attack(linear(), X, LABELS, 1.0, to_class=2), "to_class must be whole numbers"),
        (lambda: adversarial.attack(lambda x: x[:, 0], X, LABELS, 1.0), r"it must be \(1, classes\)"),
        (lambda: adversarial.attack(lambda x: tf.ones((len(x), 2)), X, LABELS, 1.0), "no direction to search in"),
        (lambda: adversarial.attack(linear(), X[:0], LABELS[:0], 1.0), "x is empty"),
        (lambda: adversarial.attack(linear(), X * np.inf, LABELS, 1.0), "NaN or infinite"),
        (lambda: adversarial.counterfactual(linear(), X, 1, max_epsilon=0), "max_epsilon is 0"),
        (lambda: adversarial.random_change(X, 1.0, norm="l3"), "unknown norm"),
        (lambda: adversarial.nearest_normal(line_autoencoder(), X, steps=0), "steps is 0"),
        (lambda: adversarial.nearest_normal(line_autoencoder(), X[:, :2]), "x has shape"),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
