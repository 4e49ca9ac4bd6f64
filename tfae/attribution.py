"""How much each input counts for an output, a code, an error: gradients and what is made of them (chapter 08).

Every method takes a target, one number for each sample (see `tfae.targets`), and the samples, and returns an
`Attribution`: a value for each input, and how far the values add up to what they should. Every form of model will do,
functional, Sequential, nested or subclassed, because no method looks at how a model is built: each looks at what it
does when it is called. Samples are images ``(n, height, width, channels)``, series ``(n, steps, channels)``, tables
``(n, features)`` or anything else with the batch axis first.

What is explained is always a difference, from a baseline or from a small change. Zero is a good "absent" for ink on a
blank page or for a standardised table. Where zero is an ordinary reading, as of a sensor that died, it hides the very
thing that is looked for: then give a `baseline`, such as the mean of normal samples.

>>> target = targets.latent(autoencoder, 3)  # doctest: +SKIP
>>> explained = integrated_gradients(target, x_test[:8])  # doctest: +SKIP
>>> explained.values.shape, explained.completeness_gap.max()  # doctest: +SKIP
((8, 28, 28, 1), 0.004)
"""

import math
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from scipy.special import roots_legendre

from tfae import relevance
from tfae.checks import check_inputs, check_number, check_samples, check_seed, check_size
from tfae.hooks import LayerCall, find_call, makers, recording
from tfae.inference import batches, check_finite, in_batches, inference, name_of
from tfae.internals import graph_with_derivatives, operations_in_functions
from tfae.losses import at_least_float32
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
        Points on its path at which integrated gradients took the derivative of each sample.
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


def gradient(target: Scalars, x: Any, *, batch_size: int = 256) -> Attribution:
    """Return the derivative of the target with respect to each input [1]_.

    It answers what a *small* change of an input would do, not what the input contributed.

    Parameters
    ----------
    target : tfae.targets.Target or callable
        Maps a tensor of samples to a tensor of one number each, ``(n,)`` or ``(n, 1)``.
    x : array, shape (n, *sample)
    batch_size : int
        Samples differentiated at once: bounds the memory.

    Returns
    -------
    Attribution

    Raises
    ------
    ValueError
        As in every function here: if `x` is empty or not finite; if the target does not return one number for each
        sample, or it or its derivative is NaN or infinite; or if the target does not depend on the samples.

    References
    ----------
    .. [1] K. Simonyan, A. Vedaldi and A. Zisserman, "Deep inside convolutional networks: visualising image
       classification models and saliency maps", arXiv:1312.6034.
    """
    x = _checked(x)
    outputs, values = _gradients(target, x, batch_size)
    return Attribution(values, "gradient", name_of(target), outputs, None, "derivatives need not add up to anything")


def gradient_x_input(target: Scalars, x: Any, *, baseline: Any = None, batch_size: int = 256) -> Attribution:
    """Return the derivative of the target times the input's distance from the baseline [1]_.

    Complete only where the target is a straight line from the baseline to the sample.

    Parameters
    ----------
    target, x, batch_size
        As in `gradient`.
    baseline : array of the shape of a sample, or of `x`, optional
        What an absent input looks like. All zeros if not given: a blank page, the mean of a standardised table.

    Returns
    -------
    Attribution
        With a `completeness_gap`.

    Raises
    ------
    ValueError
        As in `gradient`, and if the baseline is not finite or has another shape.

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
    return Attribution(values, "gradient x input", name_of(target), outputs, gap, TO_BASELINE)


def smooth_grad(
    target: Scalars, x: Any, *, noise: float = 0.15, n_samples: int = 50, seed: int = 0, batch_size: int = 256
) -> Attribution:
    """Return the derivative of the target, averaged over noisy copies of each sample [1]_.

    Parameters
    ----------
    target, x, batch_size
        As in `gradient`.
    noise : float
        Standard deviation of the noise, above 0, as a fraction of the range of each sample's values.
    n_samples : int
        Copies, at least 2. The error of the mean is the attribution's `standard_error`.
    seed : int
        Of the noise.

    Returns
    -------
    Attribution
        With a `standard_error`.

    Raises
    ------
    ValueError
        As in `gradient`, and if an option is out of range.

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
    run = _runner(_value_and_gradient, target, x)
    total, squares = np.zeros(x.shape), np.zeros(x.shape)
    for sample, _ in _pairs(len(x), n_samples, batch_size):
        noisy = x[sample] + scale[sample] * rng.standard_normal((len(sample), *x.shape[1:]), "float32")
        slopes = run(noisy)[1].astype("float64")
        _add_rows(total, sample, slopes)
        _add_rows(squares, sample, slopes**2)
    mean = total / n_samples
    variance = np.maximum(squares / n_samples - mean**2, 0) * n_samples / (n_samples - 1)
    return Attribution(
        mean.astype("float32"), "SmoothGrad", name_of(target), _outputs(target, x, batch_size), None,
        "derivatives need not add up to anything", standard_error=np.sqrt(variance / n_samples).astype("float32"),
    )  # fmt: skip


