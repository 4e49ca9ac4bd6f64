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
    result = adversarial.attack(linear(), X, LABELS, epsilon, norm=norm, box=None)
    clear = np.abs(DISTANCE[norm] - epsilon) > 0.02 * epsilon
    np.testing.assert_array_equal(result.success[clear], (DISTANCE[norm] < epsilon)[clear])
    assert result.eligible.all() and (result.distance <= epsilon * 1.0001).all()
    assert abs(result.success_share - 0.5) < 0.06
    changed = ((result.x @ NORMAL + 0.3) < 0).astype(int)
    np.testing.assert_array_equal(changed != LABELS, result.success)


def test_a_saturated_softmax_does_not_hide_the_gradient():
    model = linear()
    model.set_weights([W * 300, B * 300])
    result = adversarial.attack(model, X, LABELS, 1.05 * float(DISTANCE["l2"].max()), box=None)
    assert result.success_share == 1
    blind = adversarial.attack(lambda x: model(x), X, LABELS, 1.05 * float(DISTANCE["l2"].max()), box=None)
    assert blind.success_share < 1  # the same network behind its softmax: floats round its gradient to 0


@pytest.mark.slow
def test_a_counterfactual_lies_at_the_border():
    to_class = 1 - LABELS
    result = adversarial.counterfactual(linear(), X, to_class, max_epsilon=4, halvings=8, box=None)
    assert result.success.all()
    np.testing.assert_allclose(result.distance, DISTANCE["l2"], rtol=0.02, atol=4 / 2**8)
    median = float(np.median(DISTANCE["l2"]))
    too_near = adversarial.counterfactual(linear(), X, to_class, max_epsilon=median, halvings=1, box=None)
    assert 0.4 < too_near.success_share < 0.6


def test_misclassified_samples_are_not_counted():
    wrong = LABELS.copy()
    wrong[:10] = 1 - wrong[:10]
    result = adversarial.attack(linear(), X, wrong, 100.0, box=None)
    assert not result.eligible[:10].any() and not result.success[:10].any() and result.success[10:].all()
    assert result.success_share == 1
    assert np.isnan(adversarial.attack(linear(), X, 1 - LABELS, 1.0, box=None).success_share)


def test_images_stay_in_their_box_and_in_the_ball(images):
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10)])
    labels = np.argmax(model(images[:9]), axis=1)
    for norm, epsilon in (("l2", 2.0), ("linf", 0.1)):
        result = adversarial.attack(model, images[:9], labels, epsilon, norm=norm, seed=1)
        noise = adversarial.random_change(images[:9], epsilon, norm=norm)
        for changed in (result.x, noise):
            assert changed.min() >= 0 and changed.max() <= 1
            size = np.abs(changed - images[:9]).max(axis=(1, 2, 3))
            if norm == "l2":
                size = np.linalg.norm((changed - images[:9]).reshape(9, -1), axis=1)
            assert (size <= epsilon * 1.001).all() and size.min() > 0.5 * epsilon
        again = adversarial.attack(model, images[:9], labels, epsilon, norm=norm, seed=1)
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


@pytest.mark.slow
def test_an_attack_in_code_space_moves_only_what_the_decoder_can_draw():
    autoencoder, flat = line_autoencoder(), X * [1, 1, 0]
    margin = flat @ NORMAL + 0.3
    labels = (margin < 0).astype(int)
    result = adversarial.counterfactual(linear(), flat, 1 - labels, autoencoder=autoencoder, max_epsilon=4, halvings=7)
    assert result.success.all() and (result.x[:, 2] == 0).all()
    distance = np.abs(margin) / np.linalg.norm(NORMAL[:2])
    np.testing.assert_allclose(result.distance, distance, rtol=0.02, atol=4 / 2**7)


