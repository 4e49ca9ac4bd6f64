"""What Keras and TensorFlow do not promise, gathered in one place: a new version that breaks it breaks it here.

Each use has a test of its own in ``tests/test_internals.py``, so that the failure has a name.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import keras
import tensorflow as tf

# --- the training loop -----------------------------------------------------------------------------------------------


def strategy_of(model: keras.Model) -> tf.distribute.Strategy:
    """Return the strategy in whose scope a model was made, or the current one."""
    return getattr(model, "_distribute_strategy", None) or tf.distribute.get_strategy()


def start_at_epoch(model: keras.Model, epoch: int | None) -> None:
    """Let a ``fit`` that has just begun go on at this epoch: the hook of ``keras.callbacks.BackupAndRestore``."""
    model._initial_epoch = epoch


def all_layers(model: keras.Model) -> list[Any]:
    """Return the model and every layer inside it, nested and subclassed ones included."""
    return list(model._flatten_layers())


def aggregated(model: keras.Model, loss: Any) -> Any:
    """Return a loss as a number that Keras adds to others: divided among the replicas of a strategy."""
    return model._aggregate_additional_loss(loss)


def within_fit(options: dict[str, Any]) -> bool:
    """Whether an ``evaluate`` with these options is the validation within ``fit``."""
    return bool(options.get("_use_cached_eval_dataset"))


def record_input_shape(model: keras.Model, shape: Any) -> None:
    """Note the shape of a batch where exporters look for it: Keras notes it only where it builds a model itself."""
    model._build_shapes_dict = {"input_shape": shape}


# --- every call of a layer -------------------------------------------------------------------------------------------

_watchers: list[Callable] = []
_keras_call: Callable = keras.Operation.__call__  # while another stands in its place
_lock = threading.Lock()


@contextmanager
def watching_calls(watcher: Callable) -> Iterator[None]:
    """Run every call of a Keras layer or operation through `watcher` inside the ``with`` block.

    Keras calls all of them, of every thread, by ``keras.Operation.__call__``, which is exchanged while anybody watches.
    Blocks may be nested, and may end in another order than they began.

    Parameters
    ----------
    watcher : callable
        ``watcher(operation, run, *args, **kwargs)`` returns ``run(*args, **kwargs)``, having seen it.
    """
    global _keras_call
    with _lock:
        if not _watchers:
            _keras_call, keras.Operation.__call__ = keras.Operation.__call__, _watched_call
        _watchers.append(watcher)
    try:
        yield
    finally:
        with _lock:
            _watchers.remove(watcher)
            if not _watchers:
                keras.Operation.__call__ = _keras_call


def _watched_call(operation: keras.Operation, /, *args: Any, **kwargs: Any) -> Any:
    run = partial(_keras_call, operation)
    for watcher in tuple(_watchers):
        run = partial(watcher, operation, run)
    return run(*args, **kwargs)


# --- other derivatives -----------------------------------------------------------------------------------------------

_numbers = itertools.count()


def graph_with_derivatives(
    function: Callable, signature: Sequence[tf.TensorSpec], derivatives: dict[str, Callable]
) -> Any:
    """Return `function` as a graph in which some kinds of operations have other derivatives.

    ``tf.custom_gradient`` changes a function that one writes oneself. The derivative of an operation inside somebody
    else's network is changed by TensorFlow 1's ``gradient_override_map``, where ``tf.gradients`` looks it up. It does
    not reach into a ``tf.function`` or a loop: see `operations_in_functions`.

    Parameters
    ----------
    function : callable
        Maps tensors to tensors, and takes its derivatives by ``tf.gradients``. Its variables exist already.
    signature : sequence of tf.TensorSpec
        Of its arguments.
    derivatives : dict of str to callable
        By the type of the operation, such as ``"Relu"``: a module's function that maps the operation and the
        derivative of its output to the derivatives of its inputs.

    Returns
    -------
    callable
        With the attribute ``graph``.
    """
    names = {kind: _registered(derivative) for kind, derivative in derivatives.items()}

    def changed(*tensors: Any) -> Any:
        with tf.compat.v1.get_default_graph().gradient_override_map(names):
            return function(*tensors)

    return tf.compat.v1.wrap_function(changed, list(signature))


def operations_in_functions(graph: tf.Graph) -> set[str]:
    """Return the types of the operations inside the functions and loops that a graph calls."""
    return {node.op for function in graph.as_graph_def().library.function for node in function.node_def}


@cache  # TensorFlow keeps a name for ever, and takes it once
def _registered(derivative: Callable) -> str:
    name = f"Tfae{derivative.__name__}{next(_numbers)}"
    tf.RegisterGradient(name)(derivative)
    return name