def integrated_gradients(
    target: Scalars,
    x: Any,
    *,
    baseline: Any = None,
    steps: int | None = None,
    tolerance: float = 0.005,
    max_steps: int = 1024,
    batch_size: int = 256,
) -> Attribution:
    """Return the derivative averaged along the straight line from the baseline, times the distance [1]_.

    The values of a sample add up to the target at the sample less the target at the baseline. The average is an
    integral, computed by Gauss and Legendre's rule, and how far it is from adding up is known exactly: the rule begins
    with 16 steps and doubles them, for each sample by itself, until that gap is within `tolerance`.

    Parameters
    ----------
    target, x, batch_size
        As in `gradient`.
    baseline : array of the shape of a sample, or of `x`, optional
        Where the line begins: what an absent input looks like. All zeros if not given, and then an input that is 0 gets
        nothing, whatever it means that it is 0.
    steps : int, optional
        Take just so many, whatever the gap.
    tolerance : float
        Of the gap, relative to the difference that is explained; above 0.
    max_steps : int
        The most steps for a sample; a ``UserWarning`` names the largest gap that is left.

    Returns
    -------
    Attribution
        With a `completeness_gap`, and the `steps` of each sample.

    Raises
    ------
    ValueError
        As in `gradient`, and if an option is out of range, or the baseline is not finite or has another shape.

    References
    ----------
    .. [1] M. Sundararajan, A. Taly and Q. Yan, "Axiomatic attribution for deep networks", ICML 2017, arXiv:1703.01365.
    """
    x = _checked(x)
    baseline = _baseline(baseline, x)
    check_number(tolerance, "tolerance", 0, open_ends=True)
    most = check_size(max_steps, "max_steps") if steps is None else check_size(steps, "steps")
    run = _runner(_value_and_gradient, target, x)
    outputs, at_baseline = _outputs(target, x, batch_size), _outputs(target, baseline, batch_size)
    values, taken = np.zeros_like(x), np.zeros(len(x), int)
    gap = np.full(len(x), np.inf)
    count = min(16, most) if steps is None else most
    while True:
        rows = np.flatnonzero(gap > tolerance)
        values[rows] = _path_integral(run, x[rows], baseline[rows], count, batch_size)
        taken[rows] = count
        gap[rows] = _gap(values[rows], outputs[rows], at_baseline[rows])
        if count == most or gap.max() <= tolerance:
            break
        count = min(2 * count, most)
    if steps is None and gap.max() > tolerance:
        warnings.warn(
            f"{(gap > tolerance).sum()} of {len(x)} attributions miss the tolerance {tolerance:g} after {taken.max()} "
            f"steps; the largest gap is {gap.max():.3g}. Raise max_steps, or read completeness_gap.",
            stacklevel=2,
        )
    return Attribution(values, "integrated gradients", name_of(target), outputs, gap, TO_BASELINE, steps=taken)


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