def test_the_attack_on_a_linear_code_moves_it_along_its_largest_singular_direction():
    directions = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 3)))[0]
    matrix = (directions * [3, 1, 0.5]).astype("float32")
    encoder = keras.Sequential([keras.Input((6,)), layers.Dense(3, use_bias=False)])
    encoder.set_weights([matrix])
    autoencoder = models.Autoencoder(encoder, keras.Sequential([keras.Input((3,)), layers.Dense(6)]))
    x = np.zeros((4, 6), "float32")
    result = adversarial.attack_code(autoencoder, x, 0.5, box=None, steps=100)
    largest, moved = 0.5 * 3, result.code_distance
    np.testing.assert_allclose(moved, largest, rtol=0.02)
    assert (moved <= largest * 1.0001).all()
    noise = adversarial.random_change(x, 0.5, box=None)
    assert np.linalg.norm(autoencoder.encode(noise), axis=1).mean() < moved.mean()
    np.testing.assert_allclose(np.linalg.norm(result.x, axis=1), 0.5, rtol=1e-4)
    np.testing.assert_allclose(result.distance, 0.5, rtol=1e-4)


def test_the_nearest_normal_is_the_nearest_point_of_the_decoders_range():
    rng = np.random.default_rng(0)
    autoencoder = line_autoencoder()
    autoencoder.encoder.set_weights([rng.normal(size=(3, 2))])  # a poor encoder: the reconstruction is not the nearest
    x = rng.normal(size=(7, 3)).astype("float32")
    found = adversarial.nearest_normal(autoencoder, x, steps=120, learning_rate=0.15)
    np.testing.assert_allclose(found.x, x * [1, 1, 0], atol=0.02)
    np.testing.assert_allclose(found.z, x[:, :2], atol=0.02)
    np.testing.assert_allclose(found.distance, np.abs(x[:, 2]), atol=0.01)
    start = np.linalg.norm(autoencoder.reconstruct(x) - x, axis=1)
    assert (adversarial.nearest_normal(autoencoder, x, steps=1).distance <= start + 1e-6).all()


def test_codes_with_places_are_attacked_and_searched():
    """Codes of shape (2, 1, 2): a fourth of the features each, times 3, 1, 1 and 1, and decoded to what they were."""
    scale = np.array([3, 1, 1, 1], "float32")
    encoder = keras.Sequential([keras.Input((4,)), layers.Dense(4, use_bias=False), layers.Reshape((2, 1, 2))])
    decoder = keras.Sequential([keras.Input((2, 1, 2)), layers.Flatten(), layers.Dense(4, use_bias=False)])
    encoder.set_weights([np.diag(scale)])
    decoder.set_weights([np.diag(1 / scale)])
    autoencoder, x = models.Autoencoder(encoder, decoder), np.zeros((3, 4), "float32")
    result = adversarial.attack_code(autoencoder, x, 0.5, box=None, steps=60)
    np.testing.assert_allclose(result.code_distance, 3 * 0.5, rtol=0.02)
    np.testing.assert_allclose(adversarial.nearest_normal(autoencoder, x + 1, steps=1).distance, 0, atol=1e-5)


# --- what is promised of each answer ---------------------------------------------------------------------------------


def test_a_counterfactual_succeeds_exactly_where_the_classifier_sees_the_class():
    """A bumpy border, on which a search in a larger ball may miss what a search in a smaller one finds."""

    def bumpy(x):
        score = x[:, 0] - 1 + 0.6 * tf.sin(9 * x[:, 1]) * tf.cos(7 * x[:, 0])
        return tf.stack([-score, score], axis=1)

    x = np.random.default_rng(0).normal(size=(60, 2)).astype("float32")
    result = adversarial.counterfactual(bumpy, x, 1, max_epsilon=6, steps=6, box=None)
    largest = adversarial.attack(bumpy, x, None, 6.0, to_class=1, steps=6, box=None)
    assert (result.success & result.eligible & ~largest.success).any()  # the largest radius failed, a smaller did not
    np.testing.assert_array_equal(result.success, np.argmax(bumpy(result.x), axis=1) == 1)
    np.testing.assert_allclose(result.distance, np.linalg.norm(result.x - x, axis=1), rtol=1e-4, atol=1e-5)


