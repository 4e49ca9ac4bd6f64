"""Attributions against captum's, closed forms, and the same network written in four ways."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from forms import Subclassed, functional
from keras import layers

from tfae import attribution, data, models, targets

pytestmark = pytest.mark.usefixtures("asked_again")

GOLDEN = np.load(Path(__file__).parent / "golden" / "attribution.npz")
METHODS = {
    "gradient": attribution.gradient,
    "gradient_x_input": attribution.gradient_x_input,
    "integrated_gradients": lambda target, x: attribution.integrated_gradients(target, x, steps=32),
    "guided_backprop": attribution.guided_backprop,
    "deconvnet": attribution.deconvnet,
    "occlusion": lambda target, x: attribution.occlusion(
        target, x, **({"window": 3, "stride": 2} if x.ndim == 4 else {"window": 1}), batch_size=10
    ),
    "lrp_epsilon": lambda target, x: attribution.lrp(target, x, epsilon=1e-9),
    "lrp_z+": lambda target, x: attribution.lrp(target, x, rule="z+", epsilon=1e-9),
    "grad_cam": lambda target, x: attribution.grad_cam(target, x),
}


def stack(net):
    """Fresh layers of one of the golden networks; the activations stand inside the layers."""
    if net == "dense":
        return [layers.Dense(5, "relu"), layers.Dense(4, "relu"), layers.Dense(3)]
    convolutions = [
        layers.Conv2D(3, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(4, 2, activation="relu"),
    ]
    return [*convolutions, layers.Flatten(), layers.Dense(3)]


def apart(net):
    """Return the same with every activation a layer of its own."""
    parts = []
    for layer in stack(net):
        if getattr(layer, "activation", None) is keras.activations.relu:
            config = layer.get_config() | {"activation": "linear"}
            parts += [type(layer).from_config(config), layers.ReLU()]
        else:
            parts.append(layer)
    return parts


FORMS = {
    "sequential": lambda net, shape: keras.Sequential([keras.Input(shape), *stack(net)]),
    "functional": lambda net, shape: functional(apart(net), shape),
    "nested": lambda net, shape: keras.Sequential(
        [keras.Sequential(apart(net)[:3]), keras.Sequential([keras.Sequential(apart(net)[3:])])]
    ),
    "subclassed": lambda net, shape: Subclassed(stack(net)),
}


def golden(net, form, bias=1):
    """Return output 1 of a golden network and its samples; without biases the last weights change their sign."""
    x = GOLDEN[f"{net}/x"].astype("float32")
    signs = [1, bias, 1, bias, 1 if bias else -1, bias]
    model = FORMS[form](net, x.shape[1:])
    model(x)
    model.set_weights([GOLDEN[f"{net}/weight{i}"] * sign for i, sign in enumerate(signs)])
    return targets.output(model, 1), x


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("net", ["dense", "conv"])
def test_agrees_with_captum_in_every_form_of_the_network(net, form, method):
    if f"{net}/{method}" not in GOLDEN:
        pytest.skip("captum has no answer: the rule needs non-negative inputs, Grad-CAM needs a convolution")
    target, x = golden(net, form)
    explained = METHODS[method](target, x)
    expected = GOLDEN[f"{net}/{method}"]
    if method == "grad_cam":
        expected = tf.image.resize(np.maximum(expected, 0), (8, 8)).numpy()
    np.testing.assert_allclose(explained.values, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(explained.outputs, GOLDEN[f"{net}/outputs"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_the_gamma_rule_agrees_with_captum_without_biases_where_the_output_is_positive(form):
    target, x = golden("conv", form, bias=0)
    positive = GOLDEN["conv/without_bias/outputs"] > 0
    assert positive.sum() >= 3
    explained = attribution.lrp(target, x[positive], rule="gamma", gamma=0.25, epsilon=1e-9)
    expected = GOLDEN["conv/without_bias/lrp_gamma"][positive]
    np.testing.assert_allclose(explained.values, expected, atol=1e-5 * np.abs(expected).max())


# --- gradients -------------------------------------------------------------------------------------------------------


def square(x):
    return tf.reduce_sum(tf.square(x), axis=1)


def test_integrated_gradients_of_a_polynomial_are_exact():
    """The integral of 2 (b + a (x - b)) over a, times (x - b), is x² - b²; of a product, each factor gets half."""
    rng = np.random.default_rng(0)
    x, baseline = rng.normal(size=(2, 5, 2)).astype("float32")
    explained = attribution.integrated_gradients(square, x, baseline=baseline)
    np.testing.assert_allclose(explained.values, x**2 - baseline**2, rtol=1e-4, atol=1e-5)
    product = attribution.integrated_gradients(lambda v: v[:, 0] * v[:, 1], x)
    np.testing.assert_allclose(product.values, np.tile(x[:, :1] * x[:, 1:] / 2, 2), rtol=1e-4, atol=1e-6)
    assert (explained.completeness_gap < 1e-4).all() and (explained.steps == 16).all()


def test_integrated_gradients_take_the_steps_that_the_tolerance_needs():
    def steep(x):
        return tf.sigmoid(60 * (x[:, 0] - 0.3)) + x[:, 1]

    x = np.array([[1, 0], [0.01, 1]], "float32")  # the first line crosses the step
    explained = attribution.integrated_gradients(steep, x, tolerance=1e-4)
    assert explained.steps[0] > explained.steps[1] == 16 and explained.completeness_gap.max() < 1e-4
    coarse = attribution.integrated_gradients(steep, x, steps=4)
    assert (coarse.steps == 4).all() and coarse.completeness_gap[0] > 0.01
    with pytest.warns(UserWarning, match="1 of 2 attributions miss the tolerance 1e-06 after 16 steps"):
        attribution.integrated_gradients(steep, x, tolerance=1e-6, max_steps=16)


@pytest.mark.parametrize("most", [1, 10, 16, 17, 100])
def test_integrated_gradients_use_all_the_steps_that_they_may(most):
    """Of a step that no rule of so few points can meet; the integral of one point is the midpoint's."""

    def steep(x):
        return tf.sigmoid(1e4 * (x[:, 0] - 0.3)) + x[:, 1] ** 3

    x = np.array([[1, 1]], "float32")
    with pytest.warns(UserWarning, match=f"after {most} steps"):
        explained = attribution.integrated_gradients(steep, x, max_steps=most)
    assert explained.steps == most
    if most == 1:
        np.testing.assert_allclose(explained.values, [[0, 3 / 4]], atol=1e-5)
    else:  # two points are enough for a cubic
        np.testing.assert_allclose(explained.values[:, 1], 1, rtol=1e-5)