def guided_backprop(target: Scalars, x: Any, *, batch_size: int = 256) -> Attribution:
    """Return the derivative with negative signals stopped at every ReLU, backwards and forwards [1]_.

    ReLUs are found wherever they stand: a layer, an activation, a call inside a subclassed model; also ReLU6 and
    ``maximum(x, 0)``. Other activations keep their derivative. The picture is sharp; chapter 08 shows that much of it
    is not about the class that was asked for.

    Parameters
    ----------
    target, x, batch_size
        As in `gradient`.

    Returns
    -------
    Attribution

    Raises
    ------
    ValueError
        As in `gradient`, and if the network has no ReLU, so that there is nothing to guide; if it has one where this
        cannot reach it, inside a ``tf.function`` or a loop; or if it writes one as a choice, ``where(x > 0, x, 0)``.

    References
    ----------
    .. [1] J. T. Springenberg, A. Dosovitskiy, T. Brox and M. Riedmiller, "Striving for simplicity: the all
       convolutional net", arXiv:1412.6806.
    """
    derivatives = {"Relu": _guided_relu, "Relu6": _guided_relu6, "Maximum": _guided_maximum}
    return _overridden(target, x, batch_size, "guided backpropagation", derivatives)


def deconvnet(target: Scalars, x: Any, *, batch_size: int = 256) -> Attribution:
    """Return the derivative with negative signals stopped at every ReLU on the way back, active or not [1]_.

    Parameters
    ----------
    target, x, batch_size
        As in `gradient`.

    Returns
    -------
    Attribution

    Raises
    ------
    ValueError
        As in `guided_backprop`.

    References
    ----------
    .. [1] M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", arXiv:1311.2901.
    """
    derivatives = {"Relu": _deconv_relu, "Relu6": _deconv_relu, "Maximum": _deconv_maximum}
    return _overridden(target, x, batch_size, "deconvnet", derivatives)


def _guided_relu(op: Any, gradient: Any) -> Any:
    """Pass positive gradients, and only through units that are active."""
    return tf.raw_ops.ReluGrad(gradients=tf.nn.relu(gradient), features=op.outputs[0])


def _guided_relu6(op: Any, gradient: Any) -> Any:
    """Pass positive gradients, and only through units that are active and not at their upper end."""
    return tf.raw_ops.Relu6Grad(gradients=tf.nn.relu(gradient), features=op.outputs[0])


def _deconv_relu(op: Any, gradient: Any) -> Any:
    """Pass positive gradients, whatever the unit did."""
    return tf.nn.relu(gradient)


def _guided_maximum(op: Any, gradient: Any) -> Any:
    return _maximum(op, gradient, _guided_relu)


def _deconv_maximum(op: Any, gradient: Any) -> Any:
    return _maximum(op, gradient, _deconv_relu)


def _maximum(op: Any, gradient: Any, relu: Callable) -> list[Any]:
    """Return the derivatives of ``maximum(a, b)``: those of `relu` if one of the two is the number 0."""
    a, b = op.inputs
    if _is_zero(a) or _is_zero(b):
        passed = relu(op, gradient)
        return [None, passed] if _is_zero(a) else [passed, None]
    return tf.gradients(tf.where(a >= b, a, b), [a, b], gradient)


def _is_zero(tensor: Any) -> bool:
    constant = tf.get_static_value(tensor)
    return tensor.op.type == "ZerosLike" or (constant is not None and not np.any(constant))


def _is_relu(op: Any) -> bool:
    return op.type in ("Relu", "Relu6") or (op.type == "Maximum" and any(map(_is_zero, op.inputs)))


def _is_chosen_relu(op: Any) -> bool:
    """Whether it is ``where(x > threshold, x, 0)``."""
    if op.type != "SelectV2":
        return False
    condition, *branches = op.inputs
    compared = {tensor.ref() for tensor in condition.op.inputs}
    return any(map(_is_zero, branches)) and any(branch.ref() in compared for branch in branches)


def _overridden(target: Scalars, x: Any, batch_size: int, method: str, derivatives: dict[str, Callable]) -> Attribution:
    """Return the gradient of a graph in which every ReLU has another derivative.

    The change is made where TensorFlow looks derivatives up, at the operations, whatever layer or call made them.
    """
    x = _checked(x)
    outputs = _outputs(target, x, batch_size)

    def gradients(batch: Any) -> Any:
        slope = tf.gradients(_scalars(target, batch), batch)[0]
        return _check_depends(slope, target)

    graph = graph_with_derivatives(gradients, [_signature(x)], derivatives)
    operations = graph.graph.get_operations()
    if operations_in_functions(graph.graph) & {"Relu", "Relu6"}:
        raise ValueError(
            f"a ReLU of the network runs inside a tf.function or a loop, where {method} cannot reach it; explain the "
            f"network without, or use gradient or integrated_gradients"
        )
    if any(map(_is_chosen_relu, operations)):
        raise ValueError(
            f"the network writes a ReLU as where(x > threshold, x, 0), which {method} cannot change; write it as "
            f"keras.ops.relu(x), or use gradient or integrated_gradients"
        )
    if not any(map(_is_relu, operations)):
        raise ValueError(
            f"{method} changes what happens at ReLUs, and this network has none; use gradient or integrated_gradients "
            f"instead"
        )
    values = _finite(in_batches(lambda batch: graph(tf.constant(batch)), x, batch_size), target)
    axiom = "changed derivatives need not add up to anything"
    return Attribution(values, method, name_of(target), outputs, None, axiom)


