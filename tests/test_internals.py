"""What Keras and TensorFlow do not promise: a new version that changes it fails here, by name."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfae import internals

X = np.arange(12, dtype="float32").reshape(6, 2)


class Nested(keras.Model):
    """A subclassed model around a functional one."""

    def __init__(self):
        super().__init__()
        self.outer = layers.Dense(3)
        self.inner = keras.Sequential([keras.Input((3,)), layers.Dropout(0.5, seed=7), layers.Dense(1)])

    def call(self, x, training=None):
        return self.inner(self.outer(x), training=training)


@pytest.fixture
def model():
    model = Nested()
    model.compile("adam", "mse", metrics=["mae"])
    return model


# --- a model ---------------------------------------------------------------------------------------------------------


def test_flatten_layers_finds_the_model_and_every_layer_inside(model):
    found = internals.all_layers(model)
    assert found[0] is model and {model.outer, model.inner, *model.inner.layers} <= set(found)


def test_symbolic_build_makes_all_variables_and_computes_nothing(model):
    internals.build(model, (X[:1], X[:1, :1]))
    assert model.outer.built and model.optimizer.built
    assert len(model.optimizer.variables) == 2 + 2 * len(model.trainable_variables) == 10
    assert {metric.name for metric in model.metrics} == {"loss", "compile_metrics"}
    assert model.optimizer.iterations == 0 and model.inner.layers[0].seed_generator.state.numpy()[1] == 0


def test_symbolic_build_takes_a_model_without_optimiser():
    model = Nested()
    model.compile(None, "mse")
    internals.build(model, (X[:1], X[:1, :1]))
    assert model.outer.built


def test_trainable_variables_stand_in_the_order_of_the_layers(model):
    model(X)
    in_order = model.outer.weights + model.inner.layers[1].weights
    assert all(v is w for v, w in zip(model.trainable_variables, in_order, strict=True))
    assert [v.shape for v in model.trainable_variables] == [(2, 3), (3,), (3, 1), (1,)]


def test_seed_generators_are_a_seed_and_a_count(model):
    (state,) = internals.states_of_random_layers(internals.all_layers(model))
    model(X, training=True)
    assert state.numpy().tolist() == [7, 1]


# --- its loss --------------------------------------------------------------------------------------------------------


def test_aggregate_additional_loss_divides_by_the_replicas(model):
    assert internals.aggregated(model, tf.constant([1.0, 2.0])) == 3.0  # of one replica


def test_compute_loss_is_called_with_or_without_training(model):
    class Untold(Nested):
        def compute_loss(self, x, y, y_pred, sample_weight=None):
            return tf.constant(5.0)

    untold = Untold()
    untold.compile("sgd", "mse")
    assert internals.training_loss(untold, X, None, None, None) == 5.0
    assert internals.training_loss(model, X, X, X + 2, None) == 4.0


def test_the_loss_tracker_holds_the_mean_over_samples():
    model = Nested()
    model.compile("sgd", "mse")
    internals.log_loss(model, 1.0, 3)
    internals.log_loss(model, 5.0, 1)
    assert model.get_metrics_result()["loss"] == 2.0


# --- strategies and seeds --------------------------------------------------------------------------------------------


def test_a_model_and_an_optimiser_remember_their_strategy():
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        model, optimizer = Nested(), keras.optimizers.SGD()
    assert internals.strategy_of(model) is internals.strategy_of_optimizer(optimizer) is strategy
    assert internals.strategy_of(Nested()) is tf.distribute.get_strategy()


def test_the_global_seed_is_none_while_none_is_set():
    keras.utils.set_random_seed(5)
    assert internals.global_seed() == 5
    tf.random.set_seed(None)
    assert internals.global_seed() is None


# --- the training loop -----------------------------------------------------------------------------------------------


def test_initial_epoch_lets_a_fit_go_on(model):
    class Later(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            internals.start_at_epoch(self.model, 2)

    history = model.fit(X, X[:, :1], epochs=5, verbose=0, callbacks=[Later()])
    assert history.epoch == [2, 3, 4]


def test_the_validation_within_fit_says_so():
    said = []

    class Saying(Nested):
        def evaluate(self, *args, **options):
            said.append(internals.within_fit(options))
            return super().evaluate(*args, **options)

    model = Saying()
    model.compile("sgd", "mse")
    model.fit(X, X[:, :1], validation_data=(X, X[:, :1]), verbose=0)
    model.evaluate(X, X[:, :1], verbose=0)
    assert said == [True, False]


class Open(internals.OpenLoop):
    """Doubles what a step logs, and goes through the first batch only."""

    def __init__(self):
        super().__init__()
        self.layer = layers.Dense(1)

    def call(self, x):
        return self.layer(x)

    def whole_step(self, step):
        return lambda batch: (
            {name: 100 + value for name, value in step(batch).items()} | {"rows": tf.shape(batch[0])[0]}
        )

    def prepared(self, dataset):
        return dataset.take(1)


def test_make_function_and_distribute_strategy_open_keras_loop():
    model = Open()
    model.compile("sgd", "mse")
    history = model.fit(X, X[:, :1], batch_size=4, verbose=0, steps_per_epoch=1).history
    assert history["rows"] == [4] and history["loss"][0] > 100
    assert len(model.predict(X, batch_size=4, steps=1, verbose=0)) == 4  # prediction has no step to replace


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_shuffle_as_keras_does(seed, shuffle):
    seen = []

    class Recorder(keras.Model):
        def train_step(self, data):
            tf.py_function(lambda rows: seen.append(rows.numpy().tolist()), [data], [])
            return {"loss": 0.0}

    keras.utils.set_random_seed(seed)
    recorder = Recorder()
    recorder.compile("sgd", "mse", run_eagerly=True)
    recorder.fit(np.arange(10), batch_size=3, epochs=3, shuffle=shuffle, verbose=0)
    keras.utils.set_random_seed(seed)
    batches = internals.Batches(tf.range(10), 3, 2, shuffle)
    ours = []
    for _ in range(3):
        for ((data, full, last),) in batches:
            assert data is batches._data
            ours += [*full.tolist(), *([last.tolist()] if len(last) else [])]
    assert ours == seen and batches.num_batches == 4 and len(seen) == 12


def test_batches_without_a_seed_come_in_another_order_in_each_epoch():
    tf.random.set_seed(None)
    batches = internals.Batches(tf.range(1000), 1000, 1, True)
    first, second = ([number for ((_, full, _),) in batches for number in full[0]] for _ in range(2))
    assert first != second and sorted(first) == sorted(second) == list(range(1000))


def test_a_data_adapter_of_ones_own_goes_into_fit():
    handed = []

    class Taking(keras.Model):
        def make_train_function(self, force=False):
            self.train_function = lambda epoch: handed.append(next(epoch)[0][1:]) or {"loss": tf.constant(0.0)}

    model = Taking()
    model.compile("sgd", "mse", steps_per_execution=2)
    history = model.fit(internals.Batches(tf.range(7), 2, 2, False), epochs=1, verbose=0)
    assert history.params["steps"] == 4
    assert [(full.tolist(), last.tolist()) for full, last in handed] == [([[0, 1], [2, 3]], []), ([[4, 5]], [6])]


@pytest.mark.parametrize("most_bytes", [1 << 20, 96, 1])
def test_a_stream_gives_all_batches_in_their_order(most_bytes):
    """Batches of 3, 3, 3, 2, 3 and 3 rows of 16 bytes, four steps at a time, in blocks of all, two, and one of them."""
    sizes = [3, 3, 3, 2, 3, 3]
    rows = np.arange(2 * sum(sizes), dtype="float32").reshape(-1, 2)
    parts = np.split(rows, np.cumsum(sizes)[:-1])
    spec = tf.TensorSpec((None, 2)), tf.TensorSpec((None, 2))
    dataset = tf.data.Dataset.from_generator(lambda: ((part, -part) for part in parts), output_signature=spec)
    stream = internals.Stream(dataset, 4, most_bytes=most_bytes)
    for _ in range(2):  # it can be gone through again
        items, seen, shapes = list(stream), [], set()
        for item in items:
            for (x, y), full, last in item:
                assert (x == -y).numpy().all()
                assert (last is None) == (most_bytes == 1)
                last = np.arange(len(x)) if last is None else last
                seen += [x.numpy()[numbers] for numbers in (*full, *([last] if len(last) else []))]
                shapes |= {len(x)} if len(full) else set()
        assert len(items) == 2 and len(seen) == 6
        assert all(np.array_equal(a, b) for a, b in zip(seen, parts, strict=True))
        assert shapes == {1 << 20: {12}, 96: {6}, 1: set()}[most_bytes]  # one size, so that it is compiled once


def test_a_batch_whose_parts_are_not_all_samples_stays_as_it_is():
    dataset = tf.data.Dataset.from_tensors((tf.ones((3, 2)), tf.ones((3, 2)), tf.ones(1))).repeat(2)
    (item,) = internals.Stream(dataset, 4)
    assert [(len(full), last, len(batch[2])) for batch, full, last in item] == [(0, None, 1)] * 2


# --- every call of a layer, and other derivatives --------------------------------------------------------------------

ROW = np.array([[1, -2, 3]], "float32")


def test_keras_calls_every_layer_and_operation_by_operation_call():
    x = keras.Input((3,))
    model = keras.Model(x, keras.ops.relu(layers.Dense(2, name="dense")(x)) + 1)
    seen = []

    def watcher(operation, run, *args, **kwargs):
        seen.append(type(operation).__name__)
        return run(*args, **kwargs)

    before = keras.Operation.__call__
    wanted = model(ROW)
    with internals.watching_calls(watcher):
        found = model(ROW)
    assert seen == ["Functional", "Dense", "Relu", "Add"] and keras.Operation.__call__ is before
    np.testing.assert_array_equal(found, wanted)


def test_watchers_may_end_in_another_order_than_they_began():
    seen, before, layer = [], keras.Operation.__call__, layers.Identity()

    def watcher(name):
        def watch(operation, run, *args, **kwargs):
            seen.append(name)
            return run(*args, **kwargs)

        return internals.watching_calls(watch)

    first, second = watcher("first"), watcher("second")
    first.__enter__()
    second.__enter__()
    layer(ROW)
    first.__exit__(None, None, None)
    layer(ROW)
    second.__exit__(None, None, None)
    layer(ROW)
    assert sorted(seen[:2]) == ["first", "second"] and seen[2:] == ["second"]
    assert keras.Operation.__call__ is before


def _seven(op, gradient):
    return 7 * gradient


def test_tensorflow_looks_a_changed_derivative_up_inside_a_keras_layer():
    model = keras.Sequential([keras.Input((3,)), layers.ReLU(), layers.Activation("tanh")])

    def slope(x):
        return tf.gradients(model(x), x)[0]

    signature = [tf.TensorSpec((None, 3), tf.float32)]
    ordinary = internals.graph_with_derivatives(slope, signature, {})(tf.constant(ROW))
    changed = internals.graph_with_derivatives(slope, signature, {"Relu": _seven})(tf.constant(ROW))
    tanh = 1 - np.tanh(np.maximum(ROW, 0)) ** 2
    np.testing.assert_allclose(ordinary, tanh * (ROW > 0), rtol=1e-4)
    np.testing.assert_allclose(changed, 7 * tanh, rtol=1e-4)


def test_operations_inside_functions_are_seen():
    graph = internals.graph_with_derivatives(
        lambda x: tf.function(tf.nn.relu)(x) + tf.nn.softplus(x), [tf.TensorSpec((None, 3), tf.float32)], {}
    ).graph
    assert "Relu" in internals.operations_in_functions(graph)
    assert "Softplus" not in internals.operations_in_functions(graph)