def test_integrated_gradients_stop_at_the_tolerance_when_few_steps_are_allowed():
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    explained = attribution.integrated_gradients(square, x, max_steps=5)
    assert (explained.steps == 5).all()
    np.testing.assert_allclose(explained.values, x**2, rtol=1e-4)


def test_the_reported_gap_is_the_gap(images):
    autoencoder = models.dense_autoencoder((28, 28, 1), 8, seed=0)
    target = targets.reconstruction_error(autoencoder)
    black = autoencoder.reconstruction_error(np.zeros_like(images[:1]))
    for method in (attribution.gradient_x_input, attribution.integrated_gradients):
        explained = method(target, images[:5])
        wanted = autoencoder.reconstruction_error(images[:5]) - black
        gap = np.abs(explained.values.sum(axis=(1, 2, 3)) - wanted) / np.abs(wanted)
        np.testing.assert_allclose(explained.completeness_gap, gap, rtol=0.02, atol=1e-4)
    assert gap.max() < 0.005


@pytest.mark.slow
@pytest.mark.parametrize("name", ["strokes", "mnist"])
def test_the_reconstruction_error_of_a_trained_model_is_explained_to_half_a_percent(name, request):
    if name == "mnist":
        request.getfixturevalue("real_data")
    dataset = data.load(name)
    autoencoder = models.dense_autoencoder((28, 28, 1), 16, seed=0)
    autoencoder.compile("adam", "mse")
    autoencoder.fit(dataset.x_train[:2000], epochs=5, batch_size=64, verbose=0)
    explained = attribution.integrated_gradients(targets.reconstruction_error(autoencoder), dataset.x_test[:10])
    assert explained.completeness_gap.max() < 0.005 and (explained.steps >= 16).all()


def test_smooth_grad_is_the_mean_gradient_within_its_standard_error():
    x = np.array([[0, 1.0], [2, -1]], "float32")
    explained = attribution.smooth_grad(square, x, noise=0.5, n_samples=400, seed=0)
    assert (np.abs(explained.values - 2 * x) < 4 * explained.standard_error).all()
    spread = 2 * 0.5 * np.array([[1], [3]]) / np.sqrt(400)  # the gradient 2 x doubles the noise
    np.testing.assert_allclose(explained.standard_error, np.tile(spread, 2), rtol=0.15)
    same = attribution.smooth_grad(square, x, noise=0.5, n_samples=400, seed=0, batch_size=1)
    np.testing.assert_array_equal(same.values, explained.values)


def test_batches_change_nothing(images):
    target = targets.latent(models.conv_autoencoder((28, 28, 1), 4, seed=0), 1)
    for method in METHODS.values():
        explained = method(target, images[:5])
        small = [method(target, part) for part in (images[:2], images[2:4], images[4:5])]
        largest = np.abs(explained.values).max()
        np.testing.assert_allclose(
            np.concatenate([part.values for part in small]), explained.values, atol=1e-5 * largest
        )


