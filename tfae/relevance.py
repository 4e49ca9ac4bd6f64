r"""The rules of layer-wise relevance propagation, by which `tfae.attribution.lrp` explains (chapter 08).

Almost all that a network computes is a sum :math:`z_k = \sum_j a_j w_{jk} + b_k` once some of it is held as it is for
the sample that is explained: the winner of a pooling by maximum, the statistics of a normalisation, the weights of an
attention, the gates of an LSTM. A sum hands the relevance :math:`R_k` of its unit k back in the shares of its terms,

.. math:: R_j = a_j \sum_k w_{jk} \frac{R_k}{z_k}, \qquad w_{jk} = \frac{\partial z_k}{\partial a_j},

and the term :math:`b_k` keeps its own. So a layer needs no rule of its own if the derivative of what it computes makes
such a sum of it. Whether it does is tried at each layer: its shares and what it keeps must add up to what it received.
"""

import inspect
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tfae.hooks import LayerCall, in_float32, makers, recording, without_activation
from tfae.targets import Target

RULES = ("epsilon", "z+", "gamma")

# By the names of Keras's layers, and of the operations that stand in a functional graph.
ELEMENTWISE = {
    "Activation", "ReLU", "LeakyReLU", "PReLU", "ELU",
    "Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "HardSilu", "Mish", "Softplus", "Softsign",
    "Sigmoid", "HardSigmoid", "Tanh",
}  # fmt: skip
MOVING = {
    "Flatten", "Reshape", "Permute", "Transpose", "ExpandDims", "Squeeze", "GetItem", "Concatenate", "Stack", "Pad",
    "ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D", "UpSampling1D", "UpSampling2D",
    "MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "TopK",
}  # fmt: skip
PRODUCTS = {"Multiply", "Dot", "Matmul", "Einsum"}
GATES = {"sigmoid", "hard_sigmoid", "softmax", "Sigmoid", "HardSigmoid", "Softmax"}
MIXING = {"softmax", "log_softmax", "sparsemax", "Softmax", "LogSoftmax", "Sparsemax"}
LINEAR = (
    layers.Dense, layers.Conv1D, layers.Conv1DTranspose, layers.Conv2D, layers.Conv2DTranspose,
    layers.DepthwiseConv1D, layers.DepthwiseConv2D,
)  # fmt: skip
ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention, layers.Attention, layers.AdditiveAttention)
NORMALISING = (layers.LayerNormalization, layers.RMSNormalization)
WHOLE = (*ATTENTION, layers.LSTM)  # one step each, whatever layers they call


@dataclass(frozen=True)
class Rule:
    """How dense and convolutional layers hand back; all others follow epsilon.

    Attributes
    ----------
    name : str
        One of `RULES`.
    epsilon, gamma : float
    """

    name: str
    epsilon: float
    gamma: float


class Relevance(NamedTuple):
    """What a target's value becomes at the inputs, and on the way: tensors, so that a graph can return them.

    Attributes
    ----------
    outputs : tensor, shape (n,)
        The target of each sample.
    values : tensor, of the shape of the samples
    names : tensor of str, shape (layers, 2)
        Of each layer on the way and of its class, from the target to the input.
    sums : tensor, shape (layers, 4)
        What each received, handed on, kept by its bias and lost, over the whole batch.
    troubles : tensor of str
        Why no sum can be made of the target or of a layer after all, in their order; empty where all is well.
    """

    outputs: Any
    values: Any
    names: Any
    sums: Any
    troubles: Any


def hand_back(target: Target, rule: Rule, x: Any) -> Relevance:
    """Return the relevance of each input of a batch.

    Parameters
    ----------
    target : tfae.targets.Target
    rule : Rule
    x : tensor, shape (n, *sample)

    Returns
    -------
    Relevance

    Raises
    ------
    ValueError
        If a layer has no rule, keeps its weights in another precision than float32, or if the network computes
        something outside its layers.
    """
    with recording() as calls:
        target.network(x[:1])
    with in_float32(call.layer for call in calls):
        return _hand_back(target, rule, x)


