"""Relevance: each rule by hand, closed forms, and networks that nobody here wrote."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tfae import attribution, relevance, targets

pytestmark = pytest.mark.usefixtures("asked_again")

RNG = np.random.default_rng(0)
PICTURES = RNG.normal(size=(3, 8, 8, 4)).astype("float32")
SERIES = RNG.normal(size=(3, 5, 6)).astype("float32")
ROWS = RNG.normal(size=(5, 3)).astype("float32")


def explain(model, x, index=1, rule="epsilon", **options):
    return attribution.lrp(targets.output(model, index), x, rule=rule, **({"epsilon": 1e-9} | options))


def close(found, wanted, tolerance=1e-5):
    np.testing.assert_allclose(found, wanted, atol=tolerance * np.abs(wanted).max())


def is_closed(explained, tolerance):
    """What reached the inputs and what was kept on the way add up to the outputs, in sums of that size."""
    kept = sum(row["kept_by_bias"] for row in explained.ledger)
    size = np.abs(explained.values).sum() + sum(abs(row["kept_by_bias"]) for row in explained.ledger)
    assert abs(explained.values.sum(dtype="float64") + kept - explained.outputs.sum(dtype="float64")) < tolerance * size


def with_random_weights(model, seed=0):
    """Give every weight another value, those of batch normalisations and biases too."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            size = layer.moving_mean.shape
            layer.set_weights(
                [rng.uniform(0.5, 1.0, size), rng.normal(size=size) * 0.3, rng.normal(size=size) * 0.1,
                 rng.uniform(0.5, 1.5, size)][-len(layer.weights) :]
            )  # fmt: skip
        elif getattr(layer, "use_bias", False) and hasattr(layer, "bias"):
            layer.bias.assign(rng.normal(size=layer.bias.shape) * 0.1)
    return model


def shares(a, w, b, received):
    """The rule epsilon of one linear layer in NumPy: the last axis of `a` is multiplied by `w`."""
    return a * ((received / (a @ w + b)) @ w.T)


# --- one layer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", relevance.RULES)
def test_a_depthwise_convolution_is_one_whose_kernel_is_diagonal(rule):
    def build(convolution):
        return keras.Sequential([keras.Input((8, 8, 4)), convolution, layers.Flatten(), layers.Dense(2)])

    depthwise = with_random_weights(build(layers.DepthwiseConv2D(3, 2, "same", depth_multiplier=2, activation="relu")))
    full = build(layers.Conv2D(8, 3, 2, "same", activation="relu"))
    kernel, *rest = depthwise.get_weights()  # (3, 3, 4, 2)
    full.set_weights([np.einsum("hwcm,cd->hwdcm", kernel, np.eye(4)).reshape(3, 3, 4, 8), *rest])
    close(explain(depthwise, PICTURES, rule=rule).values, explain(full, PICTURES, rule=rule).values)


def products(gate):
    """Return the product of two linear maps of three numbers, without bias; the second may be a gate."""
    x = keras.Input((3,))
    dense = [layers.Dense(4, use_bias=False), layers.Dense(4, gate, use_bias=False), layers.Dense(2, use_bias=False)]
    signal, other = dense[0](x), dense[1](x)
    if gate:
        other = layers.Reshape((4,))(layers.Reshape((2, 2))(other))
    model = keras.Model(x, dense[2](layers.Multiply()([signal, other])))
    v, w, u = (np.asarray(layer.kernel, "float64") for layer in dense)
    a, b = ROWS @ v, ROWS @ w
    return model, v, w, a * (1 / (1 + np.exp(-b)) if gate else b) * u[:, 1]


def test_the_factors_of_a_product_share_alike():
    model, v, w, received = products(None)
    close(explain(model, ROWS).values, shares(ROWS, v, 0, received / 2) + shares(ROWS, w, 0, received / 2))


def test_a_gate_hands_all_to_the_signal():
    model, v, _, received = products("sigmoid")
    close(explain(model, ROWS).values, shares(ROWS, v, 0, received))


def test_a_square_is_handed_back_once():
    x = keras.Input((3,))
    explained = explain(keras.Model(x, layers.Multiply()([x, x])), ROWS)
    close(explained.values, ROWS**2 * [0, 1, 0])


