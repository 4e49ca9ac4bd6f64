"""What units see, on networks made by hand, and the same for every form of a network."""

import keras
import numpy as np
import pytest
import scipy.signal
import tensorflow as tf
from forms import Subclassed, functional
from keras import layers

from tfae import attribution, features, models

SHAPE = (6, 6, 1)
X = np.random.default_rng(0).random((20, *SHAPE)).astype("float32")


def dense():
    return [layers.Flatten(name="flat"), layers.Dense(5, "relu", name="hidden"), layers.Dense(3, "tanh", name="out")]


def conv():
    hidden = layers.Conv2D(4, 3, padding="same", activation="relu", name="hidden")
    return [hidden, layers.Conv2D(2, 3, padding="same", name="out")]


FORMS = {
    "functional": lambda parts: functional(parts, SHAPE),
    "sequential": lambda parts: keras.Sequential([keras.Input(SHAPE), *parts]),
    "sequential without input": keras.Sequential,
    "nested": lambda parts: keras.Sequential([keras.Input(SHAPE), keras.Sequential(parts[:-1]), parts[-1]]),
    "subclassed": Subclassed,
    "nested subclassed": lambda parts: Subclassed([Subclassed(parts[:-1]), parts[-1]]),
}
every_form = pytest.mark.parametrize("form", FORMS)
both_kinds = pytest.mark.parametrize("kind", [dense, conv])


def network(form, kind):
    """One network of each kind, whatever its form: its weights are drawn alike."""
    model = FORMS[form](kind())
    model(X)
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(scale=0.4, size=w.shape) for w in model.get_weights()])
    return model


def with_kernel(layer, kernel, shape):
    """A built layer without bias, of weights made by hand."""
    model = keras.Sequential([keras.Input(shape), layer])
    model.set_weights([kernel])
    return model


# --- activations -----------------------------------------------------------------------------------------------------


@every_form
def test_activations_of_dense_layers_are_those_computed_by_hand(form):
    model = network(form, dense)
    w1, b1, w2, b2 = (w.astype("float64") for w in model.get_weights())
    flat = X.reshape(20, -1)
    hidden = np.maximum(flat @ w1 + b1, 0)
    seen = features.activations(model, X, batch_size=7)
    assert list(seen) == ["flat", "hidden", "out"]
    for name, expected in zip(seen, (flat, hidden, np.tanh(hidden @ w2 + b2)), strict=True):
        np.testing.assert_allclose(seen[name], expected, atol=1e-5)
    np.testing.assert_allclose(features.activations(model, X, layer="hidden"), hidden, atol=1e-5)


@every_form
def test_activations_of_convolutions_are_those_computed_by_hand(form):
    model = network(form, conv)
    kernel, bias = model.get_weights()[:2]
    expected = [
        [scipy.signal.correlate2d(x[..., 0], kernel[:, :, 0, unit], "same") + bias[unit] for unit in range(4)]
        for x in X
    ]
    expected = np.maximum(np.moveaxis(expected, 1, -1), 0)
    seen = features.activations(model, X)
    assert list(seen) == ["hidden", "out"]
    np.testing.assert_allclose(seen["hidden"], expected, atol=1e-5)
    np.testing.assert_allclose(
        features.unit_activations(expected, positions="max"), expected.max(axis=(1, 2)), rtol=1e-6
    )
    np.testing.assert_allclose(features.unit_activations(expected), expected.mean(axis=(1, 2)), rtol=1e-6)


def test_the_layers_of_an_autoencoder_are_seen_inside_its_parts():
    model = models.dense_autoencoder(SHAPE, 2, (5,), seed=0)
    seen = features.activations(model, X)
    np.testing.assert_allclose(seen["code"], model.encode(X), atol=1e-6)
    np.testing.assert_allclose(features.activations(model, X, layer="encoder"), seen["code"])
    np.testing.assert_allclose(features.activations(model, X, layer=model.decoder), model.reconstruct(X), atol=1e-6)


def test_noise_and_dropout_are_off():
    encoder = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dropout(0.5), layers.Dense(4)])
    decoder = keras.Sequential([keras.Input((2,)), layers.Dense(36), layers.Reshape(SHAPE)])
    vae = models.VariationalAutoencoder(encoder, decoder)
    np.testing.assert_allclose(features.activations(vae, X, layer=encoder), encoder(X, training=False))
    np.testing.assert_allclose(features.activations(vae.code, X, layer=encoder)[:, :2], vae.encode(X), atol=1e-6)