def _hand_back(target: Target, rule: Rule, x: Any) -> Relevance:
    with recording() as calls, tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        outputs = target.outputs(x)
    value, start, trouble = _first_relevance(target, outputs, x)
    steps = [call for call in calls if call.is_leaf or isinstance(call.layer, WHOLE)]
    made = makers(calls)
    gates, merged = _gates(steps), _merged(steps) if rule.name != "epsilon" else {}

    def is_signal(part: Any) -> bool:
        """Whether an argument is a tensor that depends on the samples: no option, no mask, no constant."""
        floating = tf.is_tensor(part) and part.dtype.is_floating
        return floating and (part is x or id(part) in made or tape.gradient(part, x) is not None)

    waiting = {id(outputs): start}  # relevance by the tensor that holds it
    names, sums, troubles = [], [], [trouble]
    for call in reversed(calls):
        if call.changes_nothing or id(call.output) not in waiting:
            continue  # the layer did nothing, or nothing that the target depends on
        if call not in steps:
            if made[id(call.output)] is call:
                raise _not_followed(f"through {_name(call)}, which computes something outside the layers that it calls")
            continue
        received = waiting.pop(id(call.output))
        places = [place for place, part in enumerate(call.arguments) if is_signal(part)]
        shares, kept, found = _shares(call, places, received, gates, merged, rule)
        for tensor, share in shares:
            waiting[id(tensor)] = waiting.get(id(tensor), 0) + share
        parts = [_total(received), sum(_total(share) for _, share in shares), _total(kept)]
        names.append([call.layer.name, type(call.layer).__name__])
        sums.append([*parts, parts[0] - parts[1] - parts[2]])
        troubles += found
    if set(waiting) != {id(x)}:
        raise _not_followed("to the input: the network computes something outside its layers")
    names, sums = tf.convert_to_tensor(names, tf.string), tf.convert_to_tensor(sums, tf.float64)
    return Relevance(value, waiting[id(x)], names, sums, tf.stack(troubles))


def _total(part: Any) -> Any:
    part = tf.convert_to_tensor(part)
    of_samples = tf.reduce_sum(part, axis=list(range(1, len(part.shape))))
    return tf.reduce_sum(tf.cast(of_samples, tf.float64))


def _first_relevance(target: Target, outputs: Any, x: Any) -> tuple[Any, Any, Any]:
    """Return a target that is a weighted sum of outputs, what each of them adds to it, and the trouble if it is not."""
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        value = target.read(outputs, x)
    start = outputs * tape.gradient(value, outputs)
    missed = ops.abs(ops.sum(tf.reshape(start, (tf.shape(value)[0], -1)), axis=1) - value)
    says = (
        f"{target.name} is not a weighted sum of the network's outputs, so it has no relevance to hand back; explain "
        f"an output, a code unit or a pixel with lrp, and this with integrated_gradients"
    )
    return value, start, _trouble(ops.max(missed) > 1e-4 * ops.max(ops.abs(value)) + 1e-7, says)


def _shares(
    call: LayerCall, places: list[int], received: Any, gates: set[int], merged: dict[int, LayerCall], rule: Rule
) -> tuple[list[tuple[Any, Any]], Any, list[Any]]:
    """Return the tensors that one call took with the relevance of each, what the call keeps, and its troubles."""
    layer, kind = call.layer, _kind(call)
    taken = [call.arguments[place] for place in places]
    if _activation(call) in MIXING:
        raise ValueError("a softmax mixes all its inputs and has no rule here; explain targets.logit instead")
    if not taken:
        return [], received, []  # a constant
    if kind in ELEMENTWISE or (kind == "BatchNormalization" and id(taken[0]) in merged):
        return [(taken[0], received)], 0.0, []
    if rule.name != "epsilon" and isinstance(layer, LINEAR):
        share, kept, trouble = _by_sign(call, taken[0], received, merged.get(id(call.output)), rule)
        return [(taken[0], share)], kept, [trouble]

    factors = 1
    if isinstance(layer, ATTENTION):
        taken, function = _attention(call)
    elif isinstance(layer, NORMALISING):
        function = _normalisation(layer, taken[0])
    elif isinstance(layer, layers.LSTM):
        function = _lstm(layer, taken[0])
    else:
        if kind in PRODUCTS:  # gates let through and say nothing; of other factors none comes first
            places = [place for place in places if id(call.arguments[place]) not in gates] or places
            taken, factors = [call.arguments[place] for place in places], len(places)

        def function(*tensors: Any) -> Any:
            with _bare(layer):
                return call.again(dict(zip(places, tensors, strict=True)))

    copies = [tf.identity(tensor) for tensor in taken]  # a tensor that comes in twice gets two shares
    with tf.GradientTape() as tape:
        tape.watch(copies)
        z = function(*copies)
    one = isinstance(layer, LINEAR)  # whose bias is the same for all samples
    at_zero = function(*(tf.zeros_like(tensor[:1] if one else tensor) for tensor in copies))
    if kind in MOVING and getattr(layer, "interpolation", "nearest") == "nearest":
        shares, kept = tape.gradient(z, copies, output_gradients=received), ops.where(at_zero == 0, 0.0, received)
    else:
        quotient = received / _away_from_zero(z, rule.epsilon)
        slopes = tape.gradient(z, copies, output_gradients=quotient, unconnected_gradients="zero")
        shares = [tensor * slope / factors for tensor, slope in zip(copies, slopes, strict=True)]
        kept, received = at_zero * quotient, z * quotient
    troubles = [_not_the_same(call, z), _not_closed(call, received, shares, kept)]
    return list(zip(taken, shares, strict=True)), kept, troubles


