"""What every autoencoder shares: one pass a step, targets and weights, and a look at the data before training."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfae import models

SHAPE, MOMENTUM = (6,), 0.5


class Counted(keras.Layer):
    """Passes on what it gets, and counts how often it runs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x


def parts(units=4, outputs=None, code="linear", inputs=None):
    """An encoder and a decoder with a layer that counts, batch normalisation and dropout in each."""
    encoder = [Counted(), layers.BatchNormalization(momentum=MOMENTUM), layers.Dropout(0.3, seed=1)]
    decoder = [Counted(), layers.BatchNormalization(momentum=MOMENTUM), layers.Dropout(0.3, seed=2)]
    return (
        keras.Sequential([keras.Input(SHAPE), *encoder, layers.Dense(outputs or units, code)]),
        keras.Sequential([keras.Input((inputs or units,)), *decoder, layers.Dense(6, "sigmoid")]),
    )


KINDS = {
    "plain": lambda: models.Autoencoder(*parts()),
    "denoising": lambda: models.DenoisingAutoencoder(*parts(), seed=0),
    "k-sparse": lambda: models.KSparseAutoencoder(*parts(), k=2),
    "l1": lambda: models.SparseAutoencoder(*parts(), weight=0.1),
    "kl": lambda: models.SparseAutoencoder(*parts(code="sigmoid"), penalty="kl", weight=0.1),
    "contractive": lambda: models.ContractiveAutoencoder(*parts(), weight=0.1),
    "variational": lambda: models.VariationalAutoencoder(*parts(outputs=8), seed=0),
    "gaussian": lambda: models.VariationalAutoencoder(*parts(outputs=8), likelihood="gaussian", seed=0),
    "importance": lambda: models.VariationalAutoencoder(*parts(outputs=8), importance_samples=3, seed=0),
    "conditional": lambda: models.ConditionalVariationalAutoencoder(*parts(outputs=8, inputs=6), n_classes=2, seed=0),
}
every_kind = pytest.mark.parametrize("name", KINDS)
VARIATIONAL = ("variational", "gaussian", "importance", "conditional")


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).random((32, *SHAPE)).astype("float32")


def compiled(name, **options):
    keras.utils.set_random_seed(0)
    model = KINDS[name]()
    loss = {} if name in VARIATIONAL else {"loss": "mse"}
    model.compile(keras.optimizers.SGD(0.0), **loss, **options)
    return model


def given(name, x):
    """What the model is fitted to."""
    return (x, np.arange(len(x)) % 2) if name == "conditional" else (x,)


# --- one pass a step -------------------------------------------------------------------------------------------------


@every_kind
def test_a_step_runs_each_layer_once(name, x):
    """And so batch normalisation moves once: two steps with momentum 1/2 are three quarters of the way."""
    model = compiled(name)
    data = given(name, x)
    model.fit(*data, batch_size=32, epochs=2, verbose=0, validation_data=data)
    counts = [layer.calls.numpy() for part in (model.encoder, model.decoder) for layer in part.layers[:1]]
    looks = 2 if name == "kl" else 0  # at the first codes of both data, before training
    assert counts == [4 + looks, 4]  # two steps of training and two of validation
    if name != "denoising":  # which sees other samples
        moved = model.encoder.layers[1].moving_mean
        np.testing.assert_allclose(moved, (1 - MOMENTUM**2) * x.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("name", ["l1", "kl", "variational", "gaussian"])
def test_loss_and_reconstruction_see_the_same_dropped_units(name, x):
    """With a learning rate of 0 the logged loss is that of the very pass that the model's hooks have seen."""
    model = compiled(name, run_eagerly=True)
    seen = {}
    model.encoder.call = watch(model.encoder.call, seen, "code")
    model.decoder.call = watch(model.decoder.call, seen, "out")
    loss = model.train_on_batch(x)
    loss = loss[0] if isinstance(loss, list) else loss
    code, out = (seen[part].astype("float64") for part in ("code", "out"))
    assert (code == 0).sum() < code.size
    if name == "l1":
        expected = np.mean((out - x) ** 2) + 0.1 * np.abs(code).sum(axis=1).mean()
    elif name == "kl":
        rate = code.mean(axis=0)
        expected = np.mean((out - x) ** 2) + 0.1 * np.sum(0.05 * np.log(0.05 / rate) + 0.95 * np.log(0.95 / (1 - rate)))
    else:
        mean, log_variance = code[:, :4], code[:, 4:]
        kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1)
        log_likelihood = x * np.log(out) + (1 - x) * np.log(1 - out)
        if name == "gaussian":
            log_likelihood = -0.5 * (x - out) ** 2 - 0.5 * np.log(2 * np.pi)
        expected = (kl - log_likelihood.sum(axis=1)).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def watch(call, seen, name):
    def watched(*args, **kwargs):
        answer = call(*args, **kwargs)
        seen[name] = np.asarray(answer)
        return answer

    return watched


