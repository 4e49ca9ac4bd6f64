"""Layers are seen at work in every form a model can have."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfae import hooks

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")


def sequential():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, "relu", name="hidden"), layers.Dense(2, name="out")])


def functional():
    x = keras.Input((4,))
    return keras.Model(x, layers.Dense(2, name="out")(layers.Dense(3, "relu", name="hidden")(x)))


def nested():
    return keras.Sequential([keras.Input((4,)), sequential()])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.parts = [layers.Dense(3, "relu", name="hidden"), layers.Dense(2, name="out")]

    def call(self, x):
        return self.parts[1](self.parts[0](x))


FORMS = {"sequential": sequential, "functional": functional, "nested": nested, "subclassed": Subclassed}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_shows_the_same_layers_and_the_tensors_between_them(form):
    model = FORMS[form]()
    with hooks.recording() as calls:
        outputs = model(X)
    leaves = [call for call in calls if call.is_leaf]
    assert [call.layer.name for call in leaves] == ["hidden", "out"]
    hidden, out = leaves
    w, b = hidden.layer.get_weights()
    np.testing.assert_allclose(hidden.output, np.maximum(X @ w + b, 0), rtol=1e-5, atol=1e-6)
    assert out.inputs[0] is hidden.output and out.output is outputs
    assert calls[-1].layer is model and not calls[-1].is_leaf


def test_recording_ends_with_the_block_even_after_an_error():
    before = keras.Operation.__call__
    with pytest.raises(ValueError, match="incompatible"), hooks.recording() as calls:
        sequential()(X[:, :3])
    assert keras.Operation.__call__ is before
    sequential()(X)
    assert calls == []


def test_recordings_of_two_threads_that_overlap_see_their_own_calls_and_leave_nothing():
    before, models, found = keras.Operation.__call__, [sequential(), sequential()], [[], []]
    events = {name: threading.Event() for name in ("both began", "first ended")}

    def first():
        with hooks.recording() as found[0]:
            events["both began"].wait(10)
            models[0](X)
        events["first ended"].set()

    thread = threading.Thread(target=first)
    thread.start()
    while keras.Operation.__call__ is before:  # until the first has begun
        pass
    with hooks.recording() as found[1]:
        events["both began"].set()
        events["first ended"].wait(10)
        models[1](X)
    thread.join()
    for model, calls in zip(models, found, strict=True):
        assert [call.layer for call in calls] == [*model.layers, model]
    assert keras.Operation.__call__ is before
    models[0](X)
    assert [len(calls) for calls in found] == [3, 3]


def test_recordings_may_be_nested():
    model = sequential()
    with hooks.recording() as outer:
        model.layers[0](X)
        with hooks.recording() as inner:
            model.layers[0](X)
    assert len(outer) == 2 and [call.output for call in inner] == [outer[1].output]


def test_an_operation_that_a_layer_makes_on_the_way_leaves_no_record():
    """Keras makes a new Pad, with a new name, at each call of ZeroPadding2D."""
    padding, pictures = layers.ZeroPadding2D(name="padding"), np.ones((2, 3, 3, 1), "float32")
    for _ in range(2):
        with hooks.recording() as calls:
            padding(pictures)
            keras.ops.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)))
        assert [(call.layer.name, call.is_leaf) for call in calls] == [("padding", True)]
    x = keras.Input((3, 3, 1))
    with hooks.recording() as calls:
        keras.Model(x, keras.ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]))(pictures)
    assert [type(call.layer).__name__ for call in calls] == ["Pad", "Functional"]


def test_what_a_layer_took_by_name_is_an_option():
    with hooks.recording() as calls:
        layers.Dropout(0.5)(X, training=False)
    assert calls[0].options == {"training": False} and len(calls[0].inputs) == 1


def test_layers_of_mixed_precision_compute_in_float32_for_a_while():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype="mixed_float16"), layers.Dense(2)])
    w, b, v, c = model.get_weights()
    with hooks.in_float32(model.layers):
        np.testing.assert_allclose(model(X), (X @ w + b) @ v + c, rtol=1e-5, atol=1e-6)
    assert np.abs(model(X) - ((X @ w + b) @ v + c)).max() > 1e-5  # half precision again
    assert model.layers[0].dtype_policy.name == "mixed_float16"
    half = keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype="float16", name="half")])
    with pytest.raises(ValueError, match="layer 'half' keeps its weights in float16"), hooks.in_float32(half.layers):
        pass


def test_a_tape_differentiates_with_respect_to_what_was_recorded():
    model = Subclassed()
    with tf.GradientTape() as tape, hooks.recording() as calls:
        x = tf.constant(X)
        tape.watch(x)
        outputs = model(x)
    gradient = tape.gradient(outputs, hooks.find_call(calls, "hidden").output)
    np.testing.assert_allclose(gradient, np.ones((5, 2)) @ model.parts[1].get_weights()[0].T, rtol=1e-5)


def test_an_operation_of_a_functional_graph_is_seen_too():
    x = keras.Input((4,))
    model = keras.Model(x, keras.ops.relu(layers.Dense(3)(x)) + 1)
    with hooks.recording() as calls:
        model(X)
    assert [type(call.layer).__name__ for call in calls if call.is_leaf] == ["Dense", "Relu", "Add"]


def test_what_a_model_returns_is_made_by_its_last_layer_that_does_something():
    model = keras.Sequential([keras.Input((4,)), sequential(), layers.Dropout(0.5)])
    with hooks.recording() as calls:
        outputs = model(X)
    made = hooks.makers(calls)
    assert made[id(outputs)].layer is model.layers[0].layers[-1]
    assert [call.layer.name for call in made.values()] == ["out", "hidden"]
    again = made[id(outputs)].again({0: made[id(outputs)].inputs[0] * 0})
    np.testing.assert_array_equal(again, np.zeros((5, 2)))


def test_a_layer_is_found_by_name_or_by_itself():
    model = nested()
    with hooks.recording() as calls:
        model(X)
    assert hooks.find_call(calls, "hidden") is hooks.find_call(calls, model.layers[0].layers[0])
    with pytest.raises(ValueError, match="no layer 'middle' was called; the layers of this model are: hidden, out"):
        hooks.find_call(calls, "middle")
    with pytest.raises(ValueError, match="no layer 'stranger' was called"):
        hooks.find_call(calls, layers.Dense(3, name="stranger"))


def test_a_name_or_a_call_that_is_not_unique_is_refused():
    shared = layers.Dense(4, name="shared")
    twice = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="one"), layers.Dense(4, name="two")])
    with hooks.recording() as calls:
        shared(shared(X))
        layers.Dense(4, name="one")(twice(X))
    with pytest.raises(ValueError, match="layer 'shared' is called 2 times"):
        hooks.find_call(calls, "shared")
    with pytest.raises(ValueError, match="2 layers are called 'one'; give the layer itself"):
        hooks.find_call(calls, "one")