def test_repeated_names_and_calls_are_numbered_and_never_guessed():
    relu = layers.ReLU(name="relu")
    one, two = layers.Dense(4, name="same"), layers.Dense(3, name="same")
    model = Subclassed([layers.Flatten(name="flat"), one, relu, two, relu])
    seen = features.activations(model, X)
    assert list(seen) == ["flat", "same#1", "relu#1", "same#2", "relu#2"]
    assert seen["same#2"].shape == (20, 3) and seen["relu#1"].shape == (20, 4)
    np.testing.assert_array_equal(features.activations(model, X, layer="relu#1"), seen["relu#1"])
    np.testing.assert_array_equal(features.activations(model, X, layer=two), seen["same#2"])
    with pytest.raises(ValueError, match="2 layers are called 'same'"):
        features.activations(model, X, layer="same")
    with pytest.raises(ValueError, match="layer 'relu' is called 2 times"):
        features.activations(model, X, layer=relu)


class Pair(layers.Layer):
    def call(self, x):
        return x, x


def test_a_layer_without_one_row_for_each_sample_is_left_out_or_refused():
    model = keras.Sequential([Pair(name="pair"), layers.Lambda(lambda both: both[0], name="first")])
    assert list(features.activations(model, X)) == ["first"]
    with pytest.raises(ValueError, match="'pair' does not return one tensor"):
        features.activations(model, X, layer="pair")


def test_batches_are_joined_by_the_order_of_the_calls():
    """Padding and sums of Keras tensors are operations, some of which are made anew, with a new name, at each call."""
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, layers.ZeroPadding2D(1)(inputs + inputs))
    x = X.astype("float64")
    for expected in (2 * x, np.pad(2 * x, ((0, 0), (1, 1), (1, 1), (0, 0)))):
        for batch_size in (3, 20):
            seen = features.activations(model, X, batch_size=batch_size)
            assert len(seen) == 2
            values = seen[list(seen)[expected.shape != x.shape]]
            np.testing.assert_allclose(values, expected, rtol=1e-6)


class Table(layers.Layer):
    """Seven rows, however many samples there are."""

    def call(self, x):
        return tf.zeros((7, 2))


def test_a_layer_whose_rows_are_not_samples_is_not_taken_for_one_by_chance():
    class Beside(keras.Model):
        def __init__(self):
            super().__init__()
            self.table, self.flat = Table(name="table"), layers.Flatten(name="flat")

        def call(self, x):
            return self.flat(x) + tf.reduce_sum(self.table(x))

    seen = features.activations(Beside(), X, batch_size=7)  # 7, 7 and 6 samples
    assert list(seen) == ["flat"] and seen["flat"].shape == (20, 36)


class AlwaysNoisy(keras.Model):
    """A model whose author made training the default, and that calls a layer more for bright images."""

    def __init__(self):
        super().__init__()
        self.flat, self.relu = layers.Flatten(name="flat"), layers.ReLU(name="relu")

    def call(self, x, training=True):
        x = self.flat(x + 1000.0 if training else x)
        return self.relu(x) if tf.reduce_max(x) > 0.5 else x


def test_every_model_runs_as_outside_training():
    np.testing.assert_array_equal(features.activations(AlwaysNoisy(), X, layer="relu"), X.reshape(20, -1))
    with pytest.raises(ValueError, match="calls 2 layers for some samples and 1 for others"):
        features.activations(AlwaysNoisy(), X * (np.arange(20) < 10).reshape(20, 1, 1, 1), batch_size=10)


def test_half_precision_comes_as_float32():
    for policy, digits in (("mixed_float16", 1e-2), ("mixed_bfloat16", 5e-2)):
        model = keras.Sequential([keras.Input((36,)), layers.Dense(3, "relu", name="hidden", dtype=policy)])
        exact = np.maximum(X.reshape(20, -1) @ model.get_weights()[0], 0)
        seen = features.activations(model, X.reshape(20, -1), layer="hidden")
        assert seen.dtype == "float32"
        np.testing.assert_allclose(seen, exact, atol=digits)
        found = features.maximise(model, "hidden", [0], X.reshape(20, -1), l2=0.001, steps=5)
        assert found.history.dtype == "float32" and found.history[-1, 0] > found.history[0, 0]


def small_parts(outputs=3):
    return models.dense_encoder(SHAPE, outputs, (4,), seed=0), models.dense_decoder(SHAPE, 3, (4,), seed=1)


VARIANTS = {
    "denoising": lambda: models.DenoisingAutoencoder(*small_parts()),
    "tied": lambda: models.TiedAutoencoder(small_parts()[0]),
    "k-sparse": lambda: models.KSparseAutoencoder(*small_parts(), k=1),
    "sparse": lambda: models.SparseAutoencoder(*small_parts()),
    "contractive": lambda: models.ContractiveAutoencoder(*small_parts()),
    "variational": lambda: models.VariationalAutoencoder(*small_parts(6)),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_seen_and_differentiated(name):
    model = VARIANTS[name]()
    seen = features.activations(model, X, batch_size=6)
    np.testing.assert_allclose(list(seen.values())[-1].reshape(X.shape), model.reconstruct(X), atol=1e-6)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(X, training=False) - X) ** 2)
    expected = tape.gradient(loss, [v.value for v in model.trainable_variables])
    found = features.parameter_gradients(model, X, batch_size=6)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in expected))
    np.testing.assert_allclose(np.sqrt(sum(layer.norm**2 for layer in found.values())), norm, rtol=1e-4)


