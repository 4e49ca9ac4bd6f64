"""One device, two replicas and two workers train to the same weights.

All models are trained in one process per device or worker, because TensorFlow takes seconds to start: `train_all` runs
as two workers of a real cluster and, beside them, in a third process on one device and on two replicas.
"""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfae import internals, loop, models, replicas
from tfae.cluster import run_cluster
from tfae.layers import Corrupt

TOLERANCE = 1e-6  # relative, of each weight array's norm; float32 carries 6e-8 and the order of sums differs


def train_all(spanning):
    """Train every model on one device, if there is one worker, and under the strategy that spans several."""
    from tfae import distribute  # isort: skip

    strategy = distribute.strategy(spanning)
    import keras
    import numpy as np
    import tensorflow as tf

    from tfae import models

    keras.config.disable_traceback_filtering()
    shape = (12, 12, 1)
    rng = np.random.default_rng(0)
    x = np.kron(rng.random((161, 3, 3, 1)), np.ones((4, 4, 1))).astype("float32")  # the last of 5 batches has 1 sample

    def encoder(outputs=8, activation="linear"):
        return models.dense_encoder(shape, outputs, (32,), code_activation=activation, seed=1)

    def decoder(inputs=8):
        return models.dense_decoder(shape, inputs, (32,), seed=2)

    def dense():
        return models.dense_autoencoder(shape, 8, (32,), seed=0)

    def normalised():
        model, normalisation = dense(), keras.layers.BatchNormalization(synchronized=True)
        return models.Autoencoder(keras.Sequential([model.encoder, normalisation]), model.decoder)

    def frozen():
        model = normalised()
        model.encoder.trainable = False
        return model

    sgd, vae = (lambda: keras.optimizers.SGD(0.3)), models.VariationalAutoencoder
    kinds = {
        "dense": (dense, lambda: keras.optimizers.Adam(1e-3, clipnorm=0.01)),
        "convolutional": (lambda: models.conv_autoencoder(shape, 8, (4, 8), seed=0), keras.optimizers.Adam),
        "l1": (lambda: models.SparseAutoencoder(encoder(), decoder(), penalty="l1"), sgd),
        "kl": (lambda: models.SparseAutoencoder(encoder(8, "sigmoid"), decoder(), penalty="kl", weight=0.1), sgd),
        "denoising": (lambda: models.DenoisingAutoencoder(encoder(), decoder(), "masking", 0.3, seed=3), sgd),
        "variational": (lambda: vae(encoder(16), decoder(), seed=4), lambda: keras.optimizers.SGD(0.01)),
        "normalised": (normalised, sgd),
        "frozen": (frozen, sgd),
        "weighted": (dense, sgd),
    }
    weights = rng.random((len(x), 1, 1)).astype("float32")  # of images, for which Keras wants a weight of each pixel
    weighted = {"y": x, "sample_weight": weights, "validation_data": (x[:41], x[:41], weights[:41])}

    def train(name, strategy):
        build, optimizer = kinds[name]
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = build()
            loss = {} if isinstance(model, vae) else {"loss": "mse", "metrics": ["mae"]}
            model.compile(optimizer(), **loss)
        data = weighted if name == "weighted" else {"validation_data": x[:41]}
        history = model.fit(x, epochs=4, batch_size=40, verbose=0, **data)
        return model, (model.get_weights(), history.history)

    def refused(call):
        try:
            call()
        except ValueError as error:
            return str(error)
        return "nothing was refused"

    trained = {name: train(name, strategy) for name in kinds}
    answers = {"several": {name: result for name, (_, result) in trained.items()}}
    model = trained["dense"][0]
    answers["reconstruct"], answers["predict"] = model.reconstruct(x[:7]), model.predict(x[:7], verbose=0)
    answers["evaluate"] = model.evaluate(x[:41], batch_size=40, verbose=0)
    answers["small batch"] = refused(lambda: model.fit(x, batch_size=1, verbose=0))
    with strategy.scope():
        unsynchronised = keras.Sequential([encoder(), keras.layers.BatchNormalization()])
        model = models.Autoencoder(unsynchronised, decoder())
        model.compile("sgd", "mse")
        answers["own statistics"] = refused(lambda: model.fit(x, verbose=0))
        model = models.Autoencoder(encoder(), decoder())
        model.compile("sgd", keras.losses.MeanSquaredError(reduction="sum"))
        answers["sum"] = refused(lambda: model.fit(x, verbose=0))
        model = dense()
    model.compile(keras.optimizers.SGD(), "mse")
    answers["optimizer"] = refused(lambda: model.fit(x, verbose=0))

    class Contrast(models.Autoencoder):
        """Logs what a replica's dropout draws, with another sign on each: 0 on average if they draw the same."""

        def train_step(self, data):
            sign = 1.0 - 2.0 * tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, "float32")
            return {"contrast": sign * tf.reduce_sum(self.encoder(data, training=True) * tf.range(100.0))}

    with strategy.scope():
        model = Contrast(
            keras.Sequential([keras.Input((100,)), keras.layers.Dropout(0.5, seed=1)]), keras.layers.Dense(100)
        )
        model.compile("sgd", "mse")
    seeds = model.encoder.layers[0].seed_generator.state
    history = model.fit(np.ones((8, 100)), batch_size=2, epochs=2, verbose=0).history
    answers["contrast"], answers["seeds"] = history["contrast"], seeds.numpy().tolist()
    tf.random.set_seed(distribute.is_chief())
    answers["other order"] = refused(lambda: trained["dense"][0].fit(x, verbose=0))
    if spanning:
        answers["one"] = {name: train(name, tf.distribute.get_strategy())[1] for name in kinds}
    return answers