def test_what_is_in_the_class_already_is_its_own_counterfactual():
    autoencoder, flat = line_autoencoder(), (X * [1, 1, 0]).astype("float32")
    for coder, x, labels in ((None, X, LABELS), (autoencoder, flat, (flat @ NORMAL + 0.3 < 0).astype(int))):
        result = adversarial.counterfactual(
            linear(), x, 1, autoencoder=coder, max_epsilon=4, halvings=2, steps=20, box=None
        )
        there = labels == 1
        np.testing.assert_allclose(result.x[there], x[there], atol=1e-6)
        assert (result.distance[there] == 0).all() and (result.distance[~there] > 0).all()
        assert result.success.all() and result.success_share == 1
        np.testing.assert_array_equal(result.eligible, ~there)


@pytest.mark.slow
def test_what_is_found_for_a_sample_does_not_depend_on_the_others():
    x = np.random.default_rng(3).random((7, 3)).astype("float32")
    autoencoder = line_autoencoder()
    calls = (
        lambda x: adversarial.attack(linear(), x, np.zeros(len(x), int), 0.2, steps=3, seed=4),
        lambda x: adversarial.attack(linear(), x, np.zeros(len(x), int), 0.2, steps=3, seed=4, batch_size=2),
        lambda x: adversarial.attack_code(autoencoder, x, 0.2, norm="linf", steps=2, seed=4),
        lambda x: adversarial.attack_in_code_space(linear(), autoencoder, x, np.zeros(len(x), int), 0.2, steps=2),
    )
    for call in calls:
        together = call(x).x
        for i in (0, 3, 6):
            np.testing.assert_allclose(call(x[i : i + 1]).x[0], together[i], atol=1e-6)
    other = adversarial.attack(linear(), x, np.zeros(len(x), int), 0.2, steps=3, seed=5).x
    assert np.abs(other - calls[0](x).x).max() > 1e-4  # while the seed decides


def test_samples_outside_the_box_are_refused_and_never_cut():
    message = r"x goes from -2.* outside box=\(0, 1\).*Give box=None for tables"
    calls = (
        lambda **box: adversarial.attack(linear(), X, LABELS, 0.5, steps=2, **box),
        lambda **box: adversarial.counterfactual(linear(), X, 1 - LABELS, halvings=1, steps=2, **box),
        lambda **box: adversarial.attack_code(line_autoencoder(), X, 0.5, steps=2, **box),
        lambda **box: adversarial.random_change(X, 0.5, **box),
        lambda **box: adversarial.minimise_in_ball(lambda x, rows: x[:, 0], X, 0.5, steps=2, **box),
    )
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()
        call(box=(X.min(), X.max()))
    moved = np.linalg.norm(adversarial.random_change(X, 0.5, box=None) - X, axis=1)
    np.testing.assert_allclose(moved, 0.5, rtol=1e-5)


def test_one_output_means_two_classes():
    """A single sigmoid whose logit is the difference of the two scores of the linear classifier."""
    sigmoid = keras.Sequential([keras.Input((3,)), layers.Dense(1, "sigmoid")])
    sigmoid.set_weights([-NORMAL[:, None], np.array([-0.3])])
    two = adversarial.attack(linear(), X, LABELS, 0.5, box=None, steps=10)
    one = adversarial.attack(sigmoid, X, LABELS, 0.5, box=None, steps=10)
    np.testing.assert_array_equal(one.eligible, two.eligible)
    np.testing.assert_array_equal(one.success, two.success)
    np.testing.assert_allclose(one.x, two.x, atol=1e-4)
    by_hand = adversarial.attack(
        lambda x: tf.concat([1 - sigmoid(x), sigmoid(x)], 1), X, LABELS, 0.5, box=None, steps=10
    )
    np.testing.assert_array_equal(by_hand.success, two.success)


class Subclassed(keras.Model):
    """Drops out half of its inputs unless it is told that this is no training."""

    def __init__(self, *parts):
        super().__init__()
        self.chain = [layers.Dropout(0.5, seed=0), *parts]

    def call(self, x, training=True):
        for layer in self.chain:
            x = layer(x, training=training) if isinstance(layer, layers.Dropout) else layer(x)
        return x