def test_activations_refuse_what_they_cannot_use():
    model = network("functional", dense)
    bad = X.copy()
    bad[3, 0, 0, 0] = np.nan
    for x, message in (
        (bad, "1 values that are NaN"),
        (X[:0], "x is empty"),
        (X[..., 0], r"give x\[..., np.newaxis\]"),
        ((X, X), "x is a tuple"),
    ):
        with pytest.raises(ValueError, match=message):
            features.activations(model, x)
    exploded = network("functional", dense)
    exploded.get_layer("hidden").kernel.assign(np.full((36, 5), np.inf))
    for layer in (None, "hidden", exploded.get_layer("hidden")):
        with pytest.raises(ValueError, match="layer 'hidden' returns NaN or infinity: 100 of 100 values"):
            features.activations(exploded, X, layer=layer)
    with pytest.raises(ValueError, match="no layer 'code' was called; the layers of this model are: flat, hidden, out"):
        features.activations(model, X, layer="code")
    with pytest.raises(ValueError, match="batch_size"):
        features.activations(model, X, batch_size=0)


# --- statistics ------------------------------------------------------------------------------------------------------

# Unit 0 is dead, unit 1 always at a bound, unit 2 between the bounds, unit 3 at a bound for one sample of four.
HAND_MADE = np.array([[0, 1, 0.5, 0.2], [0, 0.995, 0.4, 0.3], [0, 0.005, 0.3, 0.4], [0, 1, 0.2, 1]], "float32")


def test_dead_and_saturated_units_are_found():
    found = features.unit_statistics(HAND_MADE, bounds=(0, 1))
    assert found.dead.tolist() == [True, False, False, False]
    np.testing.assert_allclose(found.active, [0, 1, 1, 1])
    np.testing.assert_allclose(found.saturated, [1, 1, 0, 0.25])
    np.testing.assert_allclose(features.unit_statistics(HAND_MADE, threshold=0.35).active, [0, 0.75, 0.5, 0.5])
    np.testing.assert_allclose(found.mean, HAND_MADE.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.quartiles[:, 2], [0.2, 0.275, 0.35, 0.425, 0.5], rtol=1e-6)
    assert features.unit_statistics(-HAND_MADE).dead.tolist() == [True, False, False, False]
    assert features.unit_statistics(HAND_MADE).saturated is None
    tanh = features.unit_statistics(2 * HAND_MADE - 1, bounds=(-1, 1))
    np.testing.assert_allclose(tanh.saturated, found.saturated)


def test_every_position_of_a_channel_counts():
    maps = HAND_MADE.reshape(2, 2, 1, 4)
    for name in ("mean", "std", "quartiles", "active", "saturated"):
        both = (getattr(features.unit_statistics(a, bounds=(0, 1)), name) for a in (maps, HAND_MADE))
        np.testing.assert_array_equal(*both)


def test_statistics_refuse_what_they_cannot_use():
    with pytest.raises(ValueError, match="activations goes from 0 to 2, outside the bounds 0 to 1"):
        features.unit_statistics(2 * HAND_MADE, bounds=(0, 1))
    for bounds in ((1, 0), (0, np.inf), 1, "ab", (0, 1, 2)):
        with pytest.raises(ValueError, match="give two finite numbers"):
            features.unit_statistics(HAND_MADE, bounds=bounds)
    for options in ({"threshold": -1}, {"bounds": (0, 1), "margin": 0.5}):
        with pytest.raises(ValueError, match="must be a number in"):
            features.unit_statistics(HAND_MADE, **options)
    with pytest.raises(ValueError, match="activations holds 1 values that are NaN"):
        features.unit_statistics(np.array([[1, np.nan]]))


def test_class_selectivity_is_one_for_one_class_and_zero_for_none():
    labels = np.array([7, 7, 7, 2, 2, 4])
    a = np.zeros((6, 4), "float32")
    a[labels == 2, 0] = [1, 3]  # answers class 2 alone
    a[:, 1] = 5  # answers all alike; unit 3 is dead
    a[:, 2] = [1, 2, 3, 6, 6, 1]  # class means 2, 6 and 1: (6 - 1.5) / (6 + 1.5)
    found = features.class_selectivity(a, labels)
    np.testing.assert_allclose(found.index, [1, 0, 0.6, 0])
    assert found.preferred[0] == found.preferred[2] == 2
    maps = np.stack([2 * a, 0 * a], axis=1)[:, :, np.newaxis]  # the same means over two positions
    np.testing.assert_allclose(features.class_selectivity(maps, labels).index, found.index)
    assert features.class_selectivity(a, np.array(list("cccaab"))).preferred[0] == "a"