def _by_sign(call: LayerCall, a: Any, received: Any, normalised: LayerCall | None, rule: Rule) -> tuple[Any, Any, Any]:
    """Split the products a_j w_jk by their sign and hand relevance back in their proportion.

    A batch normalisation that follows at once is part of the weights, s w and s b + t, as at the time of prediction.
    """
    layer = call.layer
    if not isinstance(layer.kernel, keras.Variable):
        raise ValueError(_without_rule(call, "its kernel is computed from other weights"))
    w, b = ops.convert_to_tensor(layer.kernel), ops.convert_to_tensor(layer.bias) if layer.use_bias else 0.0

    def products(a: Any, w: Any) -> Any:
        weights = [(layer.kernel, w)] + ([(layer.bias, ops.zeros_like(b))] if layer.use_bias else [])
        with keras.StatelessScope(weights), _bare(layer):
            return layer(a)

    w_up, w_down = ops.maximum(w, 0.0), ops.minimum(w, 0.0)

    def shares(*parts: Any) -> tuple[Any, Any, Any]:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(parts)
            positive = sum(map(products, parts, (w_up, w_down)))
            negative = sum(map(products, parts, (w_down, w_up)))
            bias = b
            if normalised:
                one = ops.ones((*[1] * (len(a.shape) - 1), normalised.output.shape[-1]))
                t = normalised.layer(0 * one)
                s = normalised.layer(one) - t
                s_up, s_down = ops.maximum(s, 0.0), ops.minimum(s, 0.0)
                positive, negative = s_up * positive + s_down * negative, s_up * negative + s_down * positive
                bias = s * b + t
        z = positive + negative + bias
        if rule.name == "z+":
            weights = [(positive, received / _away_from_zero(positive, rule.epsilon))]
            kept: Any = ops.where(positive > 0, 0.0, received)
        else:
            rises, falls = ops.cast(z > 0, z.dtype), ops.cast(z <= 0, z.dtype)
            b_up, b_down = ops.maximum(bias, 0.0), ops.minimum(bias, 0.0)
            stretched = rule.gamma * (rises * (positive + b_up) + falls * (negative + b_down))
            quotient = received / _away_from_zero(z + stretched, rule.epsilon)
            weights = [(positive, quotient * (1 + rule.gamma * rises)), (negative, quotient * (1 + rule.gamma * falls))]
            kept = quotient * (bias + rule.gamma * (rises * b_up + falls * b_down))
        share = sum(
            part * tape.gradient(products_of_sign, part, output_gradients=quotient)
            for products_of_sign, quotient in weights
            for part in parts
        )
        return share, kept, z

    by_sign = partial(shares, ops.maximum(a, 0.0), ops.minimum(a, 0.0))
    share, kept, z = tf.cond(tf.reduce_any(a < 0), by_sign, partial(shares, a))  # after a ReLU half the work does
    return share, kept, _not_the_same(normalised or call, z)


# --- what is held, so that the rest is a sum -------------------------------------------------------------------------


def _gates(calls: list[LayerCall]) -> set[int]:
    """Return the tensors that are between 0 and 1 by their making, as they are or in another shape.

    A gate times a signal hands all to the signal (Arras et al. 2017). Other factors share alike (Achtibat et al. 2024).
    """
    gates: set[int] = set()
    for call in calls:
        if _activation(call) in GATES or (_kind(call) in MOVING and gates.intersection(map(id, call.arguments))):
            gates.add(id(call.output))
    return gates


def _merged(calls: list[LayerCall]) -> dict[int, LayerCall]:
    """Return, by the tensor between the two, each batch normalisation of what a linear layer alone returned."""
    uses = Counter(id(part) for call in calls for part in call.arguments)
    linear = {id(call.output) for call in calls if isinstance(call.layer, LINEAR) and _activation(call) == "linear"}
    normalised = [(id(call.arguments[0]), call) for call in calls if _kind(call) == "BatchNormalization"]
    return {tensor: call for tensor, call in normalised if tensor in linear and uses[tensor] == 1}


def _attention(call: LayerCall) -> tuple[list[Any], Callable]:
    """Return the values, and the layer as a function of them, with its weights held (Ali et al. 2022)."""
    layer = call.layer
    given = inspect.signature(layer.call).bind(*call.inputs, **call.options).arguments
    if "inputs" in given:  # of Attention and AdditiveAttention: query, value and perhaps key
        query, value, *key = given["inputs"]
        return [value], lambda values: layer(**(given | {"inputs": [query, values, *(key or [value])]}))
    value, key = given["value"], given.get("key")
    return [value], lambda values: layer(**(given | {"value": values, "key": value if key is None else key}))