# --- targets, weights, regularisers ----------------------------------------------------------------------------------


def simple(name):
    """The kinds without random layers but their own noise, for sums that can be done again."""
    encoder = keras.Sequential([keras.Input(SHAPE), layers.Dense(8 if name in VARIATIONAL else 4, "tanh")])
    inputs = 6 if name == "conditional" else 4
    decoder = keras.Sequential([keras.Input((inputs,)), layers.Dense(6, "sigmoid")])
    options = {"l1": {"weight": 0.1}, "contractive": {"weight": 0.1}, "conditional": {"n_classes": 2}}.get(name, {})
    kinds = {
        "plain": models.Autoencoder,
        "l1": models.SparseAutoencoder,
        "contractive": models.ContractiveAutoencoder,
        "variational": models.VariationalAutoencoder,
        "conditional": models.ConditionalVariationalAutoencoder,
    }
    keras.utils.set_random_seed(0)
    model = kinds[name](encoder, decoder, **options)
    loss = {} if name in VARIATIONAL else {"loss": "mse"}
    model.compile(keras.optimizers.SGD(0.0), **loss)
    return model


@pytest.mark.parametrize("name", ["plain", "l1", "contractive"])
@pytest.mark.parametrize("how", ["arrays", "dataset", "validation", "batch", "generator"])
def test_sample_weights_weigh_the_errors_without_a_target(name, how, x):
    model, weights = simple(name), np.linspace(0, 2, len(x)).astype("float32")
    penalty = model.penalty(x)
    expected = np.mean(weights * model.reconstruction_error(x)) + (0 if penalty is None else float(penalty))
    triple = tf.data.Dataset.from_tensor_slices((x, x, weights)).batch(32)
    if how == "arrays":
        loss = model.evaluate(x, sample_weight=weights, batch_size=32, verbose=0)
    elif how == "dataset":
        loss = model.evaluate(triple, verbose=0)
    elif how == "validation":
        held_out = (x, None, weights)
        loss = model.fit(x, batch_size=32, verbose=0, validation_data=held_out).history["val_loss"][0]
    elif how == "batch":
        loss = model.train_on_batch(x, sample_weight=weights)
    else:
        loss = model.fit((batch for batch in [(x, x, weights)]), verbose=0).history["loss"][0]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("length", [4, 7])