# --- ReLUs -----------------------------------------------------------------------------------------------------------


def test_a_relu_called_inside_a_subclassed_model_is_guided_too():
    class Direct(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [layers.Dense(5), layers.Dense(4), layers.Dense(3)]

        def call(self, x):
            return self.parts[2](keras.ops.relu(self.parts[1](tf.nn.relu(self.parts[0](x)))))

    model, x = Direct(), GOLDEN["dense/x"].astype("float32")
    model(x)
    model.set_weights([GOLDEN[f"dense/weight{i}"] for i in range(6)])
    explained = attribution.guided_backprop(targets.output(model, 1), x)
    np.testing.assert_allclose(explained.values, GOLDEN["dense/guided_backprop"], atol=1e-5)


@pytest.mark.parametrize("zero", [lambda a: (a, 0), lambda a: (0.0, a), lambda a: (a, tf.zeros_like(a))])
@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet"])
def test_a_relu_that_is_written_as_a_maximum_is_guided_too(zero, method):
    class Mixed(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [layers.Dense(5, "relu"), layers.Dense(4), layers.Dense(3)]

        def call(self, x):
            return self.parts[2](keras.ops.maximum(*zero(self.parts[1](self.parts[0](x)))))

    model, x = Mixed(), GOLDEN["dense/x"].astype("float32")
    model(x)
    model.set_weights([GOLDEN[f"dense/weight{i}"] for i in range(6)])
    explained = getattr(attribution, method)(targets.output(model, 1), x)
    np.testing.assert_allclose(explained.values, GOLDEN[f"dense/{method}"], atol=1e-5)


def test_the_larger_of_two_numbers_is_no_relu():
    """The derivative of max(a, b) with b of fewer axes goes to the larger one, negative or not."""

    def target(x):
        return -tf.reduce_sum(tf.maximum(x[:, :2], x[:, 2:]), axis=1) + tf.nn.relu(x[:, 0])

    x = np.array([[1, -3, -2], [-1, 2, 1]], "float32")
    explained = attribution.deconvnet(target, x)
    np.testing.assert_allclose(explained.values, [[0, 0, -1], [1, -1, -1]])


@pytest.mark.parametrize(
    "relu6", [tf.nn.relu6, keras.activations.relu6, layers.ReLU(6), lambda x: keras.ops.clip(x, 0, 6)]
)
def test_a_relu6_at_its_end_lets_nothing_through_where_its_derivative_is_0(relu6):
    x = np.array([[-1, 3, 7]], "float32")

    def target(x):
        return tf.reduce_sum(relu6(x), axis=1)

    np.testing.assert_allclose(attribution.gradient(target, x).values, [[0, 1, 0]])
    np.testing.assert_allclose(attribution.guided_backprop(target, x).values, [[0, 1, 0]])


def test_guided_backprop_refuses_what_it_cannot_guide():
    smooth = keras.Sequential([keras.Input((6,)), layers.Dense(3, "tanh"), layers.Dense(2)])
    x = GOLDEN["dense/x"].astype("float32")
    with pytest.raises(ValueError, match="changes what happens at ReLUs, and this network has none"):
        attribution.guided_backprop(targets.output(smooth, 0), x)
    hidden = tf.function(golden("dense", "sequential")[0])
    with pytest.raises(ValueError, match=r"runs inside a tf\.function or a loop"):
        attribution.deconvnet(hidden, x)
    looping = keras.Sequential([keras.Input((6, 1)), layers.SimpleRNN(3, activation="relu"), layers.Dense(2, "relu")])
    with pytest.raises(ValueError, match=r"runs inside a tf\.function or a loop"):
        attribution.guided_backprop(targets.output(looping, 0), x[..., np.newaxis])
    with pytest.raises(ValueError, match=r"writes a ReLU as where\(x > threshold, x, 0\)"):
        attribution.guided_backprop(lambda x: tf.reduce_sum(tf.where(x > 0, x, 0.0) + tf.nn.relu(x), axis=1), x)


def test_guided_backprop_advises_nothing_that_is_refused_in_turn():
    recurrent = keras.Sequential([keras.Input((4, 2)), layers.LSTM(3), layers.Dense(2)])
    target, x = targets.output(recurrent, 0), np.ones((2, 4, 2), "float32")
    with pytest.raises(ValueError, match="use gradient or integrated_gradients instead"):
        attribution.guided_backprop(target, x)
    assert attribution.integrated_gradients(target, x).completeness_gap.max() < 0.005


# --- relevance -------------------------------------------------------------------------------------------------------


def autoencoder_without_bias():
    keras.utils.set_random_seed(1)
    keep = {"use_bias": False, "padding": "same", "strides": 2, "activation": "relu"}
    encoder = [layers.Conv2D(4, 3, **keep), layers.Flatten(), layers.Dense(6, "relu", use_bias=False)]
    decoder = [
        layers.Dense(14 * 14 * 4, "relu", use_bias=False),
        layers.Reshape((14, 14, 4)),
        layers.UpSampling2D(),
        layers.Conv2DTranspose(3, 3, padding="same", activation="relu", use_bias=False),
        layers.Conv2DTranspose(1, 3, padding="same", activation="sigmoid", use_bias=False),
    ]
    return models.Autoencoder(
        keras.Sequential([keras.Input((28, 28, 1)), *encoder]), keras.Sequential([keras.Input((6,)), *decoder])
    )


@pytest.mark.parametrize("rule", ["epsilon", "gamma", "z+"])
def test_relevance_is_conserved_through_a_convolutional_decoder_with_a_sigmoid(rule, images):
    target = targets.pixel(autoencoder_without_bias(), (14, 14, 0))
    explained = attribution.lrp(target, images[:6] + 0.01, rule=rule, epsilon=1e-9)
    for row in explained.ledger:
        assert abs(row["kept_by_bias"]) + abs(row["lost"]) < 1e-4 * abs(row["received"]), row
    assert explained.completeness_gap.max() < 1e-4


@pytest.mark.parametrize("rule", ["epsilon", "gamma", "z+"])
def test_the_ledger_accounts_for_every_layer(rule, images):
    autoencoder = models.conv_autoencoder((28, 28, 1), 4, seed=0)
    for layer in [*autoencoder.encoder.layers, *autoencoder.decoder.layers]:
        if getattr(layer, "use_bias", False):
            layer.bias.assign(np.random.default_rng(0).normal(size=layer.bias.shape) * 0.1)
    explained = attribution.lrp(targets.latent(autoencoder, 2), images[:6], rule=rule, epsilon=1e-9)
    assert [row["kind"] for row in explained.ledger] == ["Dense", "Flatten", "Conv2D", "Conv2D"]
    assert abs(explained.ledger[0]["received"] - explained.outputs.sum()) < 1e-4
    for row, below in zip(explained.ledger, [*explained.ledger[1:], None], strict=True):
        np.testing.assert_allclose(row["received"], row["handed_on"] + row["kept_by_bias"] + row["lost"], rtol=1e-6)
        assert abs(row["lost"]) < 1e-4 * abs(row["received"])
        handed_on = explained.values.sum() if below is None else below["received"]
        np.testing.assert_allclose(row["handed_on"], handed_on, rtol=1e-4)


def test_epsilon_shares_of_one_layer_by_hand():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, "sigmoid", name="only")])
    model.set_weights([np.array([[2.0], [-1.0]]), np.array([0.5])])
    explained = attribution.lrp(targets.output(model, 0), np.array([[1, 0.5]], "float32"), epsilon=1e-9)
    output = 1 / (1 + np.exp(-2.0))  # z = 2 - 0.5 + 0.5
    np.testing.assert_allclose(explained.values, [[output * 2 / 2, output * -0.5 / 2]], rtol=1e-5)
    np.testing.assert_allclose(explained.ledger[0]["kept_by_bias"], output * 0.5 / 2, rtol=1e-5)
    logit = attribution.lrp(targets.logit(model, 0), np.array([[1, 0.5]], "float32"), epsilon=1e-9)
    np.testing.assert_allclose(logit.values, [[2, -0.5]], rtol=1e-5)


