"""`Trainer` is a Keras model in all that Keras promises of one: each test does the same to both and compares them.

What Keras's own tests hold a trainer to is here in small: every way to call ``fit`` and ``evaluate``, what callbacks
see, custom steps, nested and ragged data, exceptions in the middle.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from tfae import loop

pytestmark = pytest.mark.slow  # hundreds of short trainings

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 3)).astype("float32")  # 6 batches of 4, the last of 3
Y = RNG.normal(size=(23, 2)).astype("float32")
WEIGHTS = RNG.random(23).astype("float32")
BOTH = (keras.Model, loop.Trainer)


def network(base):
    """All that training may touch: moving statistics, noise, a regulariser, a constraint, a loss of a layer's own."""

    class Network(base):
        def __init__(self):
            super().__init__()
            penalty = "l2" if keras.config.dtype_policy().name == "float32" else None  # Keras cannot add it in others
            self.hidden = layers.Dense(4, "relu", kernel_constraint="non_neg", kernel_regularizer=penalty)
            self.parts = [layers.BatchNormalization(), layers.Dropout(0.3, seed=1)]
            self.last = layers.Dense(2, activity_regularizer=penalty)

        def call(self, x, training=None):
            h = self.hidden(x)
            for part in self.parts:
                h = part(h, training=training)
            return self.last(h)

    return Network()


def compare(act, build=network, exactly=True, **options):
    """Do the same to a Keras model and to ours; what comes of it, and the weights, must be equal."""
    results = []
    for base in BOTH:
        keras.utils.set_random_seed(0)
        model = build(base)
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), **{"loss": "mse", "metrics": ["mae"]} | options)
        result = act(model)
        result = result.history if isinstance(result, keras.callbacks.History) else result
        results.append((result, model.get_weights(), [v.numpy() for v in model.optimizer.variables]))
    keras.tree.assert_same_structure(*results)
    for theirs, ours in zip(*map(keras.tree.flatten, results), strict=True):
        assert np.isfinite(theirs).all()  # NaN would equal NaN
        np.testing.assert_allclose(ours, theirs, rtol=0 if exactly else 1e-4, atol=0 if exactly else 1e-5)
    return results[1][0]


def dataset(n=23):
    return tf.data.Dataset.from_tensor_slices((X[:n], Y[:n])).batch(4)


class Sequence(keras.utils.PyDataset):
    """Batches made by Python."""

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4]


def batches():
    while True:
        yield from (Sequence()[i] for i in range(5))


WAYS = {
    "arrays": lambda model: model.fit(X, Y, batch_size=4, epochs=2, verbose=0),
    "tensors": lambda model: model.fit(tf.constant(X), tf.constant(Y), batch_size=4, shuffle=False, verbose=0),
    "positional": lambda model: model.fit(X, Y, 4, 2, 0),
    "weights": lambda model: model.fit(X, Y, sample_weight=WEIGHTS, batch_size=4, epochs=2, verbose=0),
    "split": lambda model: model.fit(X, Y, validation_split=0.2, batch_size=4, epochs=2, verbose=0),
    "validation": lambda model: model.fit(
        X, Y, validation_data=(X[:9], Y[:9], WEIGHTS[:9]), batch_size=4, epochs=2, validation_freq=2, verbose=0
    ),
    "steps": lambda model: model.fit(X, Y, steps_per_epoch=4, batch_size=4, epochs=2, verbose=0),
    "dataset": lambda model: model.fit(dataset(), validation_data=dataset(9), epochs=2, verbose=0),
    "mixed": lambda model: model.fit(X, Y, validation_data=dataset(9), batch_size=4, verbose=0),
    "generator": lambda model: model.fit(batches(), steps_per_epoch=5, epochs=2, verbose=0),
    "sequence": lambda model: model.fit(Sequence(), epochs=2, verbose=0, shuffle=False),
    "from the second epoch": lambda model: model.fit(X, Y, initial_epoch=1, epochs=3, batch_size=4, verbose=0),
    "fewer than a batch": lambda model: model.fit(X[:3], Y[:3], verbose=0),
}


@pytest.mark.parametrize("way", WAYS)
def test_fit(way):
    compare(WAYS[way])


@pytest.mark.parametrize("way", ["arrays", "weights", "validation", "dataset", "generator", "fewer than a batch"])
def test_fit_of_several_steps_at_once(way):
    compare(WAYS[way], exactly=False, steps_per_execution=4)


