"""What Keras and TensorFlow do not promise still holds. A failure here names what a new version has changed."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tfae import internals

# --- every call of a layer, and other derivatives --------------------------------------------------------------------

X = np.array([[1, -2, 3]], "float32")


def test_keras_calls_every_layer_and_operation_by_operation_call():
    x = keras.Input((3,))
    model = keras.Model(x, keras.ops.relu(layers.Dense(2, name="dense")(x)) + 1)
    seen = []

    def watcher(operation, run, *args, **kwargs):
        seen.append(type(operation).__name__)
        return run(*args, **kwargs)

    before = keras.Operation.__call__
    wanted = model(X)
    with internals.watching_calls(watcher):
        found = model(X)
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
    layer(X)
    first.__exit__(None, None, None)
    layer(X)
    second.__exit__(None, None, None)
    layer(X)
    assert sorted(seen[:2]) == ["first", "second"] and seen[2:] == ["second"]
    assert keras.Operation.__call__ is before


def _seven(op, gradient):
    return 7 * gradient


def test_tensorflow_looks_a_changed_derivative_up_inside_a_keras_layer():
    model = keras.Sequential([keras.Input((3,)), layers.ReLU(), layers.Activation("tanh")])

    def slope(x):
        return tf.gradients(model(x), x)[0]

    signature = [tf.TensorSpec((None, 3), tf.float32)]
    ordinary = internals.graph_with_derivatives(slope, signature, {})(tf.constant(X))
    changed = internals.graph_with_derivatives(slope, signature, {"Relu": _seven})(tf.constant(X))
    tanh = 1 - np.tanh(np.maximum(X, 0)) ** 2
    np.testing.assert_allclose(ordinary, tanh * (X > 0), rtol=1e-4)
    np.testing.assert_allclose(changed, 7 * tanh, rtol=1e-4)


def test_operations_inside_functions_are_seen():
    graph = internals.graph_with_derivatives(
        lambda x: tf.function(tf.nn.relu)(x) + tf.nn.softplus(x), [tf.TensorSpec((None, 3), tf.float32)], {}
    ).graph
    assert "Relu" in internals.operations_in_functions(graph)
    assert "Softplus" not in internals.operations_in_functions(graph)