def test_class_selectivity_refuses_what_it_cannot_use():
    for a, labels, message in (
        (HAND_MADE - 0.5, [0, 0, 1, 1], "defined from 0 upwards"),
        (HAND_MADE, [0, 1], "labels have shape"),
        (HAND_MADE, [1, 1, 1, 1], "at least two classes"),
        (HAND_MADE, [0, 1, np.nan, 1], "labels have dtype float64"),
    ):
        with pytest.raises(ValueError, match=message):
            features.class_selectivity(a, labels)


def test_top_samples_come_best_first():
    a = np.array([[1, 0], [3, 9], [2, 0], [3, 0]])
    assert features.top_samples(a, 0, k=3).tolist() == [1, 3, 2]
    maps = np.array([[[0, 9]], [[5, 5]]], "float32").transpose(0, 2, 1)[:, :, np.newaxis]  # (2, 2 positions, 1, 1)
    assert features.top_samples(maps, 0, k=1).tolist() == [1]
    assert features.top_samples(maps, 0, k=1, positions="max").tolist() == [0]
    for arguments, message in (
        ((2, {"k": 1}), "there is no unit 2; the layer has 2"),
        ((-1, {"k": 1}), "there is no unit -1"),
        ((0, {"k": 5}), "k is 5 and there are 4 samples"),
        ((0, {"positions": "sum"}), "unknown positions 'sum'; the known ones are mean, max"),
    ):
        with pytest.raises(ValueError, match=message):
            features.top_samples(a, arguments[0], **arguments[1])


@pytest.mark.parametrize("dtype", ["uint8", "uint64", "int8", "bool", "float16"])
def test_top_samples_of_any_kind_of_number(dtype):
    a = np.array([[0], [5], [0], [200], [5]]).astype(dtype)  # of int8, 200 is -56
    best = {"int8": [1, 4, 0], "bool": [1, 3, 4]}.get(dtype, [3, 1, 4])
    assert features.top_samples(a, 0, k=3).tolist() == best
    maps = np.repeat(a[:, np.newaxis], 3, axis=1)
    assert features.top_samples(maps, 0, k=3).tolist() == best
    assert features.top_samples(maps, 0, k=3, positions="max").tolist() == best


# --- weights ---------------------------------------------------------------------------------------------------------


def test_filters_are_images_of_the_weights():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(6, 4)).astype("float32")
    layer = with_kernel(layers.Dense(4, use_bias=False), kernel, (6,)).layers[0]
    np.testing.assert_array_equal(features.filters(layer, shape=(2, 3))[3], kernel[:, 3].reshape(2, 3))
    np.testing.assert_array_equal(features.filters(layer), kernel.T)
    kernel = rng.normal(size=(2, 3, 1, 4)).astype("float32")
    layer = with_kernel(layers.Conv2D(4, (2, 3), use_bias=False), kernel, SHAPE).layers[0]
    np.testing.assert_array_equal(features.filters(layer)[3], kernel[..., 3])
    kernel = rng.normal(size=(2, 3, 4, 5)).astype("float32")  # Keras: units before inputs
    layer = with_kernel(layers.Conv2DTranspose(4, (2, 3), use_bias=False), kernel, (6, 6, 5)).layers[0]
    np.testing.assert_array_equal(features.filters(layer)[3], kernel[:, :, 3])


@pytest.mark.parametrize("transposed", [False, True])
def test_singular_values_are_those_the_kernel_was_made_with(transposed):
    rng = np.random.default_rng(0)
    u, v = np.linalg.qr(rng.normal(size=(18, 4)))[0], np.linalg.qr(rng.normal(size=(4, 4)))[0]
    kernel = (u * [5, 3, 1, 0.1] @ v).reshape(3, 3, 2, 4)
    if transposed:
        layer, kernel = layers.Conv2DTranspose(4, 3, use_bias=False), kernel.swapaxes(2, 3)
    else:
        layer = layers.Conv2D(4, 3, use_bias=False)
    model = with_kernel(layer, kernel, (6, 6, 2))
    np.testing.assert_allclose(features.singular_values(model.layers[0]), [5, 3, 1, 0.1], rtol=1e-5)
    layer = with_kernel(layers.Dense(4, use_bias=False), u * [5, 3, 1, 0.1] @ v, (18,)).layers[0]
    np.testing.assert_allclose(features.singular_values(layer), [5, 3, 1, 0.1], rtol=1e-5)


