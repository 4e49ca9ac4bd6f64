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
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tfae.hooks import LayerCall, makers, recording, without_activation
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


@dataclass(frozen=True, eq=False)
class Relevance:
    """What a target's value becomes at the inputs, and on the way.

    Attributes
    ----------
    outputs : ndarray, shape (n,)
        The target of each sample.
    values : ndarray, of the shape of the samples
    ledger : list of dict
        As `tfae.attribution.Attribution` has it.
    """

    outputs: np.ndarray
    values: np.ndarray
    ledger: list[dict[str, Any]]


def hand_back(target: Target, x: Any, rule: Rule) -> Relevance:
    """Return the relevance of each input of a batch.

    Parameters
    ----------
    target : tfae.targets.Target
    x : tensor, shape (n, *sample)
    rule : Rule

    Returns
    -------
    Relevance

    Raises
    ------
    ValueError
        If the target is no weighted sum of outputs, if a layer has no rule, or if the network computes something
        outside its layers.
    """
    with recording() as calls, tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        outputs = target.outputs(x)
    value, start = _first_relevance(target, outputs, x)
    steps = [call for call in calls if call.is_leaf or isinstance(call.layer, WHOLE)]
    made = makers(calls)
    gates, merged = _gates(steps), _merged(steps) if rule.name != "epsilon" else {}

    def is_signal(part: Any) -> bool:
        """Whether an argument is a tensor that depends on the samples: no option, no mask, no constant."""
        floating = tf.is_tensor(part) and part.dtype.is_floating
        return floating and (part is x or id(part) in made or tape.gradient(part, x) is not None)

    waiting = {id(outputs): start}  # relevance by the tensor that holds it
    ledger = []
    for call in reversed(calls):
        if call.changes_nothing or id(call.output) not in waiting:
            continue  # the layer did nothing, or nothing that the target depends on
        if call not in steps:
            if made[id(call.output)] is call:
                raise _not_followed(f"through {_name(call)}, which computes something outside the layers that it calls")
            continue
        received = waiting.pop(id(call.output))
        places = [place for place, part in enumerate(call.arguments) if is_signal(part)]
        shares, kept = _shares(call, places, received, gates, merged, rule)
        for tensor, share in shares:
            waiting[id(tensor)] = waiting.get(id(tensor), 0) + share
        sums = {"received": received, "kept_by_bias": kept}
        entry = {name: float(np.sum(part, dtype="float64")) for name, part in sums.items()}
        entry["handed_on"] = float(sum(np.sum(share, dtype="float64") for _, share in shares))
        entry["lost"] = entry["received"] - entry["handed_on"] - entry["kept_by_bias"]
        ledger.append({"layer": call.layer.name, "kind": type(call.layer).__name__, **entry})
    if set(waiting) != {id(x)}:
        raise _not_followed("to the input: the network computes something outside its layers")
    return Relevance(np.asarray(value), np.asarray(waiting[id(x)]), ledger)


def _first_relevance(target: Target, outputs: Any, x: Any) -> tuple[Any, Any]:
    """Return a target that is a weighted sum of outputs, and what each of them adds to it."""
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        value = target.read(outputs, x)
    start = outputs * tape.gradient(value, outputs)
    missed = np.abs(np.sum(np.reshape(start, (len(x), -1)), axis=1) - value)
    if missed.max() > 1e-4 * np.abs(value).max() + 1e-7:
        raise ValueError(
            f"{target.name} is not a weighted sum of the network's outputs, so it has no relevance to hand back; "
            f"explain an output, a code unit or a pixel with lrp, and this with integrated_gradients"
        )
    return value, start


def _shares(
    call: LayerCall, places: list[int], received: Any, gates: set[int], merged: dict[int, LayerCall], rule: Rule
) -> tuple[list[tuple[Any, Any]], Any]:
    """Return the tensors that one call took with the relevance of each, and what it keeps of what it received."""
    layer, kind = call.layer, _kind(call)
    taken = [call.arguments[place] for place in places]
    if _activation(call) in MIXING:
        raise ValueError("a softmax mixes all its inputs and has no rule here; explain targets.logit instead")
    if not taken:
        return [], received  # a constant
    if kind in ELEMENTWISE or (kind == "BatchNormalization" and id(taken[0]) in merged):
        return [(taken[0], received)], 0.0
    if rule.name != "epsilon" and isinstance(layer, LINEAR):
        share, kept = _by_sign(call, taken[0], received, merged.get(id(call.output)), rule)
        return [(taken[0], share)], kept

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
    at_zero = function(*map(tf.zeros_like, copies))
    if kind in MOVING and getattr(layer, "interpolation", "nearest") == "nearest":
        shares, kept = tape.gradient(z, copies, output_gradients=received), ops.where(at_zero == 0, 0.0, received)
    else:
        quotient = received / _away_from_zero(z, rule.epsilon)
        slopes = tape.gradient(z, copies, output_gradients=quotient, unconnected_gradients="zero")
        shares = [tensor * slope / factors for tensor, slope in zip(copies, slopes, strict=True)]
        kept, received = at_zero * quotient, z * quotient
    _check_same(call, z)
    _check_closed(call, received, shares, kept)
    return list(zip(taken, shares, strict=True)), kept