@pytest.fixture(scope="module")
def answers():
    """Of one device and two replicas, and of two workers."""
    with ThreadPoolExecutor() as both:
        one_process = both.submit(run_cluster, train_all, 2, workers=1)
        cluster = both.submit(run_cluster, train_all, None, workers=2)
        return [*one_process.result(), *cluster.result()]


NAMES = ["dense", "convolutional", "l1", "kl", "denoising", "variational", "normalised", "frozen", "weighted"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_weights_and_logs_are_those_of_one_device(answers, name):
    weights, history = answers[0]["one"][name]
    for others, logs in (answer["several"][name] for answer in answers):
        for one, other in zip(weights, others, strict=True):
            error = np.linalg.norm(one - other)
            assert error <= TOLERANCE * np.linalg.norm(one) + 1e-8  # where rounding alone moves it
        assert list(logs) == list(history) and "val_loss" in logs
        for key, values in history.items():
            np.testing.assert_allclose(logs[key], values, rtol=TOLERANCE)
    assert min(history["loss"][1:]) < history["loss"][0]


@pytest.mark.slow
def test_all_workers_hold_the_same_weights(answers):
    for name in NAMES:
        first, second = (answer["several"][name][0] for answer in answers[1:])
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.slow
def test_each_worker_can_answer_alone(answers):
    for answer in answers:
        np.testing.assert_allclose(answer["predict"], answer["reconstruct"], rtol=1e-5)
        np.testing.assert_allclose(answer["evaluate"][0], answer["several"]["dense"][1]["val_loss"][-1], rtol=1e-5)


@pytest.mark.slow
def test_what_replicas_cannot_share_is_refused(answers):
    for answer in answers:
        assert "batch_size is 1 and 2 replicas share each batch" in answer["small batch"]
        assert "BatchNormalization(synchronized=True)" in answer["own statistics"]
        assert "reduction 'sum'" in answer["sum"]
        assert "the optimizer was made outside the strategy's scope" in answer["optimizer"]


@pytest.mark.slow
def test_each_replica_drops_other_units(answers):
    for answer in answers:
        assert all(contrast != 0 for contrast in answer["contrast"])
        assert answer["contrast"] == answers[0]["contrast"] and answer["seeds"] == [1, 8]


@pytest.mark.slow
def test_workers_that_shuffle_differently_are_refused(answers):
    one_process, *workers = (answer["other order"] for answer in answers)
    assert one_process == "nothing was refused"
    assert all("keras.utils.set_random_seed" in message for message in workers)


# --- the pieces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("total", "number"), [(7, 3), (6, 3), (3, 3), (2, 3), (1, 2)])
def test_shares_add_up_to_the_global_batch(total, number):
    def draw(shape, scale):
        return scale * np.random.default_rng(0).normal(size=shape)

    whole = replicas.draw_rows(draw, (total, 2), scale=2.0)
    mean, logged = 0.0, []
    for i in range(number):
        share = replicas.Share.of(tf.constant(total), i, number)
        with replicas.working_on(share):
            rows = replicas.draw_rows(draw, (None, 2), scale=2.0)
        mean += share.weight.numpy() * rows.mean(axis=0)
        logged += [rows] if share.counts else []
    np.testing.assert_array_equal(np.concatenate(logged), whole)  # every sample once
    np.testing.assert_allclose(mean, whole.mean(axis=0), rtol=1e-6)
    assert replicas.current_share() is None


# --- many steps in one program ---------------------------------------------------------------------------------------


def fitted(x, y=None, *, model=None, fast, epochs=3, **options):
    """A small autoencoder and what its training logged."""
    keras.utils.set_random_seed(0)
    model = model or models.dense_autoencoder((8,), 4, (16,), seed=0)
    many = {"jit_compile": True, "steps_per_execution": 3} if fast else {"jit_compile": False}
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"], **many)
    return model, model.fit(x, y, batch_size=32, epochs=epochs, verbose=0, **options).history


@pytest.fixture(scope="module")
def table():
    return np.random.default_rng(0).random((233, 8)).astype("float32")  # 8 batches, the last of 9: 3 + 3 + 2


def assert_the_same_training(one, other):
    for a, b in zip(one[0].get_weights(), other[0].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert list(one[1]) == list(other[1])
    for name, values in one[1].items():
        np.testing.assert_allclose(values, other[1][name], rtol=1e-5)


@pytest.fixture
def programs(monkeypatch):
    """The trainings that ran in one program, one entry for each."""
    made = []
    monkeypatch.setattr(loop, "Batches", lambda *options: made.append(options) or internals.Batches(*options))
    return made


@pytest.mark.slow
def test_one_program_trains_as_keras_does(table, programs):
    plain, ours = (fitted(table, validation_data=(table[:50], table[:50]), fast=fast) for fast in (False, True))
    assert len(programs) == 1
    assert ours[0].optimizer.iterations == 24 and "val_mae" in ours[1]
    assert_the_same_training(plain, ours)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [32, 20, 41, 96, 101])
def test_every_number_of_samples_fits_into_programs(table, rows):
    plain, ours = (fitted(table[:rows], shuffle=False, fast=fast) for fast in (False, True))
    assert ours[0].optimizer.iterations == 3 * -(-rows // 32)
    assert_the_same_training(plain, ours)


@pytest.mark.slow
def test_one_program_takes_targets_and_weights(table, programs):
    weights = np.linspace(0, 2, len(table))
    plain, ours = (fitted(table, 1 - table, sample_weight=weights, fast=fast) for fast in (False, True))
    assert len(programs) == 1
    assert_the_same_training(plain, ours)


def noisy(shape):
    """A model that draws all the noise there is: corruption, dropout and codes."""
    damaged, dropped = Corrupt("masking", 0.3, seed=1), keras.layers.Dropout(0.4, seed=2)
    middle = keras.layers.Conv2D(2, 3) if len(shape) > 1 else keras.layers.Dense(4)
    flat = keras.layers.Flatten(), keras.layers.Dense(4)
    encoder = keras.Sequential([keras.Input(shape), damaged, middle, dropped, *flat])
    return models.VariationalAutoencoder(encoder, models.dense_decoder(shape, 2, (), seed=3), seed=4)


@pytest.mark.slow
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("shape", [(8,), (5, 5, 1)], ids=["dense", "convolutional"])
def test_noise_does_not_depend_on_how_many_steps_run_at_once(shape, jit):
    x = np.random.default_rng(0).random((20, *shape)).astype("float32")  # 4 batches, the last of 2
    trained = []
    for steps in (1, 3, 7):
        keras.utils.set_random_seed(0)
        model = noisy(shape)
        model.compile(keras.optimizers.SGD(0.01), jit_compile=jit, steps_per_execution=steps)
        history = model.fit(x, batch_size=6, epochs=2, validation_data=x[:7], verbose=0).history
        trained.append((model, history))
    for other in trained[1:]:
        assert_the_same_training(trained[0], other)


def test_one_program_calls_callbacks_and_can_be_stopped(table):
    class Stop(keras.callbacks.Callback):
        batches = 0

        def on_train_batch_end(self, batch, logs=None):
            self.batches += 1
            self.model.stop_training = batch == 2

    stop = Stop()
    model, history = fitted(table, fast=True, callbacks=[stop])
    assert stop.batches == 1 and model.optimizer.iterations == 3 and len(history["loss"]) == 1


@pytest.mark.slow
def test_compiling_again_makes_another_program(table):
    model, _ = fitted(table, fast=True)
    weights = model.get_weights()
    model.compile(keras.optimizers.SGD(0.0), "mae", jit_compile=True, steps_per_execution=3)
    history = model.fit(table, batch_size=32, epochs=1, verbose=0).history
    np.testing.assert_allclose(history["loss"][0], np.abs(table - model.reconstruct(table)).mean(), rtol=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"shuffle": "batch"}, {"validation_split": 0.1}, {"steps_per_epoch": 6}], ids=list)