def test_weights_of_images_are_those_of_samples(length):
    """As many samples as columns: weights laid along the columns would fit as well."""
    x = np.random.default_rng(0).random((4, 4, 4, 1)).astype("float32")
    model = models.conv_autoencoder((4, 4, 1), 2, (3,), seed=0)
    model.compile(keras.optimizers.SGD(0.0), "mse", weighted_metrics=["mae"])
    weights = np.array([0, 1, 2, 5], "float32")
    errors = model.reconstruction_error(x)
    logs = model.evaluate(x, sample_weight=weights, batch_size=length, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], np.mean(weights * errors), rtol=1e-5)
    mae = np.abs(x - model.reconstruct(x)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(logs["mae"], np.sum(weights * mae) / weights.sum(), rtol=1e-5)


class Uneven(keras.losses.MeanSquaredError):
    """Takes the last feature of a row for more than the first."""

    def call(self, y_true, y_pred):
        columns = np.arange(4, dtype="float32")
        return super().call(columns * y_true, columns * y_pred)


LOSSES = {
    "name": "mse",
    "class": "MeanSquaredError",
    "object": keras.losses.MeanSquaredError(),
    "sum": keras.losses.MeanSquaredError("sum"),
    "mean of weights": keras.losses.MeanSquaredError("mean_with_sample_weight"),
    "uneven": Uneven(),
    "cosine": "cosine_similarity",
}


@pytest.mark.parametrize("weighted", ["not", "samples", "rows"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_xla_adds_up_the_same_loss_and_gradient(loss, masked, weighted):
    """Four rows of four features, of which the decoder leaves one at zero, for `Masking` to mask."""
    rng = np.random.default_rng(0)
    x = rng.random((5, 4, 4)).astype("float32")
    weights = {"not": None, "samples": rng.random(5), "rows": rng.random((5, 4))}[weighted]
    kernel, bias = rng.random((3, 16)), np.where(np.arange(16) < 4, -100.0, 0.1)
    end = [layers.Reshape((4, 4)), *([layers.Masking()] if masked else [])]
    answers = []
    for jit_compile in (False, True):
        encoder = keras.Sequential([keras.Input((4, 4)), layers.Flatten(), layers.Dense(3, kernel_initializer="ones")])
        decoder = keras.Sequential([keras.Input((3,)), layers.Dense(16, "relu"), *end])
        decoder.layers[0].set_weights([kernel, bias])
        model = models.Autoencoder(encoder, decoder)
        model.compile(keras.optimizers.SGD(0.01), LOSSES[loss], jit_compile=jit_compile)
        assert model.runs_xla_on_cpu == jit_compile
        answers.append([model.train_on_batch(x, sample_weight=weights), *model.get_weights()])
    for usual, xla in zip(*answers, strict=True):
        np.testing.assert_allclose(xla, usual, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["l1", "kl", "contractive"])
def test_a_penalty_of_a_float64_model_is_added_to_its_loss(name, x):
    keras.config.set_dtype_policy("float64")
    try:
        model = KINDS[name]()
        model.compile("adam", "mse")
        expected = np.mean(model.reconstruction_error(x)) + float(model.penalty(x.astype("float64")))
        np.testing.assert_allclose(model.evaluate(x, batch_size=len(x), verbose=0), expected, rtol=1e-5)
        assert np.isfinite(model.train_on_batch(x))
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.slow
def test_a_variational_loss_is_weighted_by_the_sample():
    x = np.random.default_rng(0).random((400, *SHAPE)).astype("float32")
    model, weights = simple("variational"), np.r_[np.ones(200), np.zeros(200)].astype("float32")
    bound = -model.elbo(x[:200], n_samples=400).mean() / 2  # a mean over all samples, as Keras weighs
    got = np.mean([model.evaluate(x, sample_weight=weights, batch_size=400, verbose=0)[0] for _ in range(10)])
    np.testing.assert_allclose(got, bound, rtol=0.02)
    zero = model.evaluate(x, sample_weight=np.zeros(400), verbose=0)
    assert (zero[0] if isinstance(zero, list) else zero) == 0


def test_weights_of_zero_leave_a_variational_model_as_it_was(x):
    model = simple("variational")
    model.compile(keras.optimizers.SGD(1.0))
    before = model.get_weights()
    model.fit(x, sample_weight=np.zeros(len(x)), epochs=2, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.slow
def test_a_variational_model_learns_the_target_it_is_given(x):
    model = simple("variational")
    model.compile(keras.optimizers.Adam(0.2))
    model.fit(x, np.zeros_like(x), epochs=20, batch_size=32, verbose=0)
    assert model.reconstruct(x).max() < 0.1


@pytest.mark.parametrize("name", ["plain", "variational", "conditional"])
def test_regularisers_are_paid(name, x):
    model = simple(name)
    kernel = model.decoder.layers[0].kernel
    data = given(name, x)
    keras.utils.set_random_seed(1)
    without = model.train_on_batch(*data, return_dict=True)["loss"]
    model.sampling.seed_generator.state.assign([7, 0]) if name in VARIATIONAL else None
    kernel.regularizer = keras.regularizers.L2(3.0)
    runs = []
    for _ in range(2):
        if name in VARIATIONAL:
            model.sampling.seed_generator.state.assign([7, 0])
        model.compile(keras.optimizers.SGD(0.0), **({} if name in VARIATIONAL else {"loss": "mse"}))
        runs.append(float(model.train_on_batch(*data, return_dict=True)["loss"]))
        kernel.regularizer = None
    np.testing.assert_allclose(runs[0] - runs[1], 3 * np.sum(kernel.numpy() ** 2), rtol=1e-4)
    assert np.isfinite(without)


# --- the look at the data --------------------------------------------------------------------------------------------


def dataset(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0]).batch(8)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("plain", lambda x: dataset(x, np.arange(32)[:, None]), r"y has shape \(8, 1\) and x has shape \(8, 6\)"),
        ("plain", lambda x: dataset(x * 255), "go from .* Divide 8-bit images"),
        ("variational", lambda x: dataset(x * 255), "go from .* Divide 8-bit images"),
        ("plain", lambda x: dataset(np.where(x > 0.9, np.nan, x)), "NaN"),
        ("conditional", lambda x: dataset(x, np.arange(32)), "labels go from 0 to 7"),
        ("plain", lambda x: ((batch,) for batch in [x[:, :5]]), r"x has shape \(32, 5\)"),
        ("plain", lambda x: tf.data.Dataset.from_tensor_slices(x[:0]).batch(8), "holds no batch"),
    ],
)
def test_datasets_are_looked_at_before_training(name, data, message, x):
    model = simple(name)
    if name == "plain":
        model.compile("sgd", "binary_crossentropy")
    with pytest.raises(ValueError, match=message):
        model.fit(data(x), verbose=0)
    assert model.optimizer.iterations == 0


def test_a_later_batch_of_labels_is_no_target_either(x):
    model = simple("plain")
    with pytest.raises(ValueError, match="labels are no target"):
        model.compute_loss(x, np.zeros((32, 1), "float32"), tf.constant(x))


def test_targets_that_are_not_finite_are_refused(x):
    with pytest.raises(ValueError, match="y holds 1 values that are NaN"):
        simple("plain").fit(x, np.where(x == x.max(), np.nan, x), verbose=0)


def test_nothing_of_a_generator_is_lost(x):
    model = simple("plain")
    loss = model.fit(((x[i : i + 8],) for i in range(0, 32, 8)), verbose=0).history["loss"][0]
    np.testing.assert_allclose(loss, model.reconstruction_error(x).mean(), rtol=1e-5)


def test_one_held_out_array_in_a_tuple_will_do(x):
    model = simple("plain")
    history = model.fit(x, verbose=0, validation_data=(x,)).history
    np.testing.assert_allclose(history["val_loss"][0], model.reconstruction_error(x).mean(), rtol=1e-5)


def test_a_sigmoid_that_cannot_reach_the_samples_is_named(x):
    with pytest.warns(UserWarning, match="decoder ends with a sigmoid"):
        simple("plain").fit(10 * x - 5, verbose=0)


def test_answers_for_datasets_are_those_for_arrays(x):
    model, pairs = simple("plain"), dataset(x, np.arange(32))
    for method in (model.encode, model.reconstruct, model.reconstruction_error):
        np.testing.assert_allclose(method(pairs), method(x), rtol=1e-6)


# --- precision -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["l1", "contractive", "variational", "conditional", "importance"])
def test_half_precision_trains_every_kind(name, policy, x):
    keras.config.set_dtype_policy(policy)
    try:
        model, exact = compiled(name), None
    finally:
        keras.config.set_dtype_policy("float32")
    exact = compiled(name)
    exact.set_weights(model.get_weights())
    data = given(name, x)
    logs, wanted = (one.evaluate(*data, verbose=0, return_dict=True)["loss"] for one in (model, exact))
    np.testing.assert_allclose(logs, wanted, rtol=0.05)
    assert np.isfinite(model.fit(*data, verbose=0).history["loss"]).all()


def test_errors_in_half_precision_do_not_overflow():
    x = np.full((3, *SHAPE), 300.0, "float32")
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = models.Autoencoder(
            keras.Sequential([keras.Input(SHAPE), layers.Dense(2)]),
            keras.Sequential([keras.Input((2,)), layers.Dense(6, kernel_initializer="zeros")]),
        )
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(model.reconstruction_error(x), 90_000, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8"])
def test_errors_of_samples_of_any_type_are_those_of_float32(dtype, x):
    """Images divided by 255 are float64, as NumPy makes them."""
    model, samples = simple("plain"), (x if dtype != "uint8" else np.round(x)).astype(dtype)
    expected = model.reconstruction_error(samples.astype("float32"))
    np.testing.assert_allclose(model.reconstruction_error(samples), expected, rtol=1e-3)


def test_bytes_can_be_damaged(x):
    model = simple("plain")
    noisy = models.DenoisingAutoencoder(model.encoder, model.decoder, "gaussian", level=0.1, seed=0)
    answer = noisy(np.arange(12, dtype="uint8").reshape(2, 6), training=True)
    assert np.isfinite(answer).all()


# --- annealing -------------------------------------------------------------------------------------------------------


def test_noise_does_not_depend_on_the_batch_size(x):
    model = simple("variational")
    for method in (model.elbo, model.log_likelihood):
        once = method(x, n_samples=9, seed=3)
        np.testing.assert_allclose(method(x, n_samples=9, seed=3, batch_size=5), once, rtol=1e-5)
        assert not np.allclose(method(x, n_samples=9, seed=4), once, rtol=1e-5)


# --- the class of a conditional model --------------------------------------------------------------------------------


def test_the_model_of_one_class_is_the_conditional_one_told_that_class(x):
    model = simple("conditional")
    one = model.for_class(1)
    np.testing.assert_allclose(one.reconstruct(x), model.reconstruct(x, labels=1), rtol=1e-6)
    np.testing.assert_allclose(
        one.elbo(x, n_samples=5, seed=2), model.elbo(x, n_samples=5, seed=2, labels=1), rtol=1e-5
    )
    np.testing.assert_array_equal(one.encode(x), model.encode(x))


def test_the_model_of_one_class_survives_saving(x, tmp_path):
    one = simple("conditional").for_class(1)
    one.save(tmp_path / "one.keras")
    loaded = keras.models.load_model(tmp_path / "one.keras")
    np.testing.assert_array_equal(loaded.reconstruct(x), one.reconstruct(x))


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, x: model(x),
        lambda model, x: model.decoded(model.code(x)),
        lambda model, x: model.log_conditional(x, model.code(x)),
    ],
)
def test_samples_without_a_class_are_refused(ask, x):
    with pytest.raises(ValueError, match=r"labels= .*for_class\(3\)"):
        ask(simple("conditional"), tf.constant(x))