def test_relevance_follows_branches_and_batch_normalisation(images):
    x = keras.Input((28, 28, 1))
    h = layers.Conv2D(3, 3, padding="same", use_bias=False)(x)
    normalise = layers.BatchNormalization()
    h = layers.Add()([normalise(h), layers.Conv2D(3, 1, use_bias=False)(x)])
    h = layers.Concatenate()([layers.AveragePooling2D(2)(h), layers.MaxPooling2D(2)(h)])
    model = keras.Model(x, layers.Dense(2, use_bias=False)(layers.GlobalAveragePooling2D()(h)))
    rng = np.random.default_rng(0)
    normalise.set_weights([rng.random(3) + 0.5, np.zeros(3), np.zeros(3), rng.random(3) + 0.5])
    explained = attribution.lrp(targets.output(model, 0), images[:4], epsilon=1e-9)
    assert explained.completeness_gap.max() < 1e-3
    np.testing.assert_allclose(sum(row["kept_by_bias"] for row in explained.ledger), 0, atol=1e-5)


JOINED = {
    "Concatenate": lambda a, b: layers.Concatenate()([a, b]),
    "Add": lambda a, b: layers.Add()([a, b]),
    "Average": lambda a, b: layers.Average()([a, b]),
    "Subtract": lambda a, b: layers.Subtract()([a, layers.Activation(lambda v: -2 * v)(b)]),
    "a + b": lambda a, b: a + b,
    "a - b": lambda a, b: a - layers.Activation(lambda v: -2 * v)(b),
}