def test_what_does_not_fit_one_program_is_left_to_keras(table, programs, options):
    plain, ours = (fitted(table, table, epochs=1, fast=fast, **options) for fast in (False, True))
    assert not programs
    assert_the_same_training(plain, ours)


@pytest.fixture
def streams(monkeypatch):
    """The trainings that went through blocks of a dataset, one entry for each."""
    made = []
    monkeypatch.setattr(loop, "Stream", lambda *options: made.append(options) or internals.Stream(*options))
    return made


def batches_of(*sizes):
    """Batches of these sizes: an autoencoder's x, targets and weights of samples."""

    def batches():
        rng = np.random.default_rng(0)
        for n in sizes:
            x = rng.random((n, 8)).astype("float32")
            yield x, 1 - x, rng.random(n).astype("float32")

    spec = tuple(tf.TensorSpec((None, *shape)) for shape in ((8,), (8,), ()))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=spec)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(sizes)))  # else Keras counts a step too many


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[32] * 7 + [9], [32, 32, 5, 5, 32, 32, 32], [3, 4, 5, 6], [32], [32] * 6], ids=str)
def test_batches_of_a_dataset_are_trained_on_many_at_a_time(streams, sizes):
    dataset = batches_of(*sizes)
    plain, ours = (fitted(dataset, shuffle=False, validation_data=dataset, fast=fast) for fast in (False, True))
    assert len(streams) == 1
    assert ours[0].optimizer.iterations == 3 * len(sizes)
    assert_the_same_training(plain, ours)