def _by_sign(call: LayerCall, a: Any, received: Any, normalised: LayerCall | None, rule: Rule) -> tuple[Any, Any]:
    """Split the products a_j w_jk by their sign and hand relevance back in their proportion.

    A batch normalisation that follows at once is part of the weights, s w and s b + t, as at the time of prediction.
    """
    layer = call.layer
    if not isinstance(layer.kernel, keras.Variable):
        raise _no_rule(call, "its kernel is computed from other weights")
    w, b = ops.convert_to_tensor(layer.kernel), ops.convert_to_tensor(layer.bias) if layer.use_bias else 0.0

    def products(a: Any, w: Any) -> Any:
        weights = [(layer.kernel, w)] + ([(layer.bias, ops.zeros_like(b))] if layer.use_bias else [])
        with keras.StatelessScope(weights), _bare(layer):
            return layer(a)

    up, down = ops.maximum(a, 0.0), ops.minimum(a, 0.0)
    w_up, w_down = ops.maximum(w, 0.0), ops.minimum(w, 0.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([up, down])
        positive = products(up, w_up) + products(down, w_down)
        negative = products(up, w_down) + products(down, w_up)
        if normalised:
            call, one = normalised, ops.ones((*[1] * (len(a.shape) - 1), call.output.shape[-1]))
            t = call.layer(0 * one)
            s = call.layer(one) - t
            s_up, s_down = ops.maximum(s, 0.0), ops.minimum(s, 0.0)
            positive, negative = s_up * positive + s_down * negative, s_up * negative + s_down * positive
            b = s * b + t
    z = positive + negative + b
    _check_same(call, z)
    if rule.name == "z+":
        weights = [(positive, received / _away_from_zero(positive, rule.epsilon))]
        kept: Any = ops.where(positive > 0, 0.0, received)
    else:
        rises, falls = ops.cast(z > 0, z.dtype), ops.cast(z <= 0, z.dtype)
        b_up, b_down = ops.maximum(b, 0.0), ops.minimum(b, 0.0)
        stretched = rule.gamma * (rises * (positive + b_up) + falls * (negative + b_down))
        quotient = received / _away_from_zero(z + stretched, rule.epsilon)
        weights = [(positive, quotient * (1 + rule.gamma * rises)), (negative, quotient * (1 + rule.gamma * falls))]
        kept = quotient * (b + rule.gamma * (rises * b_up + falls * b_down))
    share = 0.0
    for products_of_sign, quotient in weights:
        for part in (up, down):
            share = share + part * tape.gradient(products_of_sign, part, output_gradients=quotient)
    return share, kept


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
        h = c = ops.zeros((x.shape[0], layer.units))
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


def _check_same(call: LayerCall, z: Any) -> None:
    """Raise if a layer does something else than the sum that is made of it."""
    whole = call.activation is None or isinstance(call.layer, WHOLE)
    missed = ops.max(ops.abs((z if whole else call.activation(z)) - call.output))
    if missed > 1e-3 * ops.max(ops.abs(call.output)) + 1e-6:
        raise _no_rule(call, f"it does not return what a {type(call.layer).__name__} with its weights would")


def _check_closed(call: LayerCall, received: Any, shares: list[Any], kept: Any) -> None:
    """Raise if what was handed on and kept is not what was received: then the layer is no sum of what it took."""
    parts = [np.asarray(part, "float64") for part in (received, *shares, kept)]
    missed = abs(parts[0].sum() - sum(part.sum() for part in parts[1:]))
    if missed > 1e-3 * sum(np.abs(part).sum() for part in parts):
        raise _no_rule(call, "what it returns is no weighted sum of what it takes")


def _no_rule(call: LayerCall, reason: str) -> ValueError:
    return ValueError(f"lrp has no rule for {_name(call)}: {reason}; use integrated_gradients")


def _not_followed(where: str) -> ValueError:
    return ValueError(
        f"relevance cannot be followed {where}. Write each step as a layer, layers.Activation('relu') for instance, or "
        f"use integrated_gradients."
    )


def _name(call: LayerCall) -> str:
    what = "layer" if isinstance(call.layer, keras.Layer) else "operation"
    return f"{what} {call.layer.name!r} ({type(call.layer).__name__})"