@pytest.mark.parametrize("axis", [-1, (1, 2)])
@pytest.mark.parametrize("kind", [layers.LayerNormalization, layers.RMSNormalization])
def test_a_normalisation_is_a_sum_with_its_deviation_held(kind, axis):
    if kind is layers.RMSNormalization and axis != -1:
        pytest.skip("Keras has it over one axis")
    layer = kind(axis=axis)
    model = keras.Sequential([keras.Input((5, 6)), layer, layers.Flatten(), layers.Dense(2, use_bias=False)])
    layer.set_weights([RNG.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    x, axes = SERIES.astype("float64"), tuple(np.atleast_1d(axis))
    scale, *shift = (np.asarray(weight) for weight in layer.weights)
    n = np.prod([x.shape[i] for i in axes])
    mean = x.mean(axis=axes, keepdims=True) if shift else 0
    deviation = np.sqrt(((x - mean) ** 2).mean(axis=axes, keepdims=True) + layer.epsilon)
    z = (x - mean) / deviation * scale + (shift[0] if shift else 0)
    w = np.asarray(model.layers[-1].kernel, "float64")[:, 1].reshape(5, 6)
    weights = w / deviation * scale  # R / z, times the slope of each unit without its mean
    explained = explain(model, SERIES)
    close(explained.values, x * (weights - weights.sum(axis=axes, keepdims=True) / n * bool(shift)))
    close(explained.ledger[-1]["kept_by_bias"], (shift[0] * w).sum() * 3 if shift else 0.0, 1e-4)
    np.testing.assert_allclose(explained.ledger[-1]["received"], (z * w).sum(), rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"use_causal_mask": True}])
def test_attention_hands_relevance_to_its_values_in_three_steps(options):
    x = keras.Input((5, 6))
    attention = layers.MultiHeadAttention(2, 3)
    model = with_random_weights(keras.Model(x, attention(x, layers.Rescaling(2.0)(x), **options)))
    for weight in attention.weights:
        weight.assign(RNG.normal(size=weight.shape))
    *_, v, c, o, b = (np.asarray(weight, "float64") for weight in attention.weights)
    _, scores = attention(SERIES, 2 * SERIES, return_attention_scores=True, **options)  # (n, head, to, from)
    values = np.einsum("nsd,dhk->nshk", 2 * SERIES, v) + c
    mixed = np.einsum("nhts,nshk->nthk", scores, values)
    flat, w = mixed.reshape(3, 5, 6), o.reshape(6, 6)
    received = np.zeros((3, 5, 6))
    received[:, 2, 4] = (flat @ w + b)[:, 2, 4]
    back = shares(flat, w, b, received).reshape(mixed.shape)
    back = values * np.einsum("nhts,nthk->nshk", scores, back / mixed)
    wanted = shares(2 * SERIES, v.reshape(6, 6), c.reshape(6), back.reshape(3, 5, 6))
    close(explain(model, SERIES, index=(2, 4)).values, wanted, 1e-4)


def test_attention_that_is_written_out_is_attention():
    def build(mix):
        x = keras.Input((5, 6))
        dense = [
            layers.Dense(6, use_bias=False, kernel_initializer=keras.initializers.RandomNormal(1.0, seed=seed))
            for seed in range(4)
        ]
        q, v, k = (layer(x) for layer in dense[:3])
        return keras.Model(x, dense[3](mix(q, v, k)))

    def of_layers(q, v, k):
        return layers.Dot((2, 1))([layers.Softmax()(layers.Dot((2, 2))([q, k])), v])

    def of_operations(q, v, k):
        return ops.softmax(q @ ops.transpose(k, (0, 2, 1))) @ v

    whole = build(lambda q, v, k: layers.Attention()([q, v, k]))
    wanted = explain(whole, SERIES, index=0)
    for mix in (of_layers, of_operations):
        close(explain(build(mix), SERIES, index=0).values, wanted.values)
    is_closed(wanted, 1e-6)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("backwards", [False, True])
def test_an_lstm_hands_back_step_by_step(backwards, sequences):
    """The recursion of Arras et al. (2017) in NumPy: gates get nothing, sums split by the rule epsilon."""
    lstm = layers.LSTM(4, go_backwards=backwards, return_sequences=sequences)
    model = keras.Sequential([keras.Input((5, 6)), lstm])
    for weight in lstm.weights:
        weight.assign(RNG.normal(size=weight.shape) * 0.7)
    w, u, b = (np.asarray(weight, "float64") for weight in lstm.weights)
    x = SERIES[:, ::-1] if backwards else SERIES
    h, c, run = [np.zeros((3, 4))], [np.zeros((3, 4))], []
    for step in range(5):
        z = x[:, step] @ w + h[-1] @ u + b
        i, f, o = (1 / (1 + np.exp(-z[:, k : k + 4])) for k in (0, 4, 12))
        g = np.tanh(z[:, 8:12])
        c.append(f * c[-1] + i * g)
        h.append(o * np.tanh(c[-1]))
        run.append((f * c[-2], i * g, z[:, 8:12]))
    wanted, of_h, of_c = np.zeros(x.shape), np.zeros((3, 4)), np.zeros((3, 4))
    last = 3 if sequences else 4  # the step whose unit 1 is explained
    of_h[:, 1] = h[last + 1][:, 1]
    for step in reversed(range(last + 1)):
        remembered, added, z = run[step]
        of_c = of_c + of_h
        of_g, of_c = of_c * added / c[step + 1], of_c * remembered / c[step + 1]
        wanted[:, step] = x[:, step] * ((of_g / z) @ w[:, 8:12].T)
        of_h = h[step] * ((of_g / z) @ u[:, 8:12].T)
    explained = explain(model, SERIES, index=(3, 1) if sequences else 1)
    close(explained.values, wanted[:, ::-1] if backwards else wanted, 1e-4)
    is_closed(explained, 1e-6)