@pytest.mark.slow
def test_a_dataset_without_end_is_trained_on_for_as_many_steps_as_are_wanted(table, streams):
    trained = []
    for fast in (False, True):
        dataset = tf.data.Dataset.from_tensor_slices(table).shuffle(233, seed=1).repeat().batch(32)
        trained.append(fitted(dataset, steps_per_epoch=6, shuffle=False, fast=fast))
    assert len(streams) == 1 and trained[1][0].optimizer.iterations == 18
    assert_the_same_training(*trained)


@pytest.mark.slow
@pytest.mark.parametrize("most_bytes", [1 << 20, 400, 1])  # all steps in a block, two of them, none
@pytest.mark.parametrize("jit", [False, True])
def test_noise_of_a_stream_does_not_depend_on_how_many_steps_run_at_once(monkeypatch, jit, most_bytes):
    monkeypatch.setattr(loop, "Stream", lambda *options: internals.Stream(*options, most_bytes=most_bytes))
    x = np.random.default_rng(0).random((20, 8)).astype("float32")
    trained = []
    for steps in (1, 3):
        keras.utils.set_random_seed(0)
        model = noisy((8,))
        model.compile(keras.optimizers.SGD(0.01), jit_compile=jit, steps_per_execution=steps)
        dataset = tf.data.Dataset.from_tensor_slices(x).batch(6)  # 4 batches, the last of 2
        trained.append((model, model.fit(dataset, epochs=2, shuffle=False, verbose=0).history))
    assert_the_same_training(*trained)


@pytest.mark.slow
def test_a_stream_weighs_classes_and_builds_a_model(table, streams):
    class Classifier(loop.Trainer):
        def __init__(self):
            super().__init__()
            self.layer = keras.layers.Dense(2, "softmax", kernel_initializer=keras.initializers.GlorotUniform(0))

        def call(self, x):
            return self.layer(x)

    labels = (table[:, 0] > 0.3).astype("int32")
    dataset, trained = tf.data.Dataset.from_tensor_slices((table, labels)).batch(32), []
    for steps in (1, 3):
        model = Classifier()
        model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", steps_per_execution=steps)
        history = model.fit(dataset, epochs=2, class_weight={0: 3.0, 1: 0.5}, shuffle=False, verbose=0).history
        trained.append((model, history))
    assert len(streams) == 1
    assert_the_same_training(*trained)


@pytest.mark.slow
def test_one_weight_for_a_whole_batch_of_a_dataset_is_that_of_each_sample(table):
    trained = []
    for fast in (False, True):
        dataset = tf.data.Dataset.from_tensor_slices((table, 1 - table)).batch(32)
        dataset = dataset.map(lambda x, y: (x, y, tf.reduce_mean(x)[tf.newaxis]))
        trained.append(fitted(dataset, shuffle=False, fast=fast))
    assert_the_same_training(*trained)