@pytest.mark.parametrize("way", ["arrays", "dataset"])
def test_fit_step_by_step(way):
    compare(WAYS[way], run_eagerly=True, steps_per_execution=2)


@pytest.mark.parametrize("steps", [1, 3])
def test_class_weights(steps):
    def act(model):
        return model.fit(X, (X[:, :1] > 0).astype(int), class_weight={0: 1.0, 1: 3.0}, batch_size=4, verbose=0)

    compare(act, exactly=False, loss="sparse_categorical_crossentropy", metrics=["accuracy"], steps_per_execution=steps)


@pytest.mark.parametrize("steps", [1, 4])
def test_answers(steps):
    def act(model):
        model.fit(X, Y, batch_size=4, verbose=0)
        answers = model.evaluate(X, Y, sample_weight=WEIGHTS, batch_size=4, verbose=0, return_dict=True)
        answers = answers, model.evaluate(dataset(), verbose=0, steps=4)
        return answers, model.predict(X, batch_size=4, verbose=0), model.predict(dataset(), verbose=0)

    compare(act, exactly=False, steps_per_execution=steps)


def test_one_batch_at_a_time():
    def act(model):
        results = [model.train_on_batch(X[:5], Y[:5]) for _ in range(2)]
        results.append(model.train_on_batch(X[:4], Y[:4], sample_weight=WEIGHTS[:4], return_dict=True))
        return results, model.test_on_batch(X[:6], Y[:6]), model.predict_on_batch(X[:6])

    compare(act)
    compare(act, exactly=False, steps_per_execution=3)


@pytest.mark.parametrize("steps", [1, 4])
def test_callbacks_see_the_same(steps):
    class Diary(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.lines = []

        def __getattribute__(self, name):
            if not name.startswith("on_"):
                return super().__getattribute__(name)
            return lambda *args, **_: self.lines.append((name, [list(a) if isinstance(a, dict) else a for a in args]))

    diaries = []

    def act(model):
        diary = Diary()
        model.fit(X, Y, batch_size=4, epochs=2, validation_data=(X[:9], Y[:9]), callbacks=[diary], verbose=0)
        model.predict(X, callbacks=[diary], verbose=0)
        diaries.append((diary.lines, diary.params))
        return len(diary.lines)

    compare(act, exactly=False, steps_per_execution=steps)
    assert diaries[0] == diaries[1] and len(diaries[0][0]) > 20


@pytest.mark.parametrize("steps", [1, 4])
def test_callbacks_can_stop_and_change_weights(steps):
    class Meddle(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.last.bias.assign(ops.ones(2))
            self.model.stop_training = batch >= 3

    compare(
        lambda model: model.fit(X, Y, batch_size=4, epochs=3, verbose=0, callbacks=[Meddle()]),
        exactly=False,
        steps_per_execution=steps,
    )


@pytest.mark.parametrize("steps", [1, 4])
def test_an_exception_in_the_middle_leaves_a_model_that_trains_on(steps):
    class Fall(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    def act(model):
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y, batch_size=4, verbose=0, callbacks=[Fall()])
        return model.fit(X, Y, batch_size=4, verbose=0).history, model.evaluate(X, Y, verbose=0)

    compare(act, exactly=False, steps_per_execution=steps)


def custom(base):
    """A model with steps of its own that logs more than metrics."""

    class Custom(base):
        def __init__(self):
            super().__init__()
            self.layer = layers.Dense(2)

        def call(self, x):
            return self.layer(x)

        def train_step(self, data):
            logs = super().train_step(data)
            return logs | {"first": data[0][0, 0], "ten": 10.0}

        def test_step(self, data):
            return super().test_step(data) | {"five": 5.0}

        def predict_step(self, data):
            return {"doubled": 2 * super().predict_step(data)}

    return Custom()


@pytest.mark.parametrize("steps", [1, 4])
def test_custom_steps_and_what_they_log(steps):
    def act(model):
        history = model.fit(X, Y, batch_size=4, epochs=2, validation_data=(X, Y), verbose=0).history
        return history, model.predict(X, verbose=0)

    history, _ = compare(act, build=custom, exactly=False, steps_per_execution=steps)
    assert history["ten"] == [10.0, 10.0] and history["val_five"] == [5.0, 5.0]


def nested(base):
    """A model of named inputs and outputs."""

    class Nested(base):
        def __init__(self):
            super().__init__()
            self.one, self.two = layers.Dense(2), layers.Dense(2)

        def call(self, x):
            return {"a": self.one(x["left"]), "b": self.two(x["right"][0])}

    return Nested()


@pytest.mark.parametrize("steps", [1, 4])
def test_nested_inputs_and_outputs(steps):
    x, y = {"left": X, "right": [X[::-1].copy()]}, {"a": Y, "b": 1 - Y}

    def act(model):
        history = model.fit(x, y, batch_size=4, epochs=2, validation_data=(x, y), verbose=0).history
        return history, model.evaluate(x, y, verbose=0, return_dict=True), model.predict(x, verbose=0)

    losses = {"a": "mse", "b": "mae"}
    compare(
        act, build=nested, exactly=False, loss=losses, loss_weights={"a": 1.0, "b": 0.5}, metrics={"a": ["mae"]},
        steps_per_execution=steps,
    )  # fmt: skip


def built(base):
    """A model with a ``build`` and a ``call`` that know of no training, and a loss that does not either."""

    class Built(base):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 2), initializer="ones")

        def call(self, x):
            return ops.matmul(x, self.kernel)

        def compute_loss(self, x, y, y_pred, sample_weight=None):
            return super().compute_loss(x, y, y_pred, sample_weight) + ops.mean(ops.square(self.kernel))

    return Built()