def test_no_class_beyond_the_last():
    with pytest.raises(ValueError, match="labels go from 2 to 2"):
        simple("conditional").for_class(2)


# --- into production -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("when", ["new", "after fit", "after loading"])
@pytest.mark.parametrize("name", ["plain", "k-sparse", "variational", "conditional"])
def test_export_answers_as_the_model_does(name, when, x, tmp_path):
    model = compiled(name) if name == "k-sparse" else simple(name)
    data = given(name, x)
    if when == "after fit":
        model.fit(*data, verbose=0)
    if when == "after loading":
        model.save(tmp_path / "m.keras")
        model = keras.models.load_model(tmp_path / "m.keras", custom_objects={"Counted": Counted})
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    if name == "conditional":
        answer = served.serve((tf.constant(x), tf.constant(data[1], tf.int32)))
        np.testing.assert_allclose(answer, model.reconstruct(x, labels=data[1]), rtol=1e-5)
    else:
        np.testing.assert_allclose(served.serve(tf.constant(x)), model.reconstruct(x), rtol=1e-5)


def test_a_converter_takes_the_model(x):
    model = simple("plain")
    program = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    interpreter = tf.lite.Interpreter(model_content=program)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x[:1])
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(answer, model.reconstruct(x[:1]), rtol=1e-4)


@pytest.mark.slow
def test_a_model_loads_where_only_the_package_is_imported(x, tmp_path):
    simple("variational").save(tmp_path / "m.keras")
    script = textwrap.dedent("""
        import sys, tfae, keras
        print(type(keras.models.load_model(sys.argv[1])).__name__)
    """)
    run = subprocess.run([sys.executable, "-c", script, tmp_path / "m.keras"], capture_output=True, text=True)
    assert run.stdout.split() == ["VariationalAutoencoder"], run.stderr[-1000:]