@pytest.mark.slow
def test_samples_that_are_no_plain_tensors_are_left_to_keras(streams):
    class Mean(loop.Trainer):
        def __init__(self):
            super().__init__()
            self.layer = keras.layers.Dense(1)

        def call(self, x):
            return self.layer(tf.reshape(tf.reduce_mean(x, axis=1), (-1, 1)))

    dataset = tf.data.Dataset.from_tensors((tf.ragged.constant([[1.0], [2.0, 3.0]]), tf.ones((2, 1)))).repeat(4)
    model = Mean()
    model.compile("sgd", "mse", steps_per_execution=2)
    model.fit(dataset, epochs=2, shuffle=False, verbose=0)
    assert not streams and model.optimizer.iterations == 8


def test_targets_that_are_too_few_are_refused(table):
    class Regression(loop.Trainer):
        def __init__(self):
            super().__init__()
            self.layer = keras.layers.Dense(8)

        def call(self, x, training=None):
            return self.layer(x)

    model = Regression()
    model.compile("sgd", "mse", jit_compile=True, steps_per_execution=3)
    with pytest.raises(ValueError, match="cardinality"):
        model.fit(table, table[:200], verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_one_program_takes_mixed_precision(table, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = models.dense_autoencoder((8,), 4, (16,), seed=0)
        model, history = fitted(table, model=model, fast=True)
    finally:
        keras.config.set_dtype_policy("float32")
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16") and model.encoder.layers[-1].compute_dtype == policy[6:]
    exact = fitted(table, fast=False)[1]
    np.testing.assert_allclose(history["loss"], exact["loss"], rtol=0.05)
    assert history["loss"][-1] < history["loss"][0]


def test_convolutions_are_left_out_of_xla_on_a_cpu():
    dense, convolutional = models.dense_autoencoder((8,), 4, seed=0), models.conv_autoencoder((8, 8, 1), 4, seed=0)
    on_cpu = not tf.config.list_physical_devices("GPU")
    assert loop._suits_xla(internals.all_layers(dense))
    assert loop._suits_xla(internals.all_layers(convolutional)) != on_cpu


@pytest.mark.slow
def test_a_convolutional_model_trains_in_one_program():
    x = np.random.default_rng(0).random((70, 8, 8, 1)).astype("float32")
    build = lambda: models.conv_autoencoder((8, 8, 1), 4, (4, 8), seed=0)  # noqa: E731
    plain, ours = (fitted(x, model=build(), fast=fast) for fast in (False, True))
    assert_the_same_training(plain, ours)


@pytest.mark.slow
def test_a_conditional_model_trains_in_one_program(table):
    labels = (table[:, 0] > 0.5).astype(int)
    encoder = models.dense_encoder((8,), 2 * 4, (16,), seed=1)
    model = models.ConditionalVariationalAutoencoder(encoder, models.dense_decoder((8,), 4 + 2, (16,), seed=2), 2)
    model.compile(keras.optimizers.Adam(0.01), jit_compile=True, steps_per_execution=4)
    history = model.fit(table, labels, batch_size=32, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] and model.optimizer.iterations == 64


# --- Keras's contract ------------------------------------------------------------------------------------------------


class Asks(loop.Trainer):
    """Answers 1 where it is told that it is being evaluated, and 0 elsewhere."""

    def call(self, x, training=None):
        return keras.ops.full_like(x, float(loop.is_evaluating()))


def test_a_model_can_ask_whether_it_is_being_evaluated():
    x, model = np.ones((4, 2), "float32"), Asks()
    model.compile(None, "mse")
    with pytest.warns(UserWarning, match="trainable weights"):
        history = model.fit(x, x, validation_data=(x, x), verbose=0).history
    assert history == {"loss": [1.0], "val_loss": [0.0]}
    assert not model.predict(x, verbose=0).any() and not loop.is_evaluating()


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "sgd", None])
def test_a_frozen_model_is_trained_without_complaint(table, fast, optimizer):
    model = models.dense_autoencoder((8,), 4, seed=0)
    model.trainable = False
    weights = model.get_weights()
    model.compile(optimizer, "mse", jit_compile=fast, steps_per_execution=3 if fast else 1)
    with pytest.warns(UserWarning, match="does not have any trainable weights"):
        history = model.fit(table, batch_size=32, verbose=0).history
    np.testing.assert_allclose(history["loss"][0], model.reconstruction_error(table).mean(), rtol=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))


@pytest.mark.parametrize("kind", [loop.Trainer, Asks])
def test_a_trainer_of_inputs_and_outputs_is_refused_and_harms_no_other(kind):
    inputs = keras.Input((2,))
    for make in (lambda: kind(inputs, inputs), lambda: kind(inputs=inputs, outputs=inputs)):
        with pytest.raises(ValueError, match="not made of inputs and outputs; write its call"):
            make()
    assert models.dense_autoencoder((8,), 4).reconstruct(np.zeros((1, 8))).shape == (1, 8)