@pytest.mark.parametrize("join", JOINED)
def test_a_tensor_that_a_layer_takes_twice_gets_its_relevance_once(join):
    """The whole is a linear map without bias, so relevance is gradient times input and adds up to the output."""
    x = keras.Input((3,))
    joined = JOINED[join](x, x)
    model = keras.Model(x, layers.Dense(2, use_bias=False)(joined))
    w = np.asarray(model.get_weights()[0], "float64")
    samples = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    slope = {"Concatenate": w[:3] + w[-3:], "Average": w}.get(join, (2 if "A" in join or "+" in join else 3) * w)[:, 1]
    explained = attribution.lrp(targets.output(model, 1), samples, epsilon=1e-9)
    np.testing.assert_allclose(explained.values, samples * slope, rtol=1e-4, atol=1e-6)
    for row in explained.ledger:
        assert abs(row["lost"]) < 1e-4 * abs(row["received"]) + 1e-6, row


def test_a_constant_that_is_added_in_a_functional_graph_keeps_its_share():
    x = keras.Input((2,))
    h, i = layers.Dense(1, use_bias=False, name="h")(x), layers.Dense(1, use_bias=False, name="i")(x)
    model = keras.Model(x, h + i + 3.0)
    model.set_weights([np.array([[1.0], [2.0]]), np.array([[0.5], [1.0]])])
    explained = attribution.lrp(targets.output(model, 0), np.array([[2, 1]], "float32"), epsilon=1e-9)
    np.testing.assert_allclose(explained.values, [[3, 3]], rtol=1e-5)  # of 2 + 2 + 1 + 1 + 3
    np.testing.assert_allclose([row["kept_by_bias"] for row in explained.ledger][:2], [3, 0], atol=1e-6)


@pytest.mark.parametrize("rule", ["epsilon", "gamma", "z+"])
def test_padding_by_a_layer_is_padding_by_the_convolution(rule, images):
    def build(*first, padding):
        convolution = layers.Conv2D(3, 3, padding=padding, activation="relu")
        return keras.Sequential([keras.Input((28, 28, 1)), *first, convolution, layers.Flatten(), layers.Dense(2)])

    inside, before = build(padding="same"), build(layers.ZeroPadding2D(1), padding="valid")
    before.set_weights(inside.get_weights())
    found, wanted = (attribution.lrp(targets.output(m, 1), images[:3], rule=rule).values for m in (before, inside))
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def series_and_images(padding="same", dilation=1):
    """Return the same network on series, and on images of one column."""

    def stack(of, one, two, lift):
        keras.utils.set_random_seed(3)
        return [
            of("Conv")(4, one(3), padding=padding, activation="relu", dilation_rate=one(dilation)),
            of("BatchNormalization", "")(),
            of("MaxPooling")(two(2)),
            of("Conv")(3, one(3), padding="same", strides=two(2), use_bias=False, activation="relu"),
            of("UpSampling")(two(2)),
            of("ConvTransposed")(2, one(3), strides=two(2), padding="same"),
            of("ZeroPadding")(lift(2)),
            of("Cropping")(lift(1)),
            of("AveragePooling")(two(2)),
        ]

    def named(axes):
        def of(kind, suffix=f"{axes}D"):
            name = kind.replace("Transposed", "")
            return getattr(layers, f"{name}{suffix}" if kind == name else f"{name}{suffix}Transpose")

        return of

    line = stack(named(1), lambda s: s, lambda s: s, lambda s: s)
    plane = stack(named(2), lambda s: (s, 1), lambda s: (s, 1), lambda s: (s, 0))
    ends = [[layers.GlobalAveragePooling1D()], [layers.GlobalAveragePooling2D()]]
    series, pictures = (
        keras.Sequential([keras.Input(shape), *parts, *end, layers.Dense(2)])
        for shape, parts, end in zip(((16, 2), (16, 1, 2)), (line, plane), ends, strict=True)
    )
    pictures.set_weights(
        [w.reshape(v.shape) for w, v in zip(series.get_weights(), pictures.get_weights(), strict=True)]
    )
    return series, pictures