@pytest.mark.parametrize("rule", relevance.RULES)
@pytest.mark.parametrize(
    "linear",
    [layers.Conv2D(3, 3), layers.Conv2DTranspose(3, 3), layers.DepthwiseConv2D(3), layers.Dense(3, use_bias=False)],
    ids=lambda layer: type(layer).__name__,
)
def test_batch_normalisation_is_part_of_the_layer_before_it(linear, rule):
    linear = type(linear).from_config(linear.get_config())
    normalise = layers.BatchNormalization()
    rest = [layers.ReLU(), layers.Flatten(), layers.Dense(2)]
    model = with_random_weights(keras.Sequential([keras.Input((8, 8, 4)), linear, normalise, *rest]))
    normalise.gamma.assign(normalise.gamma * np.resize([1, -1], normalise.gamma.shape))
    gamma, beta, mean, variance = normalise.get_weights()
    s = gamma / np.sqrt(variance + normalise.epsilon)
    folded = type(linear).from_config(linear.get_config() | {"use_bias": True})
    twin = keras.Sequential([keras.Input((8, 8, 4)), folded, *rest])
    kernel, *bias = linear.get_weights()
    axis = {layers.Conv2DTranspose: (1, 1, -1, 1), layers.DepthwiseConv2D: (1, 1, -1, 1)}.get(type(linear), (-1,))
    folded.set_weights([kernel * s.reshape(axis), (bias[0] if bias else 0) * s + beta - mean * s])
    np.testing.assert_allclose(model(PICTURES), twin(PICTURES), atol=1e-4)
    close(explain(model, PICTURES, rule=rule).values, explain(twin, PICTURES, rule=rule).values, 1e-4)


# --- whole networks --------------------------------------------------------------------------------------------------


def residual():
    """A small network as they are built: every kind of layer of ResNet50 and MobileNetV2."""
    x = keras.Input((8, 8, 4))
    h = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(x)))
    h = layers.MaxPooling2D(2)(layers.ZeroPadding2D(1)(h))
    branch = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(h)
    branch = layers.Activation("relu")(layers.BatchNormalization()(branch))
    h = layers.Add()([h, layers.BatchNormalization()(layers.Conv2D(6, 1)(branch))])
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.ReLU()(h))))


def test_without_epsilon_a_network_of_relus_gets_gradient_times_input():
    """Between its kinks the network is linear, and the shares of each layer multiply to the slope."""
    model = with_random_weights(residual())
    close(explain(model, PICTURES).values, attribution.gradient_x_input(targets.output(model, 1), PICTURES).values)


@pytest.mark.parametrize("rule", relevance.RULES)
def test_the_ledger_of_a_residual_network_is_closed(rule):
    is_closed(explain(with_random_weights(residual()), PICTURES, rule=rule), 1e-6)


@pytest.mark.parametrize("rule", relevance.RULES)
def test_a_sample_has_the_relevance_that_it_has_alone(rule):
    """Products are split by the sign of what a layer takes only where something in the batch is negative."""
    model, pictures = with_random_weights(residual()), np.stack([abs(PICTURES[0]), PICTURES[1], 0 * PICTURES[2]])
    together = explain(model, pictures, rule=rule).values
    for picture, values in zip(pictures, together, strict=True):
        close(explain(model, picture[np.newaxis], rule=rule).values[0], values)


def application(name, size=64):
    """Return a network with random weights, whose batch normalisations have seen two images, and these."""
    keras.utils.set_random_seed(0)
    build = getattr(keras.applications, name)
    model = with_random_weights(
        build(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)
    )
    x = np.random.default_rng(0).random((2, size, size, 3), "float32")
    x = x * 255 if name in ("EfficientNetB0", "ConvNeXtTiny") else x
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    model(x, training=True)
    return model, x


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2"])
def test_networks_of_relus_that_nobody_here_wrote_get_gradient_times_input(name):
    model, x = application(name)
    explained = explain(model, x, epsilon=1e-12)
    close(explained.values, attribution.gradient_x_input(targets.output(model, 1), x).values)
    is_closed(explained, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rule"), [("EfficientNetB0", "epsilon"), ("EfficientNetB0", "gamma"), ("ConvNeXtTiny", "epsilon")]
)
def test_the_ledger_of_networks_that_nobody_here_wrote_is_closed(name, rule):
    is_closed(explain(*application(name), rule=rule), 1e-5)