def test_weights_refuse_what_has_none():
    built = network("sequential", dense)
    grouped = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(4, 3, groups=2)]).layers[0]
    for call, message in (
        (lambda: features.filters(built.layers[0]), r"'flat' \(Flatten\) has no kernel of its own"),
        (lambda: features.filters(built), "has no kernel of its own"),
        (lambda: features.filters("hidden"), r"'hidden' \(str\) has no kernel"),
        (lambda: features.singular_values(layers.DepthwiseConv2D(3)), "has no kernel of its own"),
        (lambda: features.filters(layers.Dense(3)), "has no weights yet"),
        (lambda: features.singular_values(grouped), "2 groups of channels"),
        (
            lambda: features.filters(built.layers[1], shape=(5, 5)),
            r"has 36 inputs, and an image of shape \(5, 5\) has 25",
        ),
        (lambda: features.filters(grouped, shape=(3, 3)), "leave out shape"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# --- gradients of parameters -----------------------------------------------------------------------------------------


def test_parameter_gradients_of_a_linear_layer_are_those_derived_by_hand():
    """The mean squared error of y = x w + b has the derivatives 2 xᵀ(y - t) / (n m) and 2 Σ(y - t) / (n m)."""
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(30, 4)).astype("float32"), rng.normal(size=(30, 3)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="linear")])
    w, b = model.get_weights()
    error = x.astype("float64") @ w + b - t
    (found,) = features.parameter_gradients(model, x, y=t, batch_size=7).values()
    expected = {"kernel": 2 * x.T @ error / 90, "bias": 2 * error.sum(axis=0) / 90}
    for name in expected:
        np.testing.assert_allclose(found.parameters[name], expected[name], atol=1e-6)
    together = np.concatenate([g.ravel() for g in expected.values()])
    np.testing.assert_allclose([found.norm, found.rms], [np.linalg.norm(together), np.sqrt(np.mean(together**2))], 1e-5)


@every_form
@both_kinds
def test_parameter_gradients_are_those_of_a_tape(form, kind):
    model = network(form, kind)
    y = np.random.default_rng(2).normal(size=model(X).shape).astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(X) - y) ** 2)
    expected = tape.gradient(loss, [v.value for v in model.trainable_variables])
    found = features.parameter_gradients(model, X, y=y, batch_size=6)
    assert list(found) == ["hidden", "out"] and list(found["out"].parameters) == ["kernel", "bias"]
    arrays = [array for layer in found.values() for array in layer.parameters.values()]
    for array, gradient in zip(arrays, expected, strict=True):
        np.testing.assert_allclose(array, gradient, atol=1e-6)


def test_gradients_vanish_towards_the_input_of_a_deep_sigmoid_network():
    keras.utils.set_random_seed(0)
    stack = [layers.Dense(36, "sigmoid", name=f"layer{i}") for i in range(8)]
    model = keras.Sequential([keras.Input((36,)), *stack])
    found = features.parameter_gradients(model, X.reshape(20, 36))
    assert list(found) == [f"layer{i}" for i in range(8)]
    rms = np.array([layer.rms for layer in found.values()])
    assert (rms[1:] > 1.5 * rms[:-1]).all() and rms[-1] > 1e4 * rms[0]


def test_a_batch_normalisation_goes_by_its_moving_averages_and_dropout_does_nothing():
    """By hand: y = gamma (x - mean) / sqrt(variance + epsilon) + beta, with averages unlike those of the batch."""
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(30, 4)), rng.normal(size=(30, 4))
    gamma, beta, mean, variance = rng.uniform(0.5, 2, size=(4, 4))
    model = keras.Sequential(
        [keras.Input((4,)), layers.BatchNormalization(name="norm", epsilon=1e-3), layers.Dropout(0.9)]
    )
    model.layers[0].set_weights([gamma, beta, mean, variance])
    normal = (x - mean) / np.sqrt(variance + 1e-3)
    error = gamma * normal + beta - t
    found = features.parameter_gradients(model, x, y=t, batch_size=7)["norm"].parameters
    np.testing.assert_allclose(found["gamma"], 2 * np.sum(error * normal, axis=0) / 120, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["beta"], 2 * np.sum(error, axis=0) / 120, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.layers[0].get_weights()[2], mean, rtol=1e-6)


def test_gradients_in_half_precision_are_near_or_refused():
    """The derivative 2 xᵀ(y - t) / (n m) of a linear layer; of float16 a loss of 1e-8 has no derivative left."""
    x = X.reshape(20, 36)
    model = keras.Sequential([keras.Input((36,)), layers.Dense(36, name="linear", dtype="mixed_bfloat16")])
    w = model.get_weights()[0].astype("float64")
    expected = 2 * x.T @ (x @ w - x) / 720
    found = features.parameter_gradients(model, x)["linear"].parameters["kernel"]
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())
    model = keras.Sequential([keras.Input((36,)), layers.Dense(36, name="linear", dtype="mixed_float16")])
    with pytest.raises(ValueError, match="the model computes in float16, where small derivatives round to 0"):
        features.parameter_gradients(model, x)