def classifiers():
    """The linear classifier in every form that Keras knows, and as two callables."""
    functional, sequential = linear(), linear()
    x = keras.Input((3,))
    nested = keras.Model(x, layers.Activation("softmax")(keras.Sequential([linear(None)])(x)))
    dense = layers.Dense(2, "softmax")
    subclassed = Subclassed(dense)
    subclassed(X[:1])
    dense.set_weights([W, B])
    image = keras.Sequential([keras.Input((3,)), layers.Reshape((3, 1, 1)), layers.Conv2D(2, (3, 1)), layers.Flatten()])
    image.set_weights([W[:, None, None], B])
    return {
        "sequential": sequential,
        "functional": keras.Model(functional.inputs, functional.outputs),
        "nested": nested,
        "subclassed": subclassed,
        "convolutional": keras.Sequential([image, layers.Softmax()]),
        "callable": lambda x: x @ W + B,
        "program": tf.function(lambda x: tf.matmul(x, W) + B),
    }


@pytest.mark.parametrize("kind", classifiers())
def test_every_form_of_classifier_gives_the_same_attack(kind):
    expected = adversarial.attack(lambda x: x @ W + B, X, LABELS, 0.5, box=None, steps=10)
    result = adversarial.attack(classifiers()[kind], X, LABELS, 0.5, box=None, steps=10, batch_size=17)
    np.testing.assert_allclose(result.x, expected.x, atol=1e-4)
    np.testing.assert_array_equal(result.success, expected.success)


def test_the_nearest_normal_of_a_k_sparse_autoencoder_has_k_active_units():
    """Decoded is the code itself, so that the nearest thing of one active unit keeps the largest feature."""
    identity = [np.eye(3, dtype="float32")]
    parts = [keras.Sequential([keras.Input((3,)), layers.Dense(3, use_bias=False)]) for _ in range(2)]
    for part in parts:
        part.set_weights(identity)
    autoencoder = models.KSparseAutoencoder(*parts, k=1)
    x = np.array([[3.0, 2.0, -1.0], [0.5, 0.2, 0.1], [-3.0, -1.0, -2.0]], "float32")
    found = adversarial.nearest_normal(autoencoder, x, steps=50)
    # The encoder keeps the largest unit, of the last sample the one of -1; a decoder of one unit can draw no nearer.
    expected = np.array([[3, 0, 0], [0.5, 0, 0], [0, -1, 0]])
    np.testing.assert_allclose(found.x, expected, atol=1e-3)
    np.testing.assert_allclose(found.z, expected, atol=1e-3)
    np.testing.assert_allclose(found.distance, np.linalg.norm(x - expected, axis=1), atol=1e-3)
    np.testing.assert_allclose(autoencoder.decode(autoencoder.constrained(autoencoder.encode(x))), expected, atol=1e-6)
    changed = adversarial.attack_in_code_space(lambda x: x @ W + B, autoencoder, x, [0, 0, 0], 1.0, steps=5)
    assert (np.count_nonzero(changed.x, axis=1) <= 1).all()


def test_a_conditional_autoencoder_must_be_told_the_class():
    encoder, decoder = models.dense_encoder(3, 4, (), seed=0), models.dense_decoder(3, 2 + 5, (), seed=1)
    conditional = models.ConditionalVariationalAutoencoder(encoder, decoder, 5, seed=0)
    x = np.abs(X) / 4
    calls = (
        lambda: adversarial.nearest_normal(conditional, x),
        lambda: adversarial.attack_in_code_space(linear(), conditional, x, LABELS, 1.0),
        lambda: adversarial.counterfactual(linear(), x, 1, autoencoder=conditional),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"decodes for a class, and none was given.*for_class\(3\)"):
            call()
    found = adversarial.nearest_normal(conditional.for_class(3), x, steps=5)
    np.testing.assert_allclose(found.x, conditional.decode(found.z, labels=3), atol=1e-6)
    assert (adversarial.attack_code(conditional, x, 0.1).code_distance > 0).all()  # its encoder sees the sample alone