PLACES = {3: "series (n, steps, channels)", 4: "images (n, height, width, channels)"}  # by the number of axes


def grad_cam(target: Scalars, x: Any, *, layer: str | keras.Layer | None = None, batch_size: int = 256) -> Attribution:
    """Return where the channels of a convolutional layer, weighted by their mean derivative, speak for the target [1]_.

    Parameters
    ----------
    target, batch_size
        As in `gradient`.
    x : array, shape (n, height, width, channels) or (n, steps, channels)
        Images or series.
    layer : str or keras.Layer, optional
        The last layer before the target that returns images or series, as `x` is, if not given.

    Returns
    -------
    Attribution
        With values ``(n, height, width, 1)`` or ``(n, steps, 1)`` of at least 0, at the layer's resolution drawn to
        that of the input.

    Raises
    ------
    ValueError
        As in `gradient`, and if `x` holds neither images nor series, there is no such layer, or the target does not
        depend on it.

    References
    ----------
    .. [1] R. R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization",
       ICCV 2017, arXiv:1610.02391.
    """
    x = _checked(x)
    if x.ndim not in PLACES:
        raise ValueError(f"Grad-CAM needs {' or '.join(PLACES.values())}; x has shape {x.shape}")

    run = _runner(_heat, target, x, layer, often=False)
    outputs, values = map(np.concatenate, zip(*(run(batch) for batch in batches(x, batch_size)), strict=True))
    axiom = "weighted activations need not add up to anything"
    return Attribution(values, "Grad-CAM", name_of(target), outputs, None, axiom)


def _heat(target: Scalars, layer: str | keras.Layer | None, batch: Any) -> tuple[Any, Any]:
    axes = len(batch.shape)
    with tf.GradientTape() as tape, recording() as calls:
        tape.watch(batch)
        value = _scalars(target, batch)
    activation = (_last_with_places(calls, axes) if layer is None else find_call(calls, layer)).output
    slope = tape.gradient(value, activation)
    if len(activation.shape) != axes or slope is None:
        raise ValueError(
            f"the target does not depend on {PLACES[axes]} that layer {layer!r} returns; name a convolutional layer "
            f"before the target"
        )
    activation, slope = at_least_float32(activation), at_least_float32(slope)
    weights = ops.mean(slope, axis=tuple(range(1, axes - 1)), keepdims=True)  # one for each channel
    return value, _drawn_to(ops.relu(ops.sum(weights * activation, axis=-1, keepdims=True)), batch.shape[1:-1])


def _last_with_places(calls: list[LayerCall], axes: int) -> LayerCall:
    for call in makers(calls).values():
        passes_on = isinstance(call.layer, keras.Model | layers.Reshape) or call.changes_nothing
        if not passes_on and len(getattr(call.output, "shape", ())) == axes:
            return call
    raise ValueError(f"no layer returns {PLACES[axes]}, which Grad-CAM needs; use another method")


def _drawn_to(heat: Any, size: Sequence[int]) -> Any:
    """Return ``(n, *places, 1)`` drawn to another size; a series is an image of one column."""
    if len(size) == 1:
        return tf.image.resize(heat[:, :, tf.newaxis], (*size, 1))[:, :, 0]
    return tf.image.resize(heat, size)


# --- layer-wise relevance propagation --------------------------------------------------------------------------------


