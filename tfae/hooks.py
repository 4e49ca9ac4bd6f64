"""What each layer of a model takes and returns, whatever form the model has (chapters 07 and 08).

A functional, Sequential, nested or subclassed model calls its layers one after another. Watching those calls works for
all of them, where walking through `model.layers` sees nothing of a subclassed one.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf


@dataclass(frozen=True, eq=False)
class LayerCall:
    """One call of a layer: the tensors it took and returned, its activation, and whether it called no other layer."""

    layer: keras.Operation
    inputs: tuple[Any, ...]
    output: Any
    activation: Any
    is_leaf: bool


@contextmanager
def recording() -> Iterator[list[LayerCall]]:
    """Record every layer called inside the ``with`` block, in the order in which the calls end.

    The tensors are the model's own, so a ``GradientTape`` around the block has derivatives with respect to them.

    Yields
    ------
    list of LayerCall
        Grows as layers are called. Operations of a functional graph, such as an addition of two tensors, count as
        layers; what a subclassed model computes outside its layers leaves no record.

    Examples
    --------
    >>> with recording() as calls:
    ...     outputs = model(x)  # doctest: +SKIP
    """
    calls: list[LayerCall] = []
    began: list[int] = []  # len(calls) when each of the calls now running began
    here = _place()
    original = keras.Operation.__call__

    def watched(self: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        if _place() != here or any(map(keras.backend.is_keras_tensor, keras.tree.flatten(args))):
            return original(self, *args, **kwargs)
        began.append(len(calls))
        try:
            output = original(self, *args, **kwargs)
        finally:
            start = began.pop()
        calls.append(LayerCall(self, args, output, getattr(self, "activation", None), is_leaf=len(calls) == start))
        return output

    keras.Operation.__call__ = watched
    try:
        yield calls
    finally:
        keras.Operation.__call__ = original


def _place() -> tuple[int, Any]:
    """Return where code runs: Keras builds a layer by calling it on stand-ins, in a graph of its own."""
    return threading.get_ident(), None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def find_call(calls: list[LayerCall], layer: str | keras.Layer) -> LayerCall:
    """Return the one call of `layer`, given as itself or by its name.

    Raises
    ------
    ValueError
        If no layer of that name was called (the known names are listed), if several layers have it, or if the layer
        was called several times, so that its output is not one thing.
    """
    found = [call for call in calls if call.layer is layer or call.layer.name == layer]
    if not found:
        known = ", ".join(dict.fromkeys(call.layer.name for call in calls))
        name = layer if isinstance(layer, str) else getattr(layer, "name", repr(layer))
        raise ValueError(f"no layer {name!r} was called; the layers of this model are: {known}")
    if len({id(call.layer) for call in found}) > 1:
        raise ValueError(f"{len(found)} layers are called {layer!r}; give the layer itself instead of its name")
    if len(found) > 1:
        raise ValueError(
            f"layer {found[0].layer.name!r} is called {len(found)} times for one input; it has no one output"
        )
    return found[0]


@contextmanager
def without_activation(layer: keras.Layer) -> Iterator[None]:
    """Leave out the activation of `layer` inside the ``with`` block: of a Softmax, all that it does."""
    if isinstance(layer, keras.layers.Softmax):
        layer.call = lambda x, *args, **kwargs: x
        try:
            yield
        finally:
            del layer.call
    else:
        activation, layer.activation = layer.activation, keras.activations.linear
        try:
            yield
        finally:
            layer.activation = activation