def test_half_precision_is_searched_in_single():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        autoencoder, classifier = line_autoencoder(), linear()
    finally:
        keras.config.set_dtype_policy("float32")
    x = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
    found = adversarial.nearest_normal(autoencoder, x, steps=20)
    np.testing.assert_allclose(found.distance, np.abs(x[:, 2]), atol=2e-3)
    labels = (x @ NORMAL + 0.3 < 0).astype(int)
    results = (
        adversarial.attack(classifier, x, labels, 10.0, box=None),
        adversarial.attack_in_code_space(classifier, autoencoder, x * [1, 1, 0], labels, 10.0),
        adversarial.attack_code(autoencoder, x, 0.5, box=None),
    )
    assert {array.dtype for array in (found.x, found.z, found.distance)} == {np.dtype("float32")}
    assert all(result.x.dtype == result.distance.dtype == np.float32 for result in results)
    assert results[0].success.all()
    np.testing.assert_allclose(results[2].code_distance, 0.5, rtol=1e-2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: adversarial.attack(linear(), X, LABELS, 1.0, norm="l1", box=None),
            "unknown norm 'l1'; the known ones are l2, linf",
        ),
        (lambda: adversarial.attack(linear(), X, LABELS, -1.0, box=None), "epsilon is -1.0"),
        (lambda: adversarial.attack(linear(), X, LABELS, float("nan"), box=None), "epsilon is nan"),
        (
            lambda: adversarial.attack(linear(), X, LABELS + 1, 1.0, box=None),
            "labels must be whole numbers from 0 to 1",
        ),
        (lambda: adversarial.attack(linear(), X, LABELS[:3], 1.0, box=None), "one for each of the 40 samples"),
        (lambda: adversarial.attack(linear(), X, None, 1.0, box=None), "labels are missing"),
        (lambda: adversarial.attack(linear(), X, LABELS, 1.0, to_class=2, box=None), "to_class must be whole numbers"),
        (lambda: adversarial.attack(lambda x: x[:, 0], X, LABELS, 1.0, box=None), r"it must be \(1, classes\)"),
        (
            lambda: adversarial.attack(lambda x: tf.ones((len(x), 2)), X, LABELS, 1.0, box=None),
            "no direction to search in",
        ),
        (lambda: adversarial.attack(linear(), X[:0], LABELS[:0], 1.0), "x is empty"),
        (lambda: adversarial.attack(linear(), X * np.inf, LABELS, 1.0), "x holds 120 values that are NaN"),
        (lambda: adversarial.counterfactual(linear(), X, 1, max_epsilon=0), "max_epsilon is 0"),
        (lambda: adversarial.random_change(X, 1.0, norm="l3"), "unknown norm"),
        (lambda: adversarial.random_change(X, [1.0, 2.0], box=None), "or one for each sample"),
        (lambda: adversarial.attack(linear(), X, LABELS, 1.0, box=(1, 0)), r"box is \(1, 0\); give two finite numbers"),
        (lambda: adversarial.attack(linear(), X[:, :2], LABELS, 1.0), r"x has shape \(40, 2\); this model takes"),
        (
            lambda: adversarial.attack(lambda x: x * np.nan, X, LABELS, 1.0, box=None),
            "the classifier returns NaN or infinity: 40 of 40 values",
        ),
        (
            lambda: adversarial.minimise_in_ball(lambda points, rows: tf.reduce_sum(points), X, 1.0, box=None),
            r"the loss returns shape \(\) for 40 points; give one number each",
        ),
        (
            lambda: adversarial.minimise_in_ball(lambda points, rows: tf.sqrt(points[:, 0]), X, 1.0, box=None),
            "the loss returns NaN or infinity",
        ),
        (
            lambda: adversarial.attack(lambda x: tf.sigmoid(x[:, :1]), X, LABELS, 1.0, box=None),
            r"it must be \(1, classes\). For one probability give two columns: lambda x: tf.concat",
        ),
        (lambda: adversarial.nearest_normal(linear(), X), "looked for in a Sequential.*wrap your two models"),
        (lambda: adversarial.attack_code(linear(), X, 1.0), "looked for in a Sequential"),
        (lambda: adversarial.nearest_normal(line_autoencoder(), X, steps=0), "steps is 0"),
        (lambda: adversarial.nearest_normal(line_autoencoder(), X[:, :2]), "x has shape"),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
