"""How much each input counts for an output, a code, an error: gradients and what is made of them (chapter 08).

Every method takes a target, one number for each sample (see `tfae.targets`), and the samples, and returns an
`Attribution`: a value for each input, and how far the values add up to what they should. Every form of model will do,
functional, Sequential, nested or subclassed, because no method looks at how a model is built: each looks at what it
does when it is called.

>>> target = targets.latent(autoencoder, 3)  # doctest: +SKIP
>>> explained = integrated_gradients(target, x_test[:8])  # doctest: +SKIP
>>> explained.values.shape, explained.completeness_gap.max()  # doctest: +SKIP
((8, 28, 28, 1), 0.004)
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from scipy.special import roots_legendre

from tfae.checks import check_inputs, check_number, check_samples, check_seed, check_size
from tfae.hooks import LayerCall, find_call, recording
from tfae.layers import Corrupt, TopK
from tfae.targets import Target

Scalars = Callable[[Any], Any]  # a batch -> one number for each sample: a Target, or any other callable


@dataclass(frozen=True, eq=False)
class Attribution:
    """What each input counts for, and how far the answer can be checked.

    Attributes
    ----------
    values : ndarray, shape (n, *sample)
        One value for each input, in units of the target (of the target per unit of input for `gradient` and
        `smooth_grad`). For `grad_cam` one value for each place.
    method, target : str
    outputs : ndarray, shape (n,)
        The target of each sample.
    completeness_gap : ndarray of shape (n,), or None
        How far the values fail to add up to what they should, relative to it: see `axiom`.
    axiom : str
        What the values of a sample should add up to, or why there is nothing that they should add up to.
    steps : ndarray of int, shape (n,), or None
        Gradients that integrated gradients took for each sample.
    standard_error : ndarray, shape (n, *sample), or None
        Of values that are means over random draws.
    ledger : list of dict
        For `lrp`, the relevance at each layer from the output to the input, in sums over all samples.
    """

    values: np.ndarray
    method: str
    target: str
    outputs: np.ndarray
    completeness_gap: np.ndarray | None
    axiom: str
    steps: np.ndarray | None = None
    standard_error: np.ndarray | None = None
    ledger: list[dict[str, Any]] = field(default_factory=list)

    def __repr__(self) -> str:
        gap = "" if self.completeness_gap is None else f", largest gap {self.completeness_gap.max():.2%}"
        return f"{self.method} of {self.target}: {len(self.values)} samples{gap} ({self.axiom})"


# --- gradients -------------------------------------------------------------------------------------------------------


def gradient(target: Scalars, x: Any, batch_size: int = 256) -> Attribution:
    """Return the derivative of the target with respect to each input [1]_.

    It answers what a *small* change of an input would do, not what the input contributed.

    Parameters
    ----------
    target : tfae.targets.Target or callable
        Maps a tensor of samples to a tensor ``(n,)``.
    x : array, shape (n, *sample)
    batch_size : int
        Samples differentiated at once: bounds the memory.

    Raises
    ------
    ValueError
        As in every function here: if `x` is empty or not finite, if the target does not return one number for each
        sample, or if it does not depend on the samples.

    References
    ----------
    .. [1] K. Simonyan, A. Vedaldi and A. Zisserman, "Deep inside convolutional networks: visualising image
       classification models and saliency maps", arXiv:1312.6034.
    """
    x = _checked(x)
    outputs, values = _gradients(target, x, batch_size)
    return Attribution(values, "gradient", _name(target), outputs, None, "derivatives need not add up to anything")


def gradient_x_input(target: Scalars, x: Any, baseline: Any = None, batch_size: int = 256) -> Attribution:
    """Return the derivative of the target times the input's distance from the baseline [1]_.

    Complete only where the target is a straight line from the baseline to the sample.

    Parameters
    ----------
    target, x, batch_size
        As in `gradient`.
    baseline : array of the shape of a sample, or of `x`, optional
        What an absent input looks like. All zeros if not given: a blank page, the mean of a standardised table.

    References
    ----------
    .. [1] A. Shrikumar, P. Greenside, A. Shcherbina and A. Kundaje, "Not just a black box: learning important features
       through propagating activation differences", arXiv:1605.01713.
    """
    x = _checked(x)
    baseline = _baseline(baseline, x)
    outputs, gradients = _gradients(target, x, batch_size)
    values = gradients * (x - baseline)
    gap = _gap(values, outputs, _outputs(target, baseline, batch_size))
    return Attribution(values, "gradient x input", _name(target), outputs, gap, TO_BASELINE)


def smooth_grad(
    target: Scalars, x: Any, noise: float = 0.15, n_samples: int = 50, seed: int = 0, batch_size: int = 256
) -> Attribution:
    """Return the derivative of the target, averaged over noisy copies of each sample [1]_.

    Parameters
    ----------
    target, x, batch_size
        As in `gradient`.
    noise : float
        Standard deviation of the noise, as a fraction of the range of each sample's values.
    n_samples : int
        Copies, at least 2. The error of the mean is the attribution's `standard_error`.
    seed : int

    References
    ----------
    .. [1] D. Smilkov, N. Thorat, B. Kim, F. Viegas and M. Wattenberg, "SmoothGrad: removing noise by adding noise",
       arXiv:1706.03825.
    """
    x = _checked(x)
    check_number(noise, "noise", 0, open_ends=True)
    if check_size(n_samples, "n_samples") < 2:
        raise ValueError("n_samples is 1; an average with a standard error needs at least 2")
    rng = np.random.default_rng(check_seed(seed))
    axes = tuple(range(1, x.ndim))
    scale = (noise * (x.max(axis=axes, keepdims=True) - x.min(axis=axes, keepdims=True))).astype("float32")
    run = _compiled(_value_and_gradient, target, x)
    total, squares = np.zeros(x.shape), np.zeros(x.shape)
    for sample, _ in _pairs(len(x), n_samples, batch_size):
        noisy = x[sample] + scale[sample] * rng.standard_normal((len(sample), *x.shape[1:]), "float32")
        slopes = run(noisy)[1].astype("float64")
        _add_rows(total, sample, slopes)
        _add_rows(squares, sample, slopes**2)
    mean = total / n_samples
    variance = np.maximum(squares / n_samples - mean**2, 0) * n_samples / (n_samples - 1)
    return Attribution(
        mean.astype("float32"), "SmoothGrad", _name(target), _outputs(target, x, batch_size), None,
        "derivatives need not add up to anything", standard_error=np.sqrt(variance / n_samples).astype("float32"),
    )  # fmt: skip


def integrated_gradients(
    target: Scalars,
    x: Any,
    baseline: Any = None,
    steps: int | None = None,
    tolerance: float = 0.005,
    max_steps: int = 1024,
    batch_size: int = 256,
) -> Attribution:
    """Return the derivative averaged along the straight line from the baseline, times the distance [1]_.

    The values of a sample add up to the target at the sample less the target at the baseline. The average is an
    integral, computed by Gauss and Legendre's rule, and how far it is from adding up is known exactly: steps are
    doubled, for each sample by itself, until that gap is below `tolerance`.

    Parameters
    ----------
    target, x, batch_size
        As in `gradient`.
    baseline : array of the shape of a sample, or of `x`, optional
        Where the line begins. All zeros if not given.
    steps : int, optional
        Take just so many, whatever the gap.
    tolerance : float
        Of the gap, relative to the difference that is explained.
    max_steps : int
        Where doubling ends; a ``UserWarning`` names the largest gap that is left.

    References
    ----------
    .. [1] M. Sundararajan, A. Taly and Q. Yan, "Axiomatic attribution for deep networks", ICML 2017, arXiv:1703.01365.
    """
    x = _checked(x)
    baseline = _baseline(baseline, x)
    check_number(tolerance, "tolerance", 0, open_ends=True)
    run = _compiled(_value_and_gradient, target, x)
    outputs, at_baseline = _outputs(target, x, batch_size), _outputs(target, baseline, batch_size)
    values, taken = np.zeros_like(x), np.zeros(len(x), int)
    gap = np.full(len(x), np.inf)
    count, last = (16, check_size(max_steps, "max_steps")) if steps is None else (check_size(steps, "steps"),) * 2
    while count <= last and (gap > tolerance).any():
        rows = np.flatnonzero(gap > tolerance)
        values[rows] = _path_integral(run, x[rows], baseline[rows], count, batch_size)
        taken[rows] = count
        gap[rows] = _gap(values[rows], outputs[rows], at_baseline[rows])
        count *= 2
    if steps is None and gap.max() > tolerance:
        warnings.warn(
            f"{(gap > tolerance).sum()} of {len(x)} attributions miss the tolerance {tolerance:g} after {taken.max()} "
            f"steps; the largest gap is {gap.max():.3g}. Raise max_steps, or read completeness_gap.",
            stacklevel=2,
        )
    return Attribution(values, "integrated gradients", _name(target), outputs, gap, TO_BASELINE, steps=taken)


def _path_integral(run: Callable, x: np.ndarray, baseline: np.ndarray, steps: int, batch_size: int) -> np.ndarray:
    nodes, weights = roots_legendre(steps)  # on [-1, 1]
    column = (-1, *[1] * (x.ndim - 1))
    alphas, weights = (
        ((nodes + 1) / 2).astype("float32").reshape(column),
        (weights / 2).astype("float32").reshape(column),
    )
    mean = np.zeros_like(x)
    for sample, step in _pairs(len(x), steps, batch_size):
        points = baseline[sample] + alphas[step] * (x[sample] - baseline[sample])
        _add_rows(mean, sample, weights[step] * run(points)[1])
    return mean * (x - baseline)


# --- changed backpropagation -----------------------------------------------------------------------------------------


@tf.RegisterGradient("TfaeGuidedRelu")
def _guided(op: Any, gradient: Any) -> Any:
    """Pass positive gradients, and only through units that are active."""
    return tf.raw_ops.ReluGrad(gradients=tf.nn.relu(gradient), features=op.outputs[0])


@tf.RegisterGradient("TfaeDeconvRelu")
def _deconv(op: Any, gradient: Any) -> Any:
    """Pass positive gradients, whatever the unit did."""
    return tf.nn.relu(gradient)


def guided_backprop(target: Scalars, x: Any, batch_size: int = 256) -> Attribution:
    """Return the derivative with negative signals stopped at every ReLU, backwards and forwards [1]_.

    Every ReLU in the network is found, be it a layer, an activation or a call inside a subclassed model. The picture is
    sharp; chapter 14 shows that it depends little on what the network learned.

    Parameters
    ----------
    target, x, batch_size
        As in `gradient`.

    Raises
    ------
    ValueError
        Also if the network has no ReLU, so that there is nothing to guide, or hides its operations in a
        ``tf.function``.

    References
    ----------
    .. [1] J. T. Springenberg, A. Dosovitskiy, T. Brox and M. Riedmiller, "Striving for simplicity: the all
       convolutional net", arXiv:1412.6806.
    """
    return _overridden(target, x, batch_size, "guided backpropagation", "TfaeGuidedRelu")


def deconvnet(target: Scalars, x: Any, batch_size: int = 256) -> Attribution:
    """Return the derivative with negative signals stopped at every ReLU on the way back, active or not [1]_.

    Parameters, errors
        As in `guided_backprop`.

    References
    ----------
    .. [1] M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", arXiv:1311.2901.
    """
    return _overridden(target, x, batch_size, "deconvnet", "TfaeDeconvRelu")


def _overridden(target: Scalars, x: Any, batch_size: int, method: str, relu: str) -> Attribution:
    """Return the gradient of a graph in which every Relu has another derivative.

    The change is made where TensorFlow looks derivatives up, at the operations: no spelling of a ReLU escapes it.
    """
    x = _checked(x)
    outputs = _outputs(target, x, batch_size)

    def gradients(batch: Any) -> Any:
        with tf.compat.v1.get_default_graph().gradient_override_map({"Relu": relu, "Relu6": relu}):
            return tf.gradients(target(batch), batch)[0]

    graph = tf.compat.v1.wrap_function(gradients, [tf.TensorSpec((None, *x.shape[1:]), tf.float32)])
    kinds = {operation.type for operation in graph.graph.get_operations()}
    hidden = kinds & {"PartitionedCall", "StatefulPartitionedCall"}
    if hidden:
        raise ValueError(
            f"the network runs inside a tf.function, where {method} cannot reach its ReLUs; explain it without"
        )
    if not kinds & {"Relu", "Relu6"}:
        raise ValueError(
            f"{method} changes what happens at ReLUs, and this network has none; use gradient or lrp instead"
        )
    values = [graph(tf.constant(x[rows])).numpy() for rows, _ in _pairs(len(x), 1, batch_size)]
    axiom = "changed derivatives need not add up to anything"
    return Attribution(np.concatenate(values), method, _name(target), outputs, None, axiom)


def grad_cam(target: Scalars, x: Any, layer: str | keras.Layer | None = None, batch_size: int = 256) -> Attribution:
    """Return where the channels of a convolutional layer, weighted by their mean derivative, speak for the target [1]_.

    Parameters
    ----------
    target, x, batch_size
        As in `gradient`.
    layer : str or keras.Layer, optional
        The last layer with outputs ``(n, height, width, channels)`` before the target if not given.

    Returns
    -------
    Attribution
        With values ``(n, height, width, 1)`` of at least 0, at the layer's resolution drawn to that of the input.

    Raises
    ------
    ValueError
        Also if there is no such layer, or the target does not depend on it.

    References
    ----------
    .. [1] R. R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization",
       ICCV 2017, arXiv:1610.02391.
    """
    x = _checked(x)
    outputs = _outputs(target, x, batch_size)
    if x.ndim != 4:
        raise ValueError(f"Grad-CAM needs images (n, height, width, channels); x has shape {x.shape}")
    parts = []
    for start in range(0, len(x), batch_size):
        batch = tf.constant(x[start : start + batch_size])
        with tf.GradientTape() as tape, recording() as calls:
            tape.watch(batch)
            value = target(batch)
        activation = (_last_images(calls) if layer is None else find_call(calls, layer)).output
        slope = tape.gradient(value, activation)
        if len(activation.shape) != 4 or slope is None:
            raise ValueError(
                f"the target does not depend on images (n, height, width, channels) that layer {layer!r} returns; name "
                f"a convolutional layer before the target"
            )
        weights = ops.mean(slope, axis=(1, 2), keepdims=True)  # (n, 1, 1, channels)
        heat = ops.relu(ops.sum(weights * activation, axis=-1, keepdims=True))
        parts.append(np.asarray(tf.image.resize(heat, x.shape[1:3])))
    axiom = "weighted activations need not add up to anything"
    return Attribution(np.concatenate(parts), "Grad-CAM", _name(target), outputs, None, axiom)


def _last_images(calls: list[LayerCall]) -> LayerCall:
    images = [call for call in calls if call.is_leaf and len(getattr(call.output, "shape", ())) == 4]
    convolved = [call for call in images if not isinstance(call.layer, layers.Reshape | layers.InputLayer)]
    if not convolved:
        raise ValueError(
            "no layer returns images (n, height, width, channels), which Grad-CAM needs; use another method"
        )
    return convolved[-1]


# --- layer-wise relevance propagation --------------------------------------------------------------------------------

LINEAR = (layers.Dense, layers.Conv2D, layers.Conv2DTranspose)
ELEMENTWISE = (
    layers.Activation, layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU, layers.Dropout, layers.SpatialDropout2D,
    layers.GaussianNoise, layers.Identity, Corrupt, TopK,
)  # fmt: skip
REARRANGING = (
    layers.Flatten, layers.Reshape, layers.Permute, layers.ZeroPadding2D, layers.Cropping2D, layers.UpSampling2D,
    layers.MaxPooling2D, layers.AveragePooling2D, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D,
    layers.BatchNormalization, layers.Add, layers.Average, layers.Concatenate,
)  # fmt: skip
RULES = ("epsilon", "z+", "gamma")


def lrp(
    target: Target, x: Any, rule: str = "epsilon", epsilon: float = 1e-6, gamma: float = 0.25, batch_size: int = 256
) -> Attribution:
    r"""Hand the target's value back through the network, layer by layer, to the inputs that made it [1]_.

    A unit k of a linear layer, :math:`z_k = \sum_j a_j w_{jk} + b_k`, hands its relevance to its inputs j in shares:

    - ``"epsilon"``: :math:`a_j w_{jk} / (z_k + \epsilon \, \mathrm{sign} \, z_k)`. The bias keeps its own share.
    - ``"z+"``: as epsilon, with the positive products :math:`a_j w_{jk}` alone. The bias keeps nothing, but for a unit
      without any positive product: all of it.
    - ``"gamma"``: as epsilon, with products of the sign of :math:`z_k` counted :math:`1 + \gamma` times.

    Activation functions, the sigmoid among them, pass relevance on unchanged: what a sigmoid unit says is credited to
    the inputs in the shares in which they made the number it was given. Pooling by maximum hands all to the winner.

    Parameters
    ----------
    target : tfae.targets.Target
        An output, logit, code unit or pixel, or another target that is a weighted sum of outputs.
    x, batch_size
        As in `gradient`.
    rule : str
        For all linear layers.
    epsilon : float
        Above 0. Keeps shares finite where a unit is near 0, and keeps a little relevance.
    gamma : float
        At least 0.

    Returns
    -------
    Attribution
        With a `ledger`: for each layer, relevance received, handed on, kept by biases, and lost to epsilon. What a
        layer receives is the sum of the three others, and what the layer above handed on.

    Raises
    ------
    ValueError
        Also if the target is no weighted sum of outputs (a squared error is not), if a layer has no rule here (it is
        named), or if the network computes something outside its layers, where relevance cannot be followed.

    References
    ----------
    .. [1] S. Bach et al., "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
       propagation", PLoS ONE 10(7), 2015. The rules z+ and gamma: G. Montavon et al., "Layer-wise relevance
       propagation: an overview", in Explainable AI, Springer LNCS 11700, 2019.
    """
    if not isinstance(target, Target):
        raise ValueError("lrp must know the network behind a target: give one of tfae.targets, such as targets.output")
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}; the known ones are {', '.join(RULES)}")
    check_number(epsilon, "epsilon", 0, open_ends=True)
    check_number(gamma, "gamma", 0)
    x = _checked(x)
    outputs = _outputs(target, x, batch_size)
    options = {"rule": rule, "epsilon": epsilon, "gamma": gamma}
    parts = [_relevance(target, x[start : start + batch_size], options) for start in range(0, len(x), batch_size)]
    ledger = [
        rows[0] | {key: sum(row[key] for row in rows) for key in ("received", "handed_on", "kept_by_bias", "lost")}
        for rows in zip(*(part[1] for part in parts), strict=True)
    ]
    values = np.concatenate([part[0] for part in parts])
    axiom = "values and what biases keep add up to the target; the gap is what biases and epsilon kept"
    gap = _gap(values, outputs, np.zeros_like(outputs))
    return Attribution(values, f"LRP-{rule}", _name(target), outputs, gap, axiom, ledger=ledger)


def _relevance(target: Target, x: np.ndarray, options: dict[str, Any]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    batch = tf.constant(x)
    with recording() as calls:
        outputs = target.network(batch)
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        value = target.read(outputs, batch)
    start = outputs * tape.gradient(value, outputs)
    missed = np.abs(np.sum(np.reshape(start, (len(x), -1)), axis=1) - value)
    if missed.max() > 1e-4 * np.abs(value).max() + 1e-7:
        raise ValueError(
            f"{target.name} is not a weighted sum of the network's outputs, so it has no relevance to hand back; "
            f"explain an output, a code unit or a pixel with lrp, and this with integrated_gradients"
        )
    waiting = {id(outputs): start}  # relevance by the tensor that holds it
    ledger = []
    for call in reversed([call for call in calls if call.is_leaf]):
        inputs = keras.tree.flatten(call.inputs)
        received = None if call.output is inputs[0] else waiting.pop(id(call.output), None)
        if received is None:
            continue  # the layer did nothing, or nothing that the target depends on
        shares, kept = _shares(call, inputs, received, **options)
        for tensor, share in zip(inputs, shares, strict=True):
            waiting[id(tensor)] = waiting.get(id(tensor), 0) + share
        sums = {"received": received, "kept_by_bias": kept}
        entry = {name: float(np.sum(part, dtype="float64")) for name, part in sums.items()}
        entry["handed_on"] = float(sum(np.sum(share, dtype="float64") for share in shares))
        entry["lost"] = entry["received"] - entry["handed_on"] - entry["kept_by_bias"]
        ledger.append({"layer": call.layer.name, "kind": type(call.layer).__name__, **entry})
    if set(waiting) != {id(batch)}:
        raise ValueError(
            "relevance cannot be followed to the input: the network computes something outside its layers. Write each "
            "step of it as a layer, layers.Activation('relu') for instance."
        )
    return np.asarray(waiting[id(batch)]), ledger


def _shares(
    call: LayerCall, inputs: list[Any], received: Any, rule: str, epsilon: float, gamma: float
) -> tuple[list[Any], Any]:
    """Return the relevance of each input of one call, and what its biases keep."""
    layer = call.layer
    if call.activation is keras.activations.softmax:
        raise ValueError("a softmax mixes all its inputs and has no rule here; explain targets.logit instead")
    if isinstance(layer, ELEMENTWISE):
        return [received], 0.0
    if isinstance(layer, LINEAR):
        return _linear_shares(layer, inputs[0], received, rule, epsilon, gamma)
    if not isinstance(layer, REARRANGING):
        known = ", ".join(kind.__name__ for kind in (*LINEAR, *ELEMENTWISE, *REARRANGING))
        raise ValueError(f"lrp has no rule for layer {layer.name!r} ({type(layer).__name__}); it has rules for {known}")
    whole = inputs if len(inputs) > 1 else inputs[0]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        z = layer(whole, training=False) if isinstance(layer, layers.BatchNormalization) else layer(whole)
    sums = isinstance(layer, layers.Add | layers.Average | layers.BatchNormalization)
    quotient = received / _away_from_zero(z, epsilon if sums else 1e-12)  # what is only moved keeps all
    slopes = tape.gradient(z, inputs, output_gradients=quotient)
    bias = layer(ops.zeros_like(whole), training=False) if isinstance(layer, layers.BatchNormalization) else 0.0
    return [tensor * slope for tensor, slope in zip(inputs, slopes, strict=True)], bias * quotient


def _linear_shares(
    layer: keras.Layer, a: Any, received: Any, rule: str, epsilon: float, gamma: float
) -> tuple[list[Any], Any]:
    """Split the products a_j w_jk by their sign and hand relevance back in their proportion."""
    w, b = ops.convert_to_tensor(layer.kernel), layer.bias if layer.use_bias else 0.0
    if rule == "epsilon" or (rule == "gamma" and gamma == 0):
        with tf.GradientTape() as tape:
            tape.watch(a)
            z = _apply(layer, a, w)
        quotient = received / _away_from_zero(z + b, epsilon)
        return [a * tape.gradient(z, a, output_gradients=quotient)], b * quotient
    up, down = ops.maximum(a, 0.0), ops.minimum(a, 0.0)
    w_up, w_down = ops.maximum(w, 0.0), ops.minimum(w, 0.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([up, down])
        positive = _apply(layer, up, w_up) + _apply(layer, down, w_down)  # sums of the positive products
        negative = _apply(layer, up, w_down) + _apply(layer, down, w_up)
    if rule == "z+":
        weights = [(positive, received / _away_from_zero(positive, epsilon))]
        kept: Any = ops.where(positive > 0, 0.0, received)
    else:
        z = positive + negative + b
        rises, falls = ops.cast(z > 0, z.dtype), ops.cast(z <= 0, z.dtype)
        stretched = ops.where(z > 0, gamma * (positive + ops.maximum(b, 0.0)), gamma * (negative + ops.minimum(b, 0.0)))
        quotient = received / _away_from_zero(z + stretched, epsilon)
        weights = [(positive, quotient * (1 + gamma * rises)), (negative, quotient * (1 + gamma * falls))]
        kept = quotient * (b + gamma * (rises * ops.maximum(b, 0.0) + falls * ops.minimum(b, 0.0)))
    share = 0.0
    for products, quotient in weights:
        for part in (up, down):
            share = share + part * tape.gradient(products, part, output_gradients=quotient)
    return [share], kept


def _apply(layer: keras.Layer, a: Any, kernel: Any) -> Any:
    """Return what a linear layer makes of `a` with another kernel, without bias and activation."""
    if isinstance(layer, layers.Dense):
        return ops.matmul(a, kernel)
    how = {"strides": layer.strides, "padding": layer.padding, "data_format": layer.data_format}
    if isinstance(layer, layers.Conv2DTranspose):
        return ops.conv_transpose(
            a, kernel, output_padding=layer.output_padding, dilation_rate=layer.dilation_rate, **how
        )
    return ops.conv(a, kernel, dilation_rate=layer.dilation_rate, **how)


def _away_from_zero(z: Any, epsilon: float) -> Any:
    return z + ops.where(z >= 0, epsilon, -epsilon)


# --- occlusion -------------------------------------------------------------------------------------------------------


def occlusion(
    target: Scalars,
    x: Any,
    window: int | Sequence[int] = 4,
    stride: int | Sequence[int] | None = None,
    baseline: Any = None,
    batch_size: int = 256,
) -> Attribution:
    """Return how much the target falls when a window of the sample is covered [1]_.

    No gradient is taken: any callable will do. Each input gets the mean over the windows that cover it.

    Parameters
    ----------
    target, x, batch_size
        As in `gradient`.
    window : int or sequence of int
        Size along each axis that the window moves on: all axes of a sample but the channels of an image, which are
        covered together. For a table, the number of neighbouring columns: 1 in most cases.
    stride : int or sequence of int, optional
        How far the window moves; its own size if not given.
    baseline : array of the shape of a sample, or of `x`, optional
        What covers. All zeros if not given.

    Raises
    ------
    ValueError
        Also if a window is larger than the sample, or a stride leaves inputs between windows uncovered.

    References
    ----------
    .. [1] M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", arXiv:1311.2901.
    """
    x = _checked(x)
    baseline = _baseline(baseline, x)
    moving = x.shape[1:3] if x.ndim == 4 else x.shape[1:]
    sizes = _per_axis(window, "window", moving)
    strides = sizes if stride is None else _per_axis(stride, "stride", moving)
    for size, step, length in zip(sizes, strides, moving, strict=True):
        if size > length or step > size:
            raise ValueError(
                f"a window of {sizes} that moves by {strides} on samples of {moving} covers nothing or leaves gaps; "
                f"give a window no larger than the sample and a stride no larger than the window"
            )
    starts = [
        np.arange(0, length - size + step, step) for size, step, length in zip(sizes, strides, moving, strict=True)
    ]
    corners = np.stack([axis.ravel() for axis in np.meshgrid(*starts, indexing="ij")], axis=1)  # (windows, axes)
    covered = np.ones((len(corners), *moving), bool)
    for axis, (size, length) in enumerate(zip(sizes, moving, strict=True)):
        places = np.arange(length).reshape([-1 if i == axis else 1 for i in range(len(moving))])
        corner = corners[:, axis].reshape(-1, *[1] * len(moving))
        covered &= (places >= corner) & (places < corner + size)
    outputs = _outputs(target, x, batch_size)
    covered = covered.reshape(*covered.shape, *[1] * (x.ndim - 1 - len(moving)))
    run = _compiled(_scalars, target, x)
    falls = np.empty((len(x), len(covered)), "float32")
    for sample, place in _pairs(len(x), len(covered), batch_size):
        falls[sample, place] = outputs[sample] - run(np.where(covered[place], baseline[sample], x[sample]))
    flat = covered.reshape(len(covered), -1).astype("float32")
    means = falls @ flat / flat.sum(axis=0)
    values = np.broadcast_to(means.reshape(len(x), *covered.shape[1:]), x.shape).copy()
    axiom = "windows overlap and inputs act together, so falls need not add up to anything"
    return Attribution(values, "occlusion", _name(target), outputs, None, axiom)


def _per_axis(value: int | Sequence[int], name: str, moving: Sequence[int]) -> tuple[int, ...]:
    values = (value,) * len(moving) if isinstance(value, int | np.integer) else tuple(value)
    if len(values) != len(moving):
        raise ValueError(
            f"{name} is {value!r}; give one size, or one for each of the {len(moving)} axes {tuple(moving)}"
        )
    return tuple(check_size(size, f"a size in {name}") for size in values)


# --- all derivatives at once -----------------------------------------------------------------------------------------


def jacobian(model: keras.Layer | Callable, x: Any, batch_size: int = 1024) -> np.ndarray:
    """Return the derivative of every output of `model` with respect to every input, for each sample of `x`.

    Each sample is repeated once for every output and each copy is asked about one of them, so that ordinary
    backpropagation through one large batch gives all derivatives.

    Parameters
    ----------
    model : keras.Layer or callable
        Maps a tensor ``(n, *inputs)`` to a tensor ``(n, *outputs)``, each sample by itself: an autoencoder, its encoder
        (all codes), its decoder (codes are then the inputs), a classifier, or a method such as ``vae.code``.
    x : array, shape (n, *inputs)
    batch_size : int
        Copies differentiated at once: bounds the memory, apart from the answer itself.

    Returns
    -------
    ndarray, shape (n, *outputs, *inputs)

    Raises
    ------
    ValueError
        If `x` is empty, not finite or of the wrong shape, or if the outputs do not depend on it.

    Notes
    -----
    Chapters 07 and 08 use it.
    """
    x = check_inputs(model, x)
    outputs = model(tf.constant(x[:1]))
    if outputs.shape[0] != 1:
        raise ValueError(
            f"the model returns shape {tuple(outputs.shape)} for one sample; its first axis must be samples"
        )
    n_outputs = math.prod(outputs.shape[1:])
    answer = np.empty((len(x), n_outputs, *x.shape[1:]), "float32")
    for sample, unit in _pairs(len(x), n_outputs, batch_size):
        batch = tf.constant(x[sample])
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(batch)
            asked = tf.gather(tf.reshape(model(batch), (-1, n_outputs)), unit, batch_dims=1)  # (batch_size,)
        slope = tape.gradient(asked, batch)
        if slope is None:
            raise ValueError("the outputs do not depend on x: there is nothing to differentiate")
        answer[sample, unit] = slope
    return answer.reshape(len(x), *outputs.shape[1:], *x.shape[1:])


# --- what all methods share ------------------------------------------------------------------------------------------

TO_BASELINE = "values add up to the target at the sample less the target at the baseline"


def _checked(x: Any) -> np.ndarray:
    return check_samples(x, None).astype("float32")


def _name(target: Any) -> str:
    return str(getattr(target, "name", None) or getattr(target, "__name__", type(target).__name__))


def _baseline(baseline: Any, x: np.ndarray) -> np.ndarray:
    """Return a baseline for each sample, shape ``(n, *sample)``."""
    if baseline is None:
        return np.zeros_like(x)
    baseline = np.asarray(baseline, "float32")
    if baseline.shape not in (x.shape, x.shape[1:], ()) or not np.isfinite(baseline).all():
        raise ValueError(
            f"the baseline has shape {baseline.shape}; give finite numbers of the shape of a sample, {x.shape[1:]}, or "
            f"of x, {x.shape}"
        )
    return np.broadcast_to(baseline, x.shape)


def _pairs(n: int, repeats: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Go through every sample and each of its repeats, in batches: two arrays of row numbers."""
    check_size(batch_size, "batch_size")
    for start in range(0, n * repeats, batch_size):
        yield np.divmod(np.arange(start, min(start + batch_size, n * repeats)), repeats)