@pytest.mark.parametrize("method", ["epsilon", "gamma", "z+", "Grad-CAM"])
def test_a_series_is_explained_as_an_image_of_one_column(method):
    x = np.random.default_rng(0).normal(size=(4, 16, 2)).astype("float32")
    networks = series_and_images()
    np.testing.assert_allclose(networks[0](x), networks[1](x[:, :, np.newaxis]), rtol=1e-4, atol=1e-5)

    def explain(network, samples):
        target = targets.output(network, 1)
        if method == "Grad-CAM":
            return attribution.grad_cam(target, samples).values
        return attribution.lrp(target, samples, rule=method).values

    found, wanted = explain(networks[0], x), explain(networks[1], x[:, :, np.newaxis])[:, :, 0]
    assert np.abs(wanted).max() > 0
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_a_causal_convolution_is_a_padded_one():
    x = np.random.default_rng(0).normal(size=(3, 9, 2)).astype("float32")

    def build(*first, padding):
        convolution = layers.Conv1D(3, 3, padding=padding, dilation_rate=2, activation="relu")
        return keras.Sequential([keras.Input((9, 2)), *first, convolution, layers.Flatten(), layers.Dense(2)])

    causal, padded = build(padding="causal"), build(layers.ZeroPadding1D((4, 0)), padding="valid")
    padded.set_weights(causal.get_weights())
    found, wanted = (attribution.lrp(targets.output(m, 1), x).values for m in (causal, padded))
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("form", ["sequential", "functional", "subclassed", "autoencoder"])
def test_relevance_is_the_same_in_mixed_precision(form, images):
    def build():
        keras.utils.set_random_seed(0)
        if form == "autoencoder":
            return models.conv_autoencoder((28, 28, 1), 4, seed=0)
        model = FORMS[form]("conv", (28, 28, 1))
        model(images[:1])
        return model

    def pick(model):
        return targets.latent(model, 1) if form == "autoencoder" else targets.logit(model, 1)

    wanted = attribution.lrp(pick(build()), images[:3])
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build()
    finally:
        keras.config.set_dtype_policy("float32")
    found = attribution.lrp(pick(model), images[:3])
    np.testing.assert_allclose(found.values, wanted.values, atol=1e-5 * np.abs(wanted.values).max())
    assert model(images[:1]).dtype == "float16"  # as before
    rough = {"atol": 0.02 * np.abs(wanted.outputs).max()}
    for method in (attribution.gradient_x_input, attribution.integrated_gradients, attribution.occlusion):
        explained = method(pick(model), images[:3])
        np.testing.assert_allclose(explained.outputs, wanted.outputs, **rough)
        assert explained.values.dtype == "float32"


def test_lrp_refuses_what_it_cannot_follow(images):
    def refused(model, message, target=targets.output, x=images[:2]):
        with pytest.raises(ValueError, match=message):
            attribution.lrp(target(model, 0), x)

    class Direct(keras.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b = layers.Dense(3), layers.Dense(2)

        def call(self, x):
            return self.b(tf.nn.relu(self.a(x)))

    x = images[:2, :, 0, 0]
    refused(Direct(), "computes something outside its layers", x=x)
    softmax = keras.Sequential([keras.Input((28,)), layers.Dense(3, "softmax")])
    refused(softmax, "explain targets.logit instead", x=x)
    assert attribution.lrp(targets.logit(softmax, 0), x).values.shape == x.shape
    x_in = keras.Input((28,))
    squared = keras.Model(x_in, keras.ops.square(layers.Dense(3)(x_in)))
    refused(squared, r"no rule for operation 'square.*' \(Square\): what it returns is no weighted sum", x=x)
    half = keras.Sequential([keras.Input((28,)), layers.Dense(3, dtype="float16", name="half")])
    refused(half, "layer 'half' keeps its weights in float16", x=x)
    autoencoder = models.dense_autoencoder((28, 28, 1), 4, seed=0)
    with pytest.raises(ValueError, match="reconstruction error is not a weighted sum"):
        attribution.lrp(targets.reconstruction_error(autoencoder), images[:2])
    with pytest.raises(ValueError, match=r"give one of tfae\.targets"):
        attribution.lrp(square, x)
    with pytest.raises(ValueError, match=r"unknown rule 'alpha'; the known ones are epsilon, z\+, gamma"):
        attribution.lrp(targets.latent(autoencoder, 0), images[:2], rule="alpha")


# --- occlusion -------------------------------------------------------------------------------------------------------


def test_a_window_on_a_series_covers_steps_with_all_their_channels():
    x = np.random.default_rng(0).normal(size=(3, 140, 2)).astype("float32")
    weights = np.random.default_rng(1).normal(size=(140, 2))

    def target(x):
        return tf.reduce_sum(x * weights, axis=(1, 2))

    explained = attribution.occlusion(target, x, window=15, stride=5, baseline=x.mean(axis=(0, 1)) * np.ones((140, 2)))
    falls = np.zeros((3, 140))
    covers = np.zeros(140)
    for start in range(0, 126, 5):
        rows = slice(start, start + 15)
        falls[:, rows] += ((x - x.mean(axis=(0, 1))) * weights)[:, rows].sum(axis=(1, 2))[:, np.newaxis]
        covers[rows] += 1
    np.testing.assert_allclose(explained.values, np.repeat((falls / covers)[..., np.newaxis], 2, axis=2), atol=1e-3)


# --- all derivatives at once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [models.dense_autoencoder, models.conv_autoencoder])
def test_the_jacobian_is_the_tape_row_by_row(build, images):
    autoencoder, x = build((28, 28, 1), 5, seed=0), images[:3]
    codes = attribution.jacobian(autoencoder.encoder, x, batch_size=4)
    assert codes.shape == (3, 5, 28, 28, 1)
    pixels = attribution.jacobian(autoencoder, x)
    for values, network, units in ((codes, autoencoder.encoder, range(5)), (pixels, autoencoder, (0, 300, 783))):
        for unit in units:
            with tf.GradientTape() as tape:
                batch = tf.constant(x)
                tape.watch(batch)
                row = tf.reshape(network(batch), (3, -1))[:, unit]
            expected = tape.gradient(row, batch)
            actual = values.reshape(3, -1, 28, 28, 1)[:, unit]
            np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())


