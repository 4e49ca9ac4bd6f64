"""What each layer of a model takes and returns, whatever form the model has (chapters 07 and 08).

A functional, Sequential, nested or subclassed model calls its layers one after another. Watching those calls works for
all of them, where walking through `model.layers` sees nothing of a subclassed one.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tfae.internals import watching_calls


@dataclass(frozen=True, eq=False)
class LayerCall:
    """One call of a layer.

    Attributes
    ----------
    layer : keras.Layer or keras.Operation
    inputs : tuple
        What it took by position, in most cases one tensor.
    options : dict
        What it took by name, such as ``training``.
    output
        What it returned, in most cases one tensor.
    activation : callable or None
        The layer's activation at the time of the call.
    is_leaf : bool
        Whether it called no other layer.
    """

    layer: keras.Operation
    inputs: tuple[Any, ...]
    options: dict[str, Any]
    output: Any
    activation: Any
    is_leaf: bool

    @property
    def arguments(self) -> list[Any]:
        """All that it took, tensors and other things, in one list."""
        return keras.tree.flatten((self.inputs, self.options))

    @property
    def changes_nothing(self) -> bool:
        """Whether it returned what it took, as dropout does outside training."""
        return any(self.output is argument for argument in self.arguments)

    def again(self, changes: dict[int, Any]) -> Any:
        """Return what the layer makes of the same arguments, but for those at some places in `arguments`."""
        parts = [changes.get(place, argument) for place, argument in enumerate(self.arguments)]
        inputs, options = keras.tree.pack_sequence_as((self.inputs, self.options), parts)
        return self.layer(*inputs, **options)


@contextmanager
def recording() -> Iterator[list[LayerCall]]:
    """Record every layer called inside the ``with`` block, in the order in which the calls end.

    The tensors are the model's own, so a ``GradientTape`` around the block has derivatives with respect to them.
    Recordings may be nested or run at the same time; each sees what its own thread calls.

    Yields
    ------
    list of LayerCall
        Grows as layers are called. Operations that stand in a functional graph, such as an addition of two Keras
        tensors, count as layers. What a layer or a subclassed model computes outside the layers that it calls leaves no
        record.

    Examples
    --------
    >>> with recording() as calls:
    ...     outputs = model(x)  # doctest: +SKIP
    """
    calls: list[LayerCall] = []
    began: list[int] = []  # len(calls) when each of the calls now running began
    here = _place()

    def watch(operation: keras.Operation, run: Callable, /, *args: Any, **kwargs: Any) -> Any:
        building = any(map(keras.backend.is_keras_tensor, keras.tree.flatten((args, kwargs))))
        if building or _place() != here or not _is_part_of_a_model(operation):
            return run(*args, **kwargs)
        began.append(len(calls))
        try:
            output = run(*args, **kwargs)
        finally:
            start = began.pop()
        activation = getattr(operation, "activation", None)
        calls.append(LayerCall(operation, args, kwargs, output, activation, is_leaf=len(calls) == start))
        return output

    with watching_calls(watch):
        yield calls


@contextmanager
def replacing(layer: str | keras.Layer, function: Callable[[Any], Any]) -> Iterator[None]:
    """Let `layer`, given as itself or by its name, return ``function(output)`` inside the ``with`` block (chapter 16).

    What the other layers get, and their derivatives, follow from it. As in `recording`, only this thread is concerned.
    """
    here = _place()

    def watch(operation: keras.Operation, run: Callable, /, *args: Any, **kwargs: Any) -> Any:
        output = run(*args, **kwargs)
        wanted = operation is layer or operation.name == layer
        building = any(map(keras.backend.is_keras_tensor, keras.tree.flatten(output)))
        return function(output) if wanted and _place() == here and not building else output

    with watching_calls(watch):
        yield


def _is_part_of_a_model(operation: keras.Operation) -> bool:
    """Whether it is a layer or has a place in a functional graph, and was not made on the way, as ops.pad does it."""
    return isinstance(operation, keras.Layer) or hasattr(operation, "output")


def _place() -> tuple[int, Any]:
    """Return where code runs: Keras builds a layer by calling it on stand-ins, in a graph of its own."""
    return threading.get_ident(), None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def makers(calls: list[LayerCall]) -> dict[int, LayerCall]:
    """Return, by the ``id`` of each output, the call that made it, latest first: a model returns what a layer made."""
    return {id(call.output): call for call in reversed(calls)}


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


OTHER_FLOATS = ("float16", "bfloat16", "float64")


@contextmanager
def in_float32(layers: Iterable[keras.Operation]) -> Iterator[None]:
    """Have layers compute in float32 inside the ``with`` block, those of mixed precision too.

    Raises
    ------
    ValueError
        If a layer keeps its weights in another precision.
    """
    others = {layer: layer.dtype_policy for layer in layers if getattr(layer, "compute_dtype", None) in OTHER_FLOATS}
    for layer in others:
        if layer.variable_dtype != "float32":
            raise ValueError(
                f"layer {layer.name!r} keeps its weights in {layer.variable_dtype}, and this needs float32; build the "
                f"network in float32 or mixed precision and copy the weights: model.set_weights(other.get_weights())"
            )
    try:
        for layer in others:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in others.items():
            layer.dtype_policy = policy