def lrp(
    target: Target, x: Any, *, rule: str = "epsilon", epsilon: float = 1e-6, gamma: float = 0.25, batch_size: int = 256
) -> Attribution:
    r"""Hand the target's value back through the network, layer by layer, to the inputs that made it [1]_.

    A unit k of a linear layer, :math:`z_k = \sum_j a_j w_{jk} + b_k`, hands its relevance to its inputs j in shares:

    - ``"epsilon"``: :math:`a_j w_{jk} / (z_k + \epsilon \, \mathrm{sign} \, z_k)`. The bias keeps its own share.
    - ``"z+"``: as epsilon, with the positive products :math:`a_j w_{jk}` alone. The bias keeps nothing, but for a unit
      without any positive product: all of it.
    - ``"gamma"``: as epsilon, with products of the sign of :math:`z_k` counted :math:`1 + \gamma` times.

    Batch normalisation after a linear layer is part of its weights. Activation functions, the sigmoid among them, pass
    relevance on unchanged: what a sigmoid unit says is credited to the inputs in the shares in which they made the
    number it was given. Every other layer is a sum, once some of it is held as it is, and follows the rule epsilon:
    pooling by maximum hands all to the winner; a gate, made by a sigmoid or a softmax, hands all to what it multiplies,
    also in an LSTM [2]_; normalisation holds its deviation, and attention its weights [3]_; other factors of a product
    share alike [4]_. All of it is computed in float32, also where the network computes in half precision.

    Parameters
    ----------
    target : tfae.targets.Target
        An output, logit, code unit or pixel, or another target that is a weighted sum of outputs.
    x, batch_size
        As in `gradient`.
    rule : str
        ``"epsilon"``, ``"z+"`` or ``"gamma"``, for all dense and convolutional layers.
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
        As in `gradient`, and if an option is unknown or out of range; if the target is no weighted sum of outputs (a
        squared error is not); if a layer has no rule here (it is named); or if the network computes something outside
        its layers, where relevance cannot be followed.

    References
    ----------
    .. [1] S. Bach et al., "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
       propagation", PLoS ONE 10(7), 2015. The rules z+ and gamma: G. Montavon et al., "Layer-wise relevance
       propagation: an overview", in Explainable AI, Springer LNCS 11700, 2019.
    .. [2] L. Arras, G. Montavon, K.-R. Müller and W. Samek, "Explaining recurrent neural network predictions in
       sentiment analysis", WASSA 2017, arXiv:1706.07206.
    .. [3] A. Ali et al., "XAI for transformers: better explanations through conservative propagation", ICML 2022,
       arXiv:2202.07304.
    .. [4] R. Achtibat et al., "AttnLRP: attention-aware layer-wise relevance propagation for transformers", ICML 2024,
       arXiv:2402.05602.
    """
    if not isinstance(target, Target):
        raise ValueError("lrp must know the network behind a target: give one of tfae.targets, such as targets.output")
    if rule not in relevance.RULES:
        raise ValueError(f"unknown rule {rule!r}; the known ones are {', '.join(relevance.RULES)}")
    check_number(epsilon, "epsilon", 0, open_ends=True)
    check_number(gamma, "gamma", 0)
    x = _checked(x)
    run = _runner(relevance.hand_back, target, x, relevance.Rule(rule, epsilon, gamma), often=False)
    parts = [run(batch) for batch in batches(x, batch_size)]
    for trouble in filter(None, np.concatenate([part.troubles for part in parts])):
        raise ValueError(trouble.decode())
    keys = ("received", "handed_on", "kept_by_bias", "lost")
    sums = np.sum([part.sums for part in parts], axis=0).tolist()
    ledger = [
        {"layer": layer.decode(), "kind": kind.decode(), **dict(zip(keys, row, strict=True))}
        for (layer, kind), row in zip(parts[0].names, sums, strict=True)
    ]
    outputs = np.concatenate([part.outputs for part in parts])
    values = np.concatenate([part.values for part in parts])
    axiom = "values and what biases keep add up to the target; the gap is what biases and epsilon kept"
    gap = _gap(values, outputs, np.zeros_like(outputs))
    return Attribution(values, f"LRP-{rule}", name_of(target), outputs, gap, axiom, ledger=ledger)


# --- occlusion -------------------------------------------------------------------------------------------------------