def test_the_jacobian_of_a_linear_map_is_its_matrix():
    matrix = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    x = np.ones((5, 4), "float32")
    answer = attribution.jacobian(lambda v: tf.reshape(v @ matrix, (-1, 3, 1)), x)
    np.testing.assert_allclose(answer, np.tile(matrix.T[None, :, None], (5, 1, 1, 1)), rtol=1e-6)


def test_the_jacobian_is_taken_outside_training():
    class Wrong(keras.layers.Layer):
        def call(self, x, training=True):
            return x * (2 if training else 3)

    np.testing.assert_allclose(attribution.jacobian(Wrong(), np.ones((1, 2), "float32"))[0], 3 * np.eye(2))


# --- bad input -------------------------------------------------------------------------------------------------------

X = np.ones((3, 4), "float32")
PICTURES = np.ones((2, 8, 8, 1), "float32")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attribution.gradient(square, X[0]), "x has shape"),
        (lambda: attribution.gradient(square, X * np.nan), "are NaN or infinite"),
        (lambda: attribution.gradient(square, X[:0]), "x is empty"),
        (lambda: attribution.gradient(lambda x: x, X), r"shape \(3, 4\) for 3 samples; .* shape \(3,\)"),
        (lambda: attribution.gradient(layers.Dense(2), X), r"targets\.output\(model, 3\)"),
        (lambda: attribution.gradient(lambda x: tf.ones(len(x)), X), "does not depend on the samples"),
        (lambda: attribution.gradient(square, X, batch_size=0), "batch_size is 0"),
        (lambda: attribution.integrated_gradients(square, X, baseline=np.ones(3)), "the baseline has shape"),
        (lambda: attribution.integrated_gradients(square, X, steps=0), "steps is 0"),
        (lambda: attribution.integrated_gradients(square, X, tolerance=0), "tolerance is 0"),
        (lambda: attribution.smooth_grad(square, X, n_samples=1), "n_samples is 1"),
        (lambda: attribution.smooth_grad(square, X, noise=-1), "noise is -1"),
        (lambda: attribution.occlusion(square, X, window=5), "covers nothing or leaves gaps"),
        (lambda: attribution.occlusion(square, X, window=1, stride=2), "covers nothing or leaves gaps"),
        (lambda: attribution.occlusion(square, PICTURES, window=(2, 2, 1)), "one for each of the 2 axes"),
        (lambda: attribution.grad_cam(square, X), r"needs series \(n, steps, channels\) or images \("),
        (lambda: attribution.jacobian(lambda x: tf.ones((len(x), 2)), X), "do not depend on x"),
        (lambda: attribution.jacobian(lambda x: tf.ones((7, 2)), X), "its first axis must be samples"),
        (lambda: attribution.jacobian(keras.Sequential([keras.Input((5,)), layers.Dense(2)]), X), r"takes \(n, 5\)"),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_column_of_numbers_is_one_number_for_each_sample():
    layer = layers.Dense(1)
    explained = attribution.gradient_x_input(layer, X)
    np.testing.assert_allclose(explained.values, X * np.asarray(layer.kernel)[:, 0], rtol=1e-6)
    np.testing.assert_allclose(explained.outputs, np.asarray(layer(X))[:, 0], rtol=1e-6)