def _add_rows(total: np.ndarray, sample: np.ndarray, rows: np.ndarray) -> None:
    """Add each of the `rows` to that of its sample; the rows of one sample lie together."""
    first = np.flatnonzero(np.diff(sample, prepend=-1))
    total[sample[first]] += np.add.reduceat(rows, first, axis=0)


def _scalars(target: Scalars, batch: Any) -> Any:
    """Return the target of each sample of a batch, checked."""
    values = target(batch)
    shape = tuple(getattr(values, "shape", ()))
    if len(shape) != 1 or shape[0] not in (None, batch.shape[0]):
        hint = "; name one of them: targets.output(model, 0)" if isinstance(target, keras.Layer) else ""
        raise ValueError(
            f"the target returns shape {shape} for {batch.shape[0]} samples; it must return one number for each, shape "
            f"({batch.shape[0]},){hint}"
        )
    return values


def _value_and_gradient(target: Scalars, batch: Any) -> tuple[Any, Any]:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(batch)
        values = _scalars(target, batch)
    slope = tape.gradient(values, batch)
    if slope is None:
        raise ValueError(f"{_name(target)} does not depend on the samples: there is nothing to differentiate")
    return values, slope


def _compiled(function: Callable[[Scalars, Any], Any], target: Scalars, x: np.ndarray) -> Callable:
    """Return ``function(target, batch)`` as a function of arrays.

    A `Target` becomes a graph, which runs two to three times as fast as one operation after another, and is kept. Any
    other callable may do what no graph can hold, and runs as it is.
    """

    def run(batch: Any) -> Any:
        return function(target, batch)

    if isinstance(target, Target):
        key = _key(function, x)
        if target.graphs.get(key) is None:
            target(tf.constant(x[:1]))  # what is not yet built is built here, outside the graph
            samples = tf.TensorSpec((None, *x.shape[1:]), tf.float32)
            target.graphs[key] = tf.compat.v1.wrap_function(run, [samples])
        run = target.graphs[key]
    return lambda batch: keras.tree.map_structure(np.asarray, run(tf.constant(batch)))