def occlusion(
    target: Scalars,
    x: Any,
    *,
    window: int | Sequence[int] = 4,
    stride: int | Sequence[int] | None = None,
    baseline: Any = None,
    batch_size: int = 1024,
) -> Attribution:
    """Return how much the target falls when a window of the sample is covered [1]_.

    No gradient is taken: any callable will do. Each input gets the mean over the windows that cover it.

    Parameters
    ----------
    target, x
        As in `gradient`.
    window : int or sequence of int
        Size along each axis that the window moves on: height and width of images, the steps of series, whose channels
        are covered together. For a table, the number of neighbouring columns: 1 in most cases.
    stride : int or sequence of int, optional
        How far the window moves; its own size if not given.
    baseline : array of the shape of a sample, or of `x`, optional
        What covers: what an absent input looks like. All zeros if not given, and then covering an input that is 0
        changes nothing: of a sensor that died and reads 0, give the mean of normal samples.
    batch_size : int
        Covered samples asked about at once: bounds the memory.

    Returns
    -------
    Attribution

    Raises
    ------
    ValueError
        As in `gradient`, and if a window is larger than the sample, a stride leaves inputs between windows uncovered,
        or the baseline is not finite or has another shape.

    References
    ----------
    .. [1] M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", arXiv:1311.2901.
    """
    x = _checked(x)
    baseline = _baseline(baseline, x)
    moving = x.shape[1:] if x.ndim == 2 else x.shape[1:-1]
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
    run = _runner(_scalars, target, x)
    falls = np.empty((len(x), len(covered)), "float32")
    for sample, place in _pairs(len(x), len(covered), batch_size):
        falls[sample, place] = outputs[sample] - run(np.where(covered[place], baseline[sample], x[sample]))
    flat = covered.reshape(len(covered), -1).astype("float32")
    means = falls @ flat / flat.sum(axis=0)
    values = np.broadcast_to(means.reshape(len(x), *covered.shape[1:]), x.shape).copy()
    axiom = "windows overlap and inputs act together, so falls need not add up to anything"
    return Attribution(values, "occlusion", name_of(target), outputs, None, axiom)


def _per_axis(value: int | Sequence[int], name: str, moving: Sequence[int]) -> tuple[int, ...]:
    values = (value,) * len(moving) if isinstance(value, int | np.integer) else tuple(value)
    if len(values) != len(moving):
        raise ValueError(
            f"{name} is {value!r}; give one size, or one for each of the {len(moving)} axes {tuple(moving)}"
        )
    return tuple(check_size(size, f"a size in {name}") for size in values)


# --- all derivatives at once -----------------------------------------------------------------------------------------