def test_a_transformer_with_positions_is_explained_and_its_positions_keep_their_share():
    x = keras.Input((5, 6))
    h = layers.Dense(8)(x) + layers.Embedding(5, 8)(ops.arange(5))
    for _ in range(2):
        a = layers.LayerNormalization()(h)
        h = layers.Add()([h, layers.MultiHeadAttention(2, 4)(a, a)])
        h = layers.Add()([h, layers.Dense(8)(layers.Dense(16, "gelu")(layers.LayerNormalization()(h)))])
    model = with_random_weights(keras.Model(x, layers.Dense(3)(h[:, 0])))
    explained = explain(model, SERIES)
    is_closed(explained, 1e-6)
    assert abs(explained.ledger[-2]["kept_by_bias"]) > 0  # of the sum of tokens and positions


# --- what is no layer of Keras's, and what is refused ----------------------------------------------------------------


def test_operations_of_a_functional_graph_that_only_move_and_add_get_gradient_times_input():
    x = keras.Input((8, 8, 4))
    h = ops.pad(x, [[0, 0], [1, 1], [0, 2], [0, 0]])[:, 1:, ::2]
    h = ops.concatenate([h, 2 * h], axis=-1) - ops.mean(h, axis=(1, 2, 3), keepdims=True)
    h = ops.transpose(ops.reshape(h, (-1, 9, 40)), (0, 2, 1)) / 3
    model = keras.Model(x, ops.sum(ops.relu(h), axis=1))
    close(explain(model, PICTURES).values, attribution.gradient_x_input(targets.output(model, 1), PICTURES).values)


class Own(layers.Dense):
    """A dense layer and what is done to what it returns."""

    def __init__(self, then, **options):
        super().__init__(3, **options)
        self.then = then

    def call(self, x):
        return self.then(super().call(x))


@pytest.mark.parametrize("rule", relevance.RULES)
def test_a_layer_of_ones_own_that_computes_a_sum_is_explained(rule):
    own = keras.Sequential([keras.Input((3,)), Own(lambda z: 2 * z, bias_initializer="ones"), layers.Dense(2)])
    dense = keras.Sequential([keras.Input((3,)), layers.Dense(3), layers.Dense(2)])
    dense.set_weights([weight * factor for weight, factor in zip(own.get_weights(), (2, 2, 1, 1), strict=True)])
    if rule == "epsilon":
        close(explain(own, ROWS, rule=rule).values, explain(dense, ROWS, rule=rule).values)
    else:  # which of the products are positive, it need not know
        with pytest.raises(ValueError, match=r"no rule for layer 'own.*does not return what a Own with its weights"):
            explain(own, ROWS, rule=rule)


@pytest.mark.parametrize("rule", relevance.RULES)
def test_a_layer_of_ones_own_that_computes_no_sum_is_refused(rule):
    own = keras.Sequential([keras.Input((3,)), Own(ops.square), layers.Dense(2)])
    with pytest.raises(
        ValueError, match=r"no rule for layer 'own.*\(Own\): (what it returns is no|it does not return)"
    ):
        explain(own, ROWS, rule=rule)


def test_relevance_too_small_for_float32_makes_no_layer_a_trouble():
    """The mean of 64 places receives 1e-37, of which float32 cannot hold a 64th: it hands on nothing, and says so."""
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.GlobalAveragePooling2D(), layers.Dense(1)])
    model.layers[-1].kernel.assign([[2.2e-22]])
    explained = explain(model, np.ones((2, 8, 8, 1)), 0, epsilon=1e-6)
    row = explained.ledger[-1]
    assert row["handed_on"] == 0 and row["lost"] == row["received"] > 0


@pytest.mark.parametrize("layer", [layers.GRU(4), layers.Bidirectional(layers.LSTM(4))], ids=["GRU", "Bidirectional"])
def test_a_layer_that_computes_between_the_layers_that_it_calls_is_named(layer):
    model = keras.Sequential([keras.Input((5, 6)), layer])
    kind = type(layer).__name__
    with pytest.raises(
        ValueError, match=rf"through layer '{kind.lower()}.*\({kind}\), which computes something outside"
    ):
        explain(model, SERIES)


def test_a_normalisation_by_another_rule_is_refused():
    model = keras.Sequential([keras.Input((8, 8, 4)), layers.GroupNormalization(2), layers.Flatten()])
    with pytest.raises(ValueError, match=r"\(GroupNormalization\): what it returns is no weighted sum"):
        explain(model, PICTURES)