def _key(function: Callable, x: np.ndarray) -> Any:
    return function, x.shape[1:]


def _gradients(target: Scalars, x: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    run: Callable = partial(_value_and_gradient, target)
    if isinstance(target, Target) and target.graphs:
        run = _compiled(_value_and_gradient, target, x)
    elif isinstance(target, Target):
        target.graphs[_key(_value_and_gradient, x)] = None  # a graph pays from the second question on
    parts = [run(tf.constant(x[rows])) for rows, _ in _pairs(len(x), 1, batch_size)]
    values, slopes = (np.concatenate(column) for column in zip(*parts, strict=True))
    return values, slopes


def _outputs(target: Scalars, x: np.ndarray, batch_size: int) -> np.ndarray:
    return np.concatenate(
        [np.asarray(_scalars(target, tf.constant(x[rows]))) for rows, _ in _pairs(len(x), 1, batch_size)]
    )


def _gap(values: np.ndarray, outputs: np.ndarray, at_baseline: np.ndarray) -> np.ndarray:
    """Return how far the values of each sample miss the sum they should have, relative to it.

    A sum below a millionth of the target itself is float32's noise and counts as that much.
    """
    wanted = outputs.astype("float64") - at_baseline
    missed = np.abs(values.reshape(len(values), -1).sum(axis=1, dtype="float64") - wanted)
    floor = 1e-6 * np.maximum(np.abs(outputs), np.abs(at_baseline)) + 1e-12
    return missed / np.maximum(np.abs(wanted), floor)