def jacobian(model: keras.Layer | Callable, x: Any, *, batch_size: int = 1024) -> np.ndarray:
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
        Copies, not samples, differentiated at once: bounds the memory, apart from the answer itself.

    Returns
    -------
    ndarray, shape (n, *outputs, *inputs)

    Raises
    ------
    ValueError
        If `x` is empty, not finite or of the wrong shape; if the outputs are not one tensor or do not depend on it; or
        if an output or a derivative is NaN or infinite.

    Notes
    -----
    Chapters 07 and 08 use it.
    """
    x, network = check_inputs(model, x), inference(model)
    outputs = network(tf.constant(x[:1]))
    if not hasattr(outputs, "shape"):
        raise ValueError(
            f"{name_of(model)} returns a {type(outputs).__name__}; the outputs must be one tensor. Pick it in a "
            f"function: lambda x: model(x)[0]"
        )
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
            asked = tf.gather(tf.reshape(network(batch), (-1, n_outputs)), unit, batch_dims=1)  # (batch_size,)
        slope = tape.gradient(asked, batch)
        if slope is None:
            raise ValueError("the outputs do not depend on x: there is nothing to differentiate")
        check_finite(np.asarray(asked), name_of(model))
        answer[sample, unit] = check_finite(np.asarray(slope), f"the derivative of {name_of(model)}")
    return answer.reshape(len(x), *outputs.shape[1:], *x.shape[1:])


# --- what all methods share ------------------------------------------------------------------------------------------

TO_BASELINE = "values add up to the target at the sample less the target at the baseline"


def _checked(x: Any) -> np.ndarray:
    return check_samples(x, None).astype("float32")


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
    """Return the target of each sample of a batch, shape ``(n,)``, checked."""
    values = inference(target)(batch)
    n, shape = batch.shape[0], tuple(getattr(values, "shape", ()))
    if not shape or shape[0] not in (None, n) or shape[1:] not in ((), (1,)):
        raise ValueError(
            f"{name_of(target)} returns shape {shape} for {n} samples; it must return one number for each, shape "
            f"({n},). Pick one output: lambda x: model(x)[:, 3], or targets.output(model, 3)."
        )
    return at_least_float32(ops.reshape(values, (-1,)))


def _value_and_gradient(target: Scalars, batch: Any) -> tuple[Any, Any]:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(batch)
        values = _scalars(target, batch)
    return values, _check_depends(tape.gradient(values, batch), target)


def _check_depends(slope: Any, target: Scalars) -> Any:
    if slope is None:
        raise ValueError(f"{name_of(target)} does not depend on the samples: there is nothing to differentiate")
    return slope


def _finite(values: np.ndarray, target: Scalars) -> np.ndarray:
    return check_finite(values, f"{name_of(target)}, or its derivative,")


def _signature(x: np.ndarray) -> tf.TensorSpec:
    return tf.TensorSpec((None, *x.shape[1:]), tf.float32)


def _runner(function: Callable, target: Scalars, x: np.ndarray, *options: Hashable, often: bool = True) -> Callable:
    """Return ``function(target, *options, batch)`` as a function of arrays with finite answers.

    A `Target` becomes a graph, which runs two to three times as fast as one operation after another, and is kept. What
    is not asked `often` gets its graph at the second question: the first is answered before a graph would be made. Any
    other callable may do what no graph can hold, and runs as it is.
    """
    run: Callable = partial(function, target, *options)
    if isinstance(target, Target):
        question = function, options, x.shape[1:]
        if question not in target.graphs and (often or question in target.asked):
            target(tf.constant(x[:1]))  # what is not yet built is built here, outside the graph
            target.graphs[question] = _graph(run, target, x)
        target.asked.add(question)
        run = target.graphs.get(question, run)

    def arrays(batch: np.ndarray) -> Any:
        parts = keras.tree.map_structure(np.asarray, run(tf.constant(batch)))
        for part in keras.tree.flatten(parts):
            if part.dtype.kind == "f":
                _finite(part, target)
        return parts

    return arrays


def _graph(run: Callable, target: Target, x: np.ndarray) -> Callable:
    """Return `run` as a graph, which refuses weights that are no numbers: a fused ReLU makes 0 of their NaN."""
    graph = tf.compat.v1.wrap_function(run, [_signature(x)])
    weights = [weight for weight in graph.variables if weight.dtype.is_floating]

    def sum_of_weights() -> Any:
        return tf.add_n([tf.constant(0.0), *(tf.reduce_sum(tf.cast(weight, tf.float32)) for weight in weights)])

    total = tf.compat.v1.wrap_function(sum_of_weights, [])

    def answer(batch: Any) -> Any:
        if not np.isfinite(total()):
            raise ValueError(
                f"weights behind {name_of(target)} are NaN or infinite; train again, at a lower learning rate for "
                f"instance, or load others"
            )
        return graph(batch)

    return answer


def _gradients(target: Scalars, x: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    run = _runner(_value_and_gradient, target, x, often=False)
    values, slopes = zip(*(run(batch) for batch in batches(x, batch_size)), strict=True)
    return np.concatenate(values), np.concatenate(slopes)


def _outputs(target: Scalars, x: np.ndarray, batch_size: int) -> np.ndarray:
    return _finite(in_batches(lambda batch: _scalars(target, tf.constant(batch)), x, batch_size), target)


def _gap(values: np.ndarray, outputs: np.ndarray, at_baseline: np.ndarray) -> np.ndarray:
    """Return how far the values of each sample miss the sum they should have, relative to it.

    A sum below a millionth of the target itself is float32's noise and counts as that much.
    """
    wanted = outputs.astype("float64") - at_baseline
    missed = np.abs(values.reshape(len(values), -1).sum(axis=1, dtype="float64") - wanted)
    floor = 1e-6 * np.maximum(np.abs(outputs), np.abs(at_baseline)) + 1e-12
    return missed / np.maximum(np.abs(wanted), floor)