def _normalisation(layer: keras.Layer, x: Any) -> Callable:
    """Return a normalisation whose deviation is held, and its mean computed (Ali et al. 2022, Achtibat et al. 2024)."""
    axes = [axis % len(x.shape) for axis in np.atleast_1d(layer.axis)]

    def centred(x: Any) -> Any:
        return x - ops.mean(x, axis=axes, keepdims=True) if isinstance(layer, layers.LayerNormalization) else x

    def placed(weight: Any, otherwise: float) -> Any:
        shape = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
        return otherwise if weight is None else ops.reshape(weight, shape)

    if isinstance(layer, layers.LayerNormalization):
        scale, shift = placed(layer.gamma, 1.0), placed(layer.beta, 0.0)
    else:
        scale, shift = placed(layer.scale, 1.0), 0.0
    deviation = ops.sqrt(ops.mean(ops.square(centred(x)), axis=axes, keepdims=True) + layer.epsilon)
    return lambda x: centred(x) / deviation * scale + shift


def _lstm(layer: layers.LSTM, x: Any) -> Callable:
    """Return an LSTM whose gates are held, and each activation by its ratio to its argument (Arras et al. 2017).

    Its steps hand relevance back without epsilon.
    """
    cell, held = layer.cell, {}
    activation, gate = cell.activation, cell.recurrent_activation

    def ratio(z: Any) -> Any:
        return ops.where(z == 0, 1.0, activation(z) / ops.where(z == 0, 1.0, z))

    def run(x: Any) -> Any:
        h = c = ops.zeros((ops.shape(x)[0], layer.units))
        outputs, order = [], range(x.shape[1])
        for step in reversed(order) if layer.go_backwards else order:
            z = ops.matmul(x[:, step], cell.kernel) + ops.matmul(h, cell.recurrent_kernel)
            i, f, g, o = ops.split(z + cell.bias if cell.use_bias else z, 4, axis=-1)
            if step not in held:  # the first run, on the samples themselves
                i, f, o = gate(i), gate(f), gate(o)
                held[step] = i * ratio(g), f, o * ratio(f * c + i * activation(g))
            i, f, o = held[step]
            c = f * c + i * g
            h = o * c
            outputs.append(h)
        return ops.stack(outputs, axis=1) if layer.return_sequences else h

    run(x)
    return run


# --- a call ----------------------------------------------------------------------------------------------------------


def _kind(call: LayerCall) -> str:
    """Return the name of Keras's own layer or operation, or of this package's; of others, which may do anything, ''."""
    return type(call.layer).__name__ if type(call.layer).__module__.startswith(("keras.", "tfae.")) else ""


def _activation(call: LayerCall) -> str:
    """Return the name of the activation function by which a layer or operation ends."""
    return _kind(call) if call.activation is None else getattr(call.activation, "__name__", "")


def _bare(layer: keras.Operation) -> Any:
    return nullcontext() if getattr(layer, "activation", None) is None else without_activation(layer)


def _away_from_zero(z: Any, epsilon: float) -> Any:
    return z + ops.where(z >= 0, epsilon, -epsilon)


def _not_the_same(call: LayerCall, z: Any) -> Any:
    """Return the trouble if a layer does something else than the sum that is made of it."""
    whole = call.activation is None or isinstance(call.layer, WHOLE)
    missed = ops.max(ops.abs((z if whole else call.activation(z)) - call.output))
    says = f"it does not return what a {type(call.layer).__name__} with its weights would"
    return _trouble(missed > 1e-3 * ops.max(ops.abs(call.output)) + 1e-6, _without_rule(call, says))


def _not_closed(call: LayerCall, received: Any, shares: list[Any], kept: Any) -> Any:
    """Return the trouble if what was handed on and kept is not what was received: no sum of what the layer took."""
    missed = abs(_total(received) - sum(map(_total, [*shares, kept])))
    bound = 1e-3 * sum(_total(abs(part)) for part in (received, *shares, kept)) + 1e-30  # where float32 underflows
    return _trouble(missed > bound, _without_rule(call, "what it returns is no weighted sum of what it takes"))


def _trouble(wrong: Any, says: str) -> Any:
    return tf.where(wrong, says, "")


def _without_rule(call: LayerCall, reason: str) -> str:
    return f"lrp has no rule for {_name(call)}: {reason}; use integrated_gradients"


def _not_followed(where: str) -> ValueError:
    return ValueError(
        f"relevance cannot be followed {where}. Write each step as a layer, layers.Activation('relu') for instance, or "
        f"use integrated_gradients."
    )


def _name(call: LayerCall) -> str:
    what = "layer" if isinstance(call.layer, keras.Layer) else "operation"
    return f"{what} {call.layer.name!r} ({type(call.layer).__name__})"