def test_an_autoencoder_is_its_own_target_and_shared_weights_stand_once():
    encoder = models.dense_encoder(SHAPE, 2, (5,), seed=0)
    tied = models.TiedAutoencoder(encoder)
    found = features.parameter_gradients(tied, X)
    assert [len(layer.parameters) for layer in found.values()] == [2, 2, 2]  # the decoder owns its biases alone
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((tied(X) - X) ** 2)
    kernel = tape.gradient(loss, encoder.layers[1].kernel.value)
    np.testing.assert_allclose(next(iter(found.values())).parameters["kernel"], kernel, atol=1e-7)


def test_losses_by_name_as_a_function_and_for_labels():
    model = network("functional", dense)
    labels = np.arange(20) % 3
    one_hot = np.eye(3, dtype="float32")[labels]
    softmax = keras.Sequential([model, layers.Softmax()])
    sparse = features.parameter_gradients(softmax, X, y=labels, loss="sparse_categorical_crossentropy")
    full = features.parameter_gradients(softmax, X, y=one_hot, loss="categorical_crossentropy")
    own = features.parameter_gradients(
        softmax, X, y=labels, loss=lambda y, p: -tf.math.log(tf.gather(p, y, batch_dims=1))
    )
    for name in ("hidden", "out"):
        for other in (full, own):
            np.testing.assert_allclose(
                sparse[name].parameters["kernel"], other[name].parameters["kernel"], rtol=1e-4, atol=1e-7
            )


def test_what_the_loss_does_not_depend_on_has_gradient_zero():
    model = Subclassed([layers.Flatten(), layers.Dense(4, name="kept")])
    model.idle = layers.Dense(2, name="idle")
    model.idle.build((None, 4))
    found = features.parameter_gradients(model, X, y=np.zeros((20, 4)))
    assert list(found) == ["kept", model.name] and found["kept"].norm > 0 == found[model.name].norm


def test_parameter_gradients_refuse_what_they_cannot_use():
    model = network("functional", dense)
    frozen = network("functional", dense)
    frozen.trainable = False
    y = np.zeros((20, 3))
    for arguments, message in (
        ((model, X, None), r"the inputs are the targets and have \(20, 6, 6, 1\)"),
        ((model, X, y[:, :1]), r"returns shape \(20, 3\) for a batch, and y has \(20, 1\)"),
        ((model, X, y[:5]), "give one target for each of the 20 samples"),
        ((model, X, y * np.nan), "y holds 60 values that are NaN"),
        ((frozen, X, y), "no trainable parameter"),
        ((model, X[:0], y[:0]), "x is empty"),
        ((keras.Sequential([Pair()]), X, y), "does not return one tensor with a row for each sample"),
    ):
        asked, x, targets = arguments
        with pytest.raises(ValueError, match=message):
            features.parameter_gradients(asked, x, y=targets)
    with pytest.raises(ValueError, match="unknown loss 'no such loss'"):
        features.parameter_gradients(model, X, y=y, loss="no such loss")


# --- atoms -----------------------------------------------------------------------------------------------------------