@pytest.mark.parametrize("steps", [1, 4])
def test_models_that_know_of_no_training(steps):
    compare(WAYS["validation"], build=built, exactly=False, steps_per_execution=steps)


def test_ragged_and_sparse_samples():
    def gathering(base):
        class Gathering(base):
            def __init__(self):
                super().__init__()
                self.layer = layers.Dense(1, kernel_initializer="ones")

            def call(self, x):
                return self.layer(x.to_tensor(shape=(None, 3)) if isinstance(x, tf.RaggedTensor) else x)

        return Gathering()

    ragged, targets = tf.ragged.constant([[1.0, 2.0, 3.0], [4.0], [5.0, 6.0]], ragged_rank=1), np.ones((3, 1))
    pairs = tf.data.Dataset.from_tensors((tf.sparse.from_dense(X), Y[:, :1]))

    def act(model):
        return [model.fit(pairs, epochs=2, verbose=0).history, model.evaluate(pairs, verbose=0)]

    compare(act, build=gathering, steps_per_execution=2)
    data = tf.data.Dataset.from_tensors((ragged, targets))
    compare(lambda model: model.fit(data, epochs=2, verbose=0), build=gathering)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        compare(WAYS["validation"])
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("steps", [1, 4])
def test_epochs_that_are_shorter_than_the_data(steps):
    compare(
        lambda model: model.fit(dataset(), steps_per_epoch=4, epochs=3, shuffle=False, verbose=0),
        exactly=False,
        steps_per_execution=steps,
    )


def test_what_keras_refuses_is_refused():
    for base in BOTH:
        model = network(base)
        with pytest.raises(ValueError, match="compile"):
            model.fit(X, Y, verbose=0)
        model.compile("sgd", "mse", steps_per_execution=4)
        with pytest.raises(ValueError, match="cardinality"):
            model.fit(X, Y[:20], verbose=0)
        with pytest.raises(ValueError, match="x"):
            model.fit(dataset(), Y, verbose=0)


def test_a_model_can_be_saved_in_the_middle_and_train_on(tmp_path):
    x = X.clip(0, 1)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3)])

    @keras.saving.register_keras_serializable("test")
    class Wrapped(loop.Trainer):
        def __init__(self, inner, **kwargs):
            super().__init__(**kwargs)
            self.inner = inner

        def call(self, x, training=None):
            return self.inner(x, training=training)

        def get_config(self):
            return super().get_config() | {"inner": keras.saving.serialize_keras_object(self.inner)}

        @classmethod
        def from_config(cls, config):
            return cls(keras.saving.deserialize_keras_object(config.pop("inner")), **config)

    model = Wrapped(model)
    model.compile("adam", "mse", steps_per_execution=4)
    model.fit(x, x, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    histories = [one.fit(x, x, batch_size=4, epochs=2, shuffle=False, verbose=0).history for one in (model, again)]
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-6)