@pytest.mark.parametrize("method", ["gradient", "gradient_x_input", "smooth_grad", "integrated_gradients", "occlusion"])
def test_a_target_that_is_no_number_is_refused(method):
    """Of the logarithm of 0, of what is noise around 0, and of a baseline that is 0."""
    x = np.array([[0.0, 1], [2, 3]], "float32")
    options = {"window": 1} if method == "occlusion" else {}
    for target in (
        lambda x: tf.math.log(x[:, 0]),
        targets.Target("logarithm", lambda x: x, lambda _, x: tf.math.log(x[:, 0])),
    ):
        for _ in range(2):  # also from its graph
            with pytest.raises(ValueError, match=r"(lambda|logarithm).*, or its derivative, returns NaN or infinity"):
                getattr(attribution, method)(target, x, **options)


def test_weights_that_are_no_numbers_are_refused(images):
    autoencoder = models.conv_autoencoder((28, 28, 1), 3, seed=0)
    autoencoder.encoder.layers[0].bias.assign(np.full(16, np.nan))
    target = targets.latent(autoencoder, 0)
    for method in METHODS.values():
        with pytest.raises(ValueError, match=r"code unit 0(, or its derivative, returns| are) NaN"):
            method(target, images[:2])
    with pytest.raises(ValueError, match="encoder returns NaN"):
        attribution.jacobian(autoencoder.encoder, images[:2])


@pytest.mark.parametrize("name", ["gradient", "smooth_grad", "integrated_gradients", "grad_cam", "lrp"])
def test_weights_that_become_no_numbers_are_refused_by_the_graph(images, name):
    """A bias of NaN before a ReLU, of which the graph's fused kernel makes 0: finite maps of a network that is none."""
    network = keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(4, 3, activation="relu")])
    network.add(layers.Flatten())
    network.add(layers.Dense(2))
    target, method = targets.output(network, 1), getattr(attribution, name)
    for _ in range(2):
        method(target, images[:2])
    for bad in (np.nan, np.inf):
        network.layers[0].bias.assign([0, bad, 0, 0])
        with pytest.raises(ValueError, match=r"weights behind output 1 are NaN or infinite|or its derivative, returns"):
            method(target, images[:2])
    network.layers[0].bias.assign(np.zeros(4))
    assert np.isfinite(method(target, images[:2]).values).all()


def test_a_derivative_that_is_no_number_is_refused():
    x = np.array([[0.0, 1]], "float32")
    for method in (attribution.gradient, attribution.guided_backprop):
        with pytest.raises(ValueError, match="or its derivative, returns NaN or infinity"):
            method(lambda x: tf.sqrt(tf.nn.relu(x[:, 0])) + x[:, 1], x)


def test_grad_cam_names_the_layers_it_could_use(images):
    dense = targets.latent(models.dense_autoencoder((28, 28, 1), 4, seed=0), 0)
    with pytest.raises(ValueError, match="no layer returns images"):
        attribution.grad_cam(dense, images[:2])
    encoder, decoder = (build((28, 28, 1), 4) for build in (models.dense_encoder, models.dense_decoder))
    denoising = targets.latent(models.DenoisingAutoencoder(encoder, decoder), 0)  # its noise layer returns images
    with pytest.raises(ValueError, match="no layer returns images"):
        attribution.grad_cam(denoising, images[:2])
    conv = targets.latent(models.conv_autoencoder((28, 28, 1), 4, seed=0), 0)
    with pytest.raises(ValueError, match=r"no layer 'conv9' was called; the layers of this model are: conv2d"):
        attribution.grad_cam(conv, images[:2], layer="conv9")
    with pytest.raises(ValueError, match="name a convolutional layer"):
        attribution.grad_cam(conv, images[:2], layer="code")


def test_grad_cam_sees_the_sequence_of_a_recurrent_layer():
    x = np.random.default_rng(0).normal(size=(3, 6, 2)).astype("float32")
    ends = [layers.GRU(4, name="second"), layers.Dense(2)]
    model = keras.Sequential([keras.Input((6, 2)), layers.GRU(5, return_sequences=True, name="first"), *ends])
    target = targets.output(model, 1)
    found, wanted = attribution.grad_cam(target, x), attribution.grad_cam(target, x, layer="first")
    np.testing.assert_array_equal(found.values, wanted.values)
    assert found.values.shape == (3, 6, 1) and found.values.any()


def test_a_target_that_is_asked_again_sees_new_weights(images):
    autoencoder = models.dense_autoencoder((28, 28, 1), 4, (8,), seed=0)
    target, x = targets.latent(autoencoder, 1), images[:5]
    for seed in (0, 1, 2):  # one operation after another, then a graph, then the same graph
        other = models.dense_autoencoder((28, 28, 1), 4, (8,), seed=seed)
        autoencoder.set_weights(other.get_weights())
        wanted = attribution.gradient(targets.latent(other, 1), x)
        found = attribution.gradient(target, x)
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found.outputs, wanted.outputs, rtol=1e-5)
    with pytest.raises(ValueError, match=r"it must hold|shape"):
        attribution.gradient(target, np.ones((2, 3, 28), "float32")[..., 0])