def test_atoms_of_a_linear_decoder_are_the_rows_of_its_kernel_everywhere():
    kernel = np.random.default_rng(0).normal(size=(3, 36)).astype("float32")
    decoder = keras.Sequential([keras.Input((3,)), layers.Dense(36), layers.Reshape(SHAPE)])
    decoder.set_weights([kernel, np.ones(36)])
    z = np.random.default_rng(1).normal(size=(50, 3)).astype("float32") * [1, 2, 0]  # unit 2 never changes
    found = features.atoms(decoder, z, batch_size=8)
    np.testing.assert_allclose(found.step, z.std(axis=0), rtol=1e-5)
    expected = (kernel * found.step[:, np.newaxis]).reshape(3, *SHAPE)
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    np.testing.assert_allclose(found.consistency, [1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(features.atoms(decoder, z, step=2).values, 2 * kernel.reshape(3, *SHAPE), atol=1e-4)


def test_atoms_of_a_small_step_are_the_mean_jacobian():
    decoder = models.dense_decoder(SHAPE, 3, (8,), activation="tanh", seed=0)
    z = np.random.default_rng(1).normal(size=(20, 3)).astype("float32")
    slope = attribution.jacobian(decoder, z).mean(axis=0)  # (*output, units)
    found = features.atoms(decoder, z, step=1e-2)
    np.testing.assert_allclose(found.values / 1e-2, np.moveaxis(slope, -1, 0), atol=2e-3)


def test_consistency_says_how_far_the_mean_stands_for_each_code():
    """Of z0 · z1, unit 0 adds step · z1: on average the mean of z1, in mean square the mean of z1²."""
    z = np.random.default_rng(0).normal([0, 0.5], 1, size=(200, 2)).astype("float32")
    found = features.atoms(lambda z: z[:, :1] * z[:, 1:], z, step=[1, 0.5])
    np.testing.assert_allclose(found.values[0, 0], z[:, 1].mean(), rtol=1e-4)
    np.testing.assert_allclose(found.values[1, 0], 0.5 * z[:, 0].mean(), atol=1e-5)
    np.testing.assert_allclose(found.consistency[0], z[:, 1].mean() ** 2 / (z[:, 1] ** 2).mean(), rtol=1e-3)


def test_atoms_of_codes_that_are_images():
    """A transposed convolution of stride 2 stamps its kernel; each unit of the code is one place of one stamp."""
    kernel = np.arange(1, 5, dtype="float32").reshape(2, 2, 1, 1)
    decoder = with_kernel(layers.Conv2DTranspose(1, 2, strides=2, use_bias=False), kernel, (3, 3, 1))
    values = features.atoms(decoder, np.zeros((1, 3, 3, 1)), step=1).values
    expected = np.zeros((9, 6, 6, 1))
    for j in range(9):
        row, column = 2 * (j // 3), 2 * (j % 3)
        expected[j, row : row + 2, column : column + 2] = kernel[..., 0]
    np.testing.assert_allclose(values, expected)


def test_atoms_refuse_what_they_cannot_use():
    decoder = models.dense_decoder(SHAPE, 3, (8,), seed=0)
    z = np.ones((4, 3))
    for arguments, message in (
        ((z, None), "no code unit changes over the 4 codes in z; give more codes, or a step"),
        ((z, 0), "give a finite number other than 0"),
        ((z, [1, 2]), "one for each of the 3 units"),
        ((z[:, :2], 1), r"z has shape \(4, 2\)"),
        ((z * np.inf, 1), "z holds 12 values that are NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            features.atoms(decoder, arguments[0], step=arguments[1])
    with pytest.raises(ValueError, match="<lambda> returns NaN or infinity: 4 of 8 values"):
        features.atoms(lambda z: tf.math.log(z[:, :2] * [1, -1]), z, step=1)


# --- activation maximisation -----------------------------------------------------------------------------------------


def linear(weights):
    """Units that are weighted sums of the pixels."""
    model = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(len(weights), name="unit")])
    model.set_weights([weights.reshape(len(weights), -1).T, np.zeros(len(weights))])
    return model


def test_the_best_input_of_a_linear_unit_is_one_where_its_weight_is_positive():
    rng = np.random.default_rng(0)
    weights = rng.choice([-1, 1], size=(3, *SHAPE)) * rng.uniform(0.5, 2, size=(3, *SHAPE))
    found = features.maximise(linear(weights), "unit", [2, 0], X)
    np.testing.assert_array_equal(found.images, weights[[2, 0]] > 0)
    np.testing.assert_allclose(found.activations, np.maximum(weights, 0).sum(axis=(1, 2, 3))[[2, 0]], rtol=1e-5)
    assert found.history.shape == (101, 2) and (np.diff(found.history, axis=0) >= -1e-4).all()
    on_data = np.einsum("nhwc,uhwc->nu", X, weights[[2, 0]])
    assert found.best_real.tolist() == on_data.argmax(axis=0).tolist()
    np.testing.assert_allclose(found.real_activations, on_data.max(axis=0), rtol=1e-5)
    assert (found.activations > found.real_activations).all()


def test_a_length_penalty_stops_where_it_should():
    """The maximum of w x - c x² on [0, 1] is at w / 2c, or at the end that is nearest."""
    rng = np.random.default_rng(0)
    weights = np.stack([rng.normal(scale=2, size=SHAPE), rng.uniform(0.3, 2.7, SHAPE)])  # the second never at an end
    found = features.maximise(linear(weights), "unit", [0, 1], X, l2=1.5, steps=400)
    np.testing.assert_allclose(found.images, np.clip(weights / 3, 0, 1), atol=2e-3)


def test_total_variation_counts_each_pair_of_neighbours_once_and_smooths():
    x = X[:2]
    pairs = sum(abs(x[n, i, j] - x[n, i, j + 1]) for n in range(2) for i in range(6) for j in range(5))
    pairs += sum(abs(x[n, i, j] - x[n, i + 1, j]) for n in range(2) for i in range(5) for j in range(6))
    np.testing.assert_allclose(float(features._total_variation(tf.constant(x))), pairs, rtol=1e-5)
    weights = np.random.default_rng(0).normal(loc=0.2, size=(1, *SHAPE))
    rough, smooth = (features.maximise(linear(weights), "unit", 0, X, tv=tv).images for tv in (0.0, 0.7))
    assert features._total_variation(smooth) < 0.5 * features._total_variation(rough)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "positions"), [(dense, "mean"), (conv, "max")])
def test_every_form_climbs_to_the_same_images_and_units_do_not_disturb_one_another(kind, positions):
    options = {"steps": 8, "positions": positions}
    start = X[:2]
    first, *others = (
        features.maximise(network(form, kind), "out", [1, 0], X, start=start, **options) for form in FORMS
    )
    for other in others:
        np.testing.assert_allclose(other.images, first.images, atol=1e-4)
        assert other.best_real.tolist() == first.best_real.tolist()
    alone = features.maximise(network("subclassed", kind), "out", 0, X, start=start[1:], **options)
    np.testing.assert_allclose(alone.images[0], first.images[1], atol=1e-4)
    np.testing.assert_allclose(alone.history[:, 0], first.history[:, 1], atol=1e-4)
    assert (first.history[-1] > first.history[0]).all()
    model = network("functional", kind)
    for options["before_activation"] in (True, False):
        found = features.maximise(model, "out", [1, 0], X, start=start, **options)
        reached = features.activations(model, found.images, layer="out")
        if kind is dense and options["before_activation"]:
            reached = np.arctanh(reached)
        reached = features.unit_activations(reached, positions=positions)
        np.testing.assert_allclose(found.activations, reached[[0, 1], [1, 0]], atol=1e-4)


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_a_unit_without_a_slope_of_its_own_is_climbed_before_its_activation(activation):
    """Inactive ReLUs and saturated sigmoids: their sums go down to -1000 and up to +1000."""
    weights = np.random.default_rng(0).choice([-1, 1], size=(2, *SHAPE))
    model = linear(weights)
    layer = model.layers[-1]
    layer.bias.assign([-1000, -1000] if activation == "relu" else [1000, 1000])
    layer.activation = keras.activations.get(activation)
    found = features.maximise(model, "unit", [0, 1], X)
    np.testing.assert_array_equal(found.images, weights > 0)
    assert layer.activation is keras.activations.get(activation)
    with pytest.raises(ValueError, match=r"units \[0, 1\] have no gradient at the start"):
        features.maximise(model, "unit", [0, 1], X, start="real", before_activation=False)
    assert layer.activation is keras.activations.get(activation)


def test_maximisation_starts_where_it_is_told_and_follows_its_seed():
    model = network("functional", dense)
    first, same, other = (features.maximise(model, "out", 0, X, steps=3, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.images, same.images)
    assert not np.array_equal(first.images, other.images)
    real = features.maximise(model, "out", 0, X, start="real", steps=3)
    np.testing.assert_allclose(real.history[0], real.real_activations, rtol=1e-5)


def test_maximisation_refuses_what_it_cannot_use():
    weights = np.zeros((2, *SHAPE))
    weights[0] = 1
    model = linear(weights)
    for options, message in (
        ({"units": [0, 1]}, r"units \[1\] have no gradient at the start"),
        ({"units": 2}, "there is no unit 2; the layer has 2"),
        ({"units": [0.5]}, r"there is no unit \[0.5\]"),
        ({"units": []}, "there is no unit"),
        ({"layer": "units"}, "no layer 'units' was called"),
        ({"start": "best"}, "unknown start 'best'; the known ones are noise, real"),
        ({"start": X[:3]}, r"start has shape \(3, 6, 6, 1\); give one input \(1, 6, 6, 1\)"),
        ({"start": 2 * X[:1]}, "start goes from"),
        ({"bounds": (0, 0.5)}, "x goes from .* outside the bounds 0 to 0.5"),
        ({"positions": "sum"}, "unknown positions"),
        ({"steps": 0}, "steps is 0"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"l2": -1}, "l2 is -1"),
        ({"tv": -1}, "tv is -1"),
        ({"x": X * np.nan}, "x holds 720 values that are NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            features.maximise(**({"model": model, "layer": "unit", "units": 0, "x": X} | options))
    options = {"model": network("functional", dense), "layer": "hidden", "units": 0, "x": X, "before_activation": True}
    with pytest.raises(ValueError, match="there is no unit"):
        features.maximise(**(options | {"units": 9}))
    assert options["model"].get_layer("hidden").activation is keras.activations.relu
    flat = keras.Sequential([keras.Input((36,)), layers.Dense(1, name="unit")])
    with pytest.raises(ValueError, match="total variation needs neighbours"):
        features.maximise(flat, "unit", 0, X.reshape(20, 36), tv=1)
