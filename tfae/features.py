"""What the units of a network see: activations, weights, gradients, atoms, and the inputs they like best (chapter 07).

A unit is one place on the last axis of a layer's output: a neuron of a dense layer, a channel of a convolution.

>>> hidden = activations(autoencoder, x_test, layer="code")  # doctest: +SKIP
>>> unit_statistics(hidden).dead.sum()  # doctest: +SKIP
3
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, overload

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tfae.checks import check_inputs, check_number, check_samples, check_seed, check_shape, check_size, shape_text
from tfae.hooks import LayerCall, find_call, recording, without_activation
from tfae.inference import batches, check_finite, in_batches, inference, name_of

# --- activations -----------------------------------------------------------------------------------------------------


@overload
def activations(model: Callable, x: Any, *, layer: None = None, batch_size: int = 1024) -> dict[str, np.ndarray]: ...
@overload
def activations(model: Callable, x: Any, *, layer: str | keras.Layer, batch_size: int = 1024) -> np.ndarray: ...
def activations(
    model: Callable, x: Any, *, layer: str | keras.Layer | None = None, batch_size: int = 1024
) -> np.ndarray | dict[str, np.ndarray]:
    """Return what one layer, or every layer, makes of `x`.

    Parameters
    ----------
    model : keras.Layer or callable
        Of any form, or a method such as ``vae.code``. It runs as in inference.
    x : array, shape (n, *sample)
    layer : str or keras.Layer, optional
        A layer or its name, at any depth; a model inside the model counts as a layer. Where several layers have one
        name, or one layer is called several times, the calls are numbered in their order: ``"relu#1"``, ``"relu#2"``.
    batch_size : int
        Samples at once: bounds the memory, apart from the answer itself.

    Returns
    -------
    ndarray, shape (n, *output), or dict of str to ndarray
        Without `layer`: by name and in the order of the calls, each layer that calls no other and returns one tensor
        with a row for each sample. In float32 where the network computes in half precision.

    Raises
    ------
    ValueError
        If `x` is empty, not finite or of the wrong shape; if there is no such layer (the known names are listed), or
        its name stands for several calls; if it does not return one tensor with a row for each sample; if a layer
        returns NaN or infinity; or if the model calls more layers for some samples than for others.
    """
    x = check_inputs(model, x)
    if layer is not None:
        outputs = in_batches(lambda batch: _array(_output(_watch(model, batch), layer, len(batch))), x, batch_size)
        return check_finite(outputs, f"layer {getattr(layer, 'name', layer)!r}")

    # Some operations are made anew at each call, with a new name: what joins the batches is the order of the calls.
    names: list[str] = []
    parts: list[list[np.ndarray | None]] = []
    for batch in batches(x, batch_size):
        leaves = {name: call.output for name, call in _named(_watch(model, batch)).items() if call.is_leaf}
        names = names or list(leaves)
        if len(leaves) != len(names):
            raise ValueError(
                f"the model calls {len(names)} layers for some samples and {len(leaves)} for others; ask for one layer"
            )
        parts.append([_array(output) if _has_rows(output, len(batch)) else None for output in leaves.values()])
    answer = {}
    for name, arrays in zip(names, zip(*parts, strict=True), strict=True):
        rows = [array for array in arrays if array is not None]
        if len(rows) == len(parts):
            answer[name] = check_finite(np.concatenate(rows), f"layer {name!r}")
    return answer


def unit_activations(activations: np.ndarray, *, positions: str = "mean") -> np.ndarray:
    """Return one activation for each sample and unit: of a convolution, the mean or maximum over all positions.

    Parameters
    ----------
    activations : array, shape (n, units) or (n, *positions, units)
    positions : str
        ``"mean"``: how much of the image the unit responds to; ``"max"``: its strongest response anywhere.

    Returns
    -------
    ndarray of float, shape (n, units)

    Raises
    ------
    ValueError
        If the activations are empty or not finite, or `positions` is not known.
    """
    a = check_samples(activations, None, "activations")
    return np.asarray(_over_positions(a.astype(np.result_type(a, "float32")), positions))  # whole numbers have no mean


@dataclass(frozen=True, eq=False)
class UnitStatistics:
    """How the activations of each unit are distributed.

    Attributes
    ----------
    mean, std : ndarray, shape (units,)
    quartiles : ndarray, shape (5, units)
        Minimum, lower quartile, median, upper quartile, maximum.
    active : ndarray, shape (units,)
        Share of the activations further from 0 than the threshold.
    saturated : ndarray of shape (units,), or None
        Share of the activations at a bound, where gradients vanish.
    """

    mean: np.ndarray
    std: np.ndarray
    quartiles: np.ndarray
    active: np.ndarray
    saturated: np.ndarray | None

    @property
    def dead(self) -> np.ndarray:
        """Which units are never active, on any of the inputs; shape (units,)."""
        return self.active == 0


def unit_statistics(
    activations: np.ndarray,
    *,
    threshold: float = 0.0,
    bounds: tuple[float, float] | None = None,
    margin: float = 0.01,
) -> UnitStatistics:
    """Summarise the activations of each unit over many inputs.

    Each position of a convolution counts as an activation of its own: a channel is dead when it is active nowhere.

    Parameters
    ----------
    activations : array, shape (n, units) or (n, *positions, units)
    threshold : float
        A unit is active where its absolute value is larger. 0 fits ReLU; a sigmoid never returns 0 and needs more.
    bounds : tuple of two floats, optional
        The ends of the activation function's range: ``(0, 1)`` for a sigmoid, ``(-1, 1)`` for tanh.
    margin : float
        An activation is at a bound when it is as near as this share of the range, in (0, 0.5).

    Returns
    -------
    UnitStatistics

    Raises
    ------
    ValueError
        If the activations are empty, not finite or outside the bounds, or an option is out of range.
    """
    a = check_samples(activations, None, "activations")
    a = a.reshape(-1, a.shape[-1])
    check_number(threshold, "threshold", 0)
    check_number(margin, "margin", 0, 0.5, open_ends=True)
    saturated = None
    if bounds is not None:
        low, high = _check_inside(a, bounds, "activations")
        near = margin * (high - low)
        saturated = ((a <= low + near) | (a >= high - near)).mean(axis=0)
    return UnitStatistics(
        mean=a.mean(axis=0, dtype="float64"),
        std=a.std(axis=0, dtype="float64"),
        quartiles=np.quantile(a, [0, 0.25, 0.5, 0.75, 1], axis=0),
        active=(np.abs(a) > threshold).mean(axis=0),
        saturated=saturated,
    )


@dataclass(frozen=True, eq=False)
class Selectivity:
    """How far each unit prefers one class, and which.

    Attributes
    ----------
    index : ndarray, shape (units,)
        In [0, 1]: 0 if all classes excite the unit alike, or none does; 1 if only one does.
    preferred : ndarray, shape (units,)
        The label of the class with the largest mean.
    """

    index: np.ndarray
    preferred: np.ndarray


def class_selectivity(activations: np.ndarray, labels: Any) -> Selectivity:
    r"""Return how far each unit prefers one class, and which [1]_.

    The index is :math:`(m_{max} - m_{rest}) / (m_{max} + m_{rest})`, where :math:`m_{max}` is the largest of the unit's
    mean activations by class and :math:`m_{rest}` the mean of the others: 0 if all classes excite it alike, 1 if only
    one does. A convolution's activations are averaged over positions.

    Parameters
    ----------
    activations : array, shape (n, units) or (n, *positions, units)
        Not negative: the index has no meaning for signed activations. Take those after a ReLU or sigmoid, or look at
        one side, ``np.maximum(activations, 0)``.
    labels : array of int, shape (n,)

    Returns
    -------
    Selectivity

    Raises
    ------
    ValueError
        If activations are negative, empty or not finite; if the labels are not as many, or all the same.

    Notes
    -----
    Of few samples the largest mean is large by chance: the index on shuffled labels is the baseline. A high index does
    not make a unit important for what the network does [1]_.

    References
    ----------
    .. [1] A. S. Morcos, D. G. T. Barrett, N. C. Rabinowitz and M. Botvinick, "On the importance of single directions
       for generalization", arXiv:1803.06959.
    """
    a = unit_activations(activations).astype("float64")
    if np.min(activations) < 0:
        raise ValueError(
            f"activations go down to {np.min(activations):g}, and class selectivity is defined from 0 upwards. Take "
            f"them after a ReLU or sigmoid, or one side of them: np.maximum(activations, 0)."
        )
    labels = np.asarray(labels)
    if labels.shape != (len(a),):
        raise ValueError(f"labels have shape {labels.shape}; give one for each of the {len(a)} samples")
    if labels.dtype.kind not in "biuSU":
        raise ValueError(f"labels have dtype {labels.dtype}; give whole numbers or names")
    classes = np.unique(labels)
    if len(classes) < 2:
        raise ValueError(f"all labels are {classes[0]!r}; selectivity compares at least two classes")
    means = np.stack([a[labels == label].mean(axis=0) for label in classes])  # (classes, units)
    largest = means.max(axis=0)
    rest = (means.sum(axis=0) - largest) / (len(classes) - 1)
    index = np.divide(largest - rest, largest + rest, out=np.zeros_like(largest), where=largest > 0)
    return Selectivity(index, classes[means.argmax(axis=0)])


def top_samples(activations: np.ndarray, unit: int, *, k: int = 8, positions: str = "mean") -> np.ndarray:
    """Return which samples excite a unit most, best first, shape ``(k,)``: for images, ``x[top_samples(...)]``.

    Parameters
    ----------
    activations : array, shape (n, units) or (n, *positions, units)
    unit : int
        Place on the last axis.
    k : int
        From 1 to n.
    positions : str
        As in `unit_activations`.

    Raises
    ------
    ValueError
        If the activations are empty or not finite, there is no such unit, or fewer than `k` samples.
    """
    a = unit_activations(activations, positions=positions)
    (unit,) = _check_units(unit, a.shape[1])
    if check_size(k, "k") > len(a):
        raise ValueError(f"k is {k} and there are {len(a)} samples; k must not be larger")
    return np.argsort(-a[:, unit], kind="stable")[:k]


# --- weights ---------------------------------------------------------------------------------------------------------

DENSE = layers.Dense
CONVOLUTIONS = layers.Conv1D | layers.Conv2D | layers.Conv3D
TRANSPOSED = layers.Conv1DTranspose | layers.Conv2DTranspose | layers.Conv3DTranspose


def filters(layer: keras.Layer, *, shape: int | Sequence[int] | None = None) -> np.ndarray:
    """Return the weights that feed each unit of a layer, as images where they are.

    Only a *first* layer looks at pixels: its weights are the image that excites the unit most for its length. Later
    layers look at units, and `maximise` shows what those mean.

    Parameters
    ----------
    layer : keras.Layer
        Built, dense or convolutional.
    shape : int or tuple of int, optional
        For a dense layer of flattened images, the shape of an image.

    Returns
    -------
    ndarray, shape (units, *shape), (units, inputs) without `shape`, or (units, height, width, channels)

    Raises
    ------
    ValueError
        If the layer has no kernel or is not built, or `shape` does not hold as many numbers as the unit has inputs.
    """
    kernel = np.moveaxis(_kernel(layer), -1, 0)
    if shape is None:
        return kernel
    if not isinstance(layer, DENSE):
        raise ValueError(f"layer {layer.name!r} is a convolution and has images for filters: leave out shape")
    shape = check_shape(shape)
    if np.prod(shape) != kernel.shape[1]:
        raise ValueError(
            f"each unit of layer {layer.name!r} has {kernel.shape[1]} inputs, and an image of shape "
            f"{shape_text(shape)} has {np.prod(shape)} values; they must be as many. Is it the first layer?"
        )
    return kernel.reshape(-1, *shape)


def singular_values(layer: keras.Layer) -> np.ndarray:
    """Return the singular values of a layer's weights, largest first: the gains of its independent directions.

    Parameters
    ----------
    layer : keras.Layer
        Built, dense or convolutional. A convolution counts as the matrix ``(height · width · channels in, channels
        out)`` that one patch is multiplied with: the gains on a patch, not those on a whole image.

    Returns
    -------
    ndarray of float64, shape (min(rows, columns),)

    Raises
    ------
    ValueError
        If the layer has no kernel, is not built, or convolves its channels in groups, which is not one matrix.
    """
    if getattr(layer, "groups", 1) != 1:
        raise ValueError(
            f"layer {layer.name!r} has {layer.groups} groups of channels, so its weights are not one matrix"
        )
    kernel = _kernel(layer).astype("float64")
    return np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)


def _kernel(layer: keras.Layer) -> np.ndarray:
    """Return the weights of a layer, shape ``(*positions, inputs, units)``."""
    if not isinstance(layer, DENSE | CONVOLUTIONS | TRANSPOSED):
        name = getattr(layer, "name", layer)
        raise ValueError(
            f"{name!r} ({type(layer).__name__}) has no kernel of its own; give one Dense, Conv or ConvTranspose layer, "
            f"such as model.encoder.layers[1]"
        )
    if not layer.built:
        raise ValueError(f"layer {layer.name!r} has no weights yet; call its model on data, or give it an Input, first")
    kernel = np.asarray(layer.kernel)
    return kernel.swapaxes(-1, -2) if isinstance(layer, TRANSPOSED) else kernel  # Keras: (*positions, units, inputs)


# --- gradients of parameters -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LayerGradient:
    """The derivatives of a loss with respect to the parameters of one layer, by their names, such as "kernel"."""

    parameters: dict[str, np.ndarray]

    @property
    def norm(self) -> float:
        """The length of the gradient over all parameters of the layer."""
        return float(np.sqrt(sum(np.square(g, dtype="float64").sum() for g in self.parameters.values())))

    @property
    def rms(self) -> float:
        """The root mean square over the parameters, which compares layers of different sizes."""
        return self.norm / sum(g.size for g in self.parameters.values()) ** 0.5


def parameter_gradients(
    model: Callable, x: Any, *, y: Any = None, loss: str | Callable = "mse", batch_size: int = 256
) -> dict[str, LayerGradient]:
    """Return the derivative of a loss with respect to every trainable parameter, layer by layer from the input.

    A root mean square that shrinks from layer to layer towards the input shows gradients that vanish; one that grows,
    gradients that explode.

    Parameters
    ----------
    model : keras.Layer or callable
        Of any form. It runs as in inference: without dropout or corruption, and with a batch normalisation by its
        moving averages.
    x : array, shape (n, *sample)
    y : array, shape (n, *output), optional
        Targets; the inputs if not given, as for an autoencoder. Whole numbers ``(n,)`` for a sparse cross-entropy.
    loss : str or callable
        A Keras loss, or a function of ``(y, outputs)``; its mean over the samples is differentiated. Penalties of the
        model are not part of it.
    batch_size : int
        Samples at once: bounds the memory and does not change the answer.

    Returns
    -------
    dict of str to LayerGradient
        In the order of the layers' first calls, named as by `activations`. A parameter that several layers share stands
        with the first. What the loss does not depend on has the derivative 0. Infinite values are kept: they show a
        gradient that exploded.

    Raises
    ------
    ValueError
        If `x` or `y` is empty or not finite, they are not as many or not of the shapes the model and the loss take;
        if the loss is unknown, or depends on no trainable parameter; or if the model computes in float16, where small
        derivatives round to 0.
    """
    x = check_inputs(model, x)
    targets = x if y is None else _targets(y, len(x))
    measure = _loss(loss)
    owners: dict[str, list[keras.Variable]] = {}
    variables: list[keras.Variable] = []
    totals: list[np.ndarray] = []
    for batch, wanted in batches((x, targets), batch_size):
        with tf.GradientTape() as tape, recording() as calls:
            outputs = inference(model)(tf.constant(batch))
            _check_differentiable(calls, outputs, len(batch))
            outputs = ops.cast(outputs, "float32")  # the loss of bfloat16 too has all its digits
            if isinstance(loss, str) and "sparse" not in loss and outputs.shape != wanted.shape:
                what = "the inputs are the targets and have" if y is None else "y has"
                raise ValueError(
                    f"the model returns shape {tuple(outputs.shape)} for a batch, and {what} {tuple(wanted.shape)}; "
                    f"loss {loss!r} takes targets of the shape of the outputs: give such a y"
                )
            value = ops.mean(measure(wanted, outputs)) * (len(batch) / len(x))
        if not totals:
            owners = _owners(calls)
            variables = [variable for own in owners.values() for variable in own]
        slopes = tape.gradient(value, [variable.value for variable in variables])
        if all(slope is None for slope in slopes):
            raise ValueError(
                "the loss depends on no trainable parameter of the model: there is nothing to differentiate"
            )
        totals = totals or [np.zeros(variable.shape, "float32") for variable in variables]
        totals = [t if s is None else t + tf.convert_to_tensor(s).numpy() for t, s in zip(totals, slopes, strict=True)]
    answers = iter(totals)
    return {
        layer: LayerGradient({name: next(answers) for name in _numbered([variable.name for variable in own])})
        for layer, own in owners.items()
    }


def _check_differentiable(calls: list[LayerCall], outputs: Any, n: int) -> None:
    """Raise if the model does not return one tensor for `n` samples, or computes too coarsely for derivatives."""
    if not _has_rows(outputs, n):
        raise ValueError("the model does not return one tensor with a row for each sample; give a part of it that does")
    if any(getattr(call.layer, "compute_dtype", None) == "float16" for call in calls):
        raise ValueError(
            "the model computes in float16, where small derivatives round to 0. Build it once more under "
            "keras.config.set_dtype_policy('float32'), give it these weights (copy.set_weights(model.get_weights())), "
            "and look at the copy."
        )


def _owners(calls: list[LayerCall]) -> dict[str, list[keras.Variable]]:
    """Return the trainable parameters of each layer. An inner layer's call ends first, so it is the owner."""
    owners: dict[str, list[keras.Variable]] = {}
    seen: set[int] = set()
    for name, call in _named(calls).items():
        own = [v for v in getattr(call.layer, "trainable_variables", ()) if id(v) not in seen]
        seen.update(map(id, own))
        if own:
            owners[name] = own
    return owners


def _loss(loss: str | Callable) -> Callable:
    try:
        measure = keras.losses.get(loss)
    except ValueError:
        measure = None
    if measure is None:
        raise ValueError(
            f"unknown loss {loss!r}; give the name of a Keras loss, such as 'mse', or a function (y, outputs)"
        )
    return measure


def _targets(y: Any, n: int) -> np.ndarray:
    y = np.asarray(y)
    if y.ndim == 0 or len(y) != n:
        raise ValueError(f"y has shape {y.shape}; give one target for each of the {n} samples of x")
    y = check_samples(y.reshape(n, -1), None, "y").reshape(y.shape)
    return y.astype("float32") if y.dtype.kind == "f" else y


# --- atoms of a decoder ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Atoms:
    """What each code unit adds to the reconstruction.

    Attributes
    ----------
    values : ndarray, shape (units, *output)
        The change of the output when the unit rises by its step, averaged over the codes.
    consistency : ndarray, shape (units,)
        How far that mean stands for each single code: the squared length of the mean change over the mean squared
        length of the changes. 1 if the unit always adds the same, as in a linear decoder; about 1/n if what it adds at
        n codes has nothing in common; 0 if it adds nothing at all.
    step : ndarray, shape (units,)
    """

    values: np.ndarray
    consistency: np.ndarray
    step: np.ndarray


def atoms(decoder: Callable, z: Any, *, step: float | np.ndarray | None = None, batch_size: int = 1024) -> Atoms:
    """Return what each code unit adds to the reconstruction: the mean of decode(z + step · e_j) - decode(z).

    Of a linear decoder these are the rows of its kernel times the step, at every z. A small step gives the step times
    the derivative; all derivatives at single codes are one call of `tfae.attribution.jacobian`.

    Parameters
    ----------
    decoder : keras.Layer or callable
        Maps codes ``(n, *code)`` to ``(n, *output)``: ``autoencoder.decoder``.
    z : array, shape (n, *code)
        Codes of real inputs: at others the decoder was never trained. The decoder runs once for each of them and each
        unit, so some hundred do.
    step : float or array of shape (units,), optional
        How far each unit rises, not 0. Its standard deviation over `z` if not given, so that atoms show what units do
        on data; a unit that never changes then has an atom of zeros.
    batch_size : int
        Codes decoded at once. Memory also holds two outputs for each code.

    Returns
    -------
    Atoms

    Raises
    ------
    ValueError
        If `z` is empty, not finite or of the wrong shape; if no unit changes and no step is given; if the step is 0,
        not finite or not one number for each unit; or if the decoder returns NaN or infinity.
    """
    z = check_inputs(decoder, z, "z")
    units = int(np.prod(z.shape[1:]))
    flat = z.reshape(len(z), units)
    steps = _steps(flat, step)

    def decode(codes: np.ndarray) -> np.ndarray:
        answer = inference(decoder)
        outputs = in_batches(lambda batch: _array(answer(tf.constant(batch))), codes.reshape(z.shape), batch_size)
        return check_finite(outputs, name_of(decoder))

    before = decode(flat)
    values, consistency = np.zeros((units, *before.shape[1:]), "float32"), np.zeros(units)
    for j in np.flatnonzero(steps):
        moved = flat.copy()
        moved[:, j] += steps[j]
        change = decode(moved) - before
        values[j] = change.mean(axis=0)
        mean_square = np.square(change, dtype="float64").sum() / len(z)
        if mean_square > 0:
            consistency[j] = np.square(change.mean(axis=0, dtype="float64")).sum() / mean_square
    return Atoms(values, consistency, steps)


def _steps(z: np.ndarray, step: float | np.ndarray | None) -> np.ndarray:
    if step is None:
        steps = z.std(axis=0)
        if not steps.any():
            raise ValueError(f"no code unit changes over the {len(z)} codes in z; give more codes, or a step")
        return steps
    steps = np.asarray(step, "float32")
    if steps.shape not in ((), z.shape[1:]) or not np.isfinite(steps).all() or not steps.all():
        raise ValueError(
            f"step is {step!r}; give a finite number other than 0, or one for each of the {z.shape[1]} units"
        )
    return np.broadcast_to(steps, z.shape[1:])


# --- activation maximisation -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Maximised:
    """Inputs made to excite units, beside the real inputs that do.

    Attributes
    ----------
    images : ndarray, shape (units, *sample)
    activations : ndarray, shape (units,)
        What each unit returns for its image.
    history : ndarray, shape (steps + 1, units)
        The same at the start and after each step.
    best_real : ndarray of int, shape (units,)
        For each unit, which of the given samples excites it most.
    real_activations : ndarray, shape (units,)
        What the unit returns for that sample.
    """

    images: np.ndarray
    activations: np.ndarray
    history: np.ndarray
    best_real: np.ndarray
    real_activations: np.ndarray


def maximise(
    model: Callable,
    layer: str | keras.Layer,
    units: int | Sequence[int],
    x: Any,
    *,
    start: str | np.ndarray = "noise",
    steps: int = 100,
    learning_rate: float = 0.1,
    l2: float = 0.0,
    tv: float = 0.0,
    positions: str = "mean",
    before_activation: bool = True,
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> Maximised:
    r"""Climb to the input that excites a unit most, for several units at once [1]_.

    For each unit it maximises :math:`a(x) - l_2 \sum_i x_i^2 - tv \sum_{i,j} |x_i - x_j|`, the last sum over
    neighbouring pixels [2]_, by gradient ascent. Each step moves along the gradient, at a length that falls evenly to
    zero, and ends with a projection onto the bounds.

    Parameters
    ----------
    model : keras.Layer or callable
        Of any form.
    layer : str or keras.Layer
        As in `activations`.
    units : int or sequence of int
        Places on the last axis of the layer's output.
    x : array, shape (n, *sample)
        Real inputs, to compare with: an image that excites a unit far more than all of them is unlike anything the
        network was trained for.
    start : str or array
        ``"noise"``, uniform between the bounds; ``"real"``, the sample of `x` that excites the unit most; or inputs:
        one for all units, ``(1, *sample)``, or one for each, ``(units, *sample)``.
    steps : int
    learning_rate : float
        Root mean square over the pixels of the first step's move, before the projection.
    l2, tv : float
        Weights of the penalties, at least 0. They are sums over pixels, in units of the activation: with ``l2=0.01`` a
        page of 28 x 28 black pixels costs 7.84.
    positions : str
        As in `unit_activations`: how the activations of a convolution's channel become one number.
    before_activation : bool
        Whether a unit of a dense or convolutional layer is taken before the layer's activation function, in the climb
        and in what is returned. A rising function has its maximum at the same input, and this way an inactive ReLU and
        a saturated sigmoid have a gradient too. Other layers are taken as they are.
    bounds : tuple of two floats
        Of the images. The real inputs must be within them too.
    seed : int
        Fixes the noise.

    Returns
    -------
    Maximised

    Raises
    ------
    ValueError
        If a layer, unit or option is unknown or out of range; if `x` or the start is empty, not finite, of the wrong
        shape or outside the bounds; or if a unit has no gradient at the start, where ascent cannot begin.

    References
    ----------
    .. [1] D. Erhan, Y. Bengio, A. Courville and P. Vincent, "Visualizing higher-layer features of a deep network",
       technical report 1341, Université de Montréal, 2009.
    .. [2] A. Mahendran and A. Vedaldi, "Understanding deep image representations by inverting them", arXiv:1412.0035.
    """
    check_size(steps, "steps")
    check_number(learning_rate, "learning_rate", 0, open_ends=True)
    check_number(l2, "l2", 0)
    check_number(tv, "tv", 0)
    x = check_inputs(model, x)
    bounds = _check_inside(x, bounds, "x")
    if tv > 0 and x.ndim < 3:
        raise ValueError(
            f"tv is {tv:g} and samples have shape {x.shape[1:]}: total variation needs neighbours; use tv=0"
        )

    with _bare(_call(_watch(model, x[:1]), layer).layer) if before_activation else nullcontext():
        real = unit_activations(activations(model, x, layer=layer), positions=positions)
        chosen = _check_units(units, real.shape[1])
        best = real[:, chosen].argmax(axis=0)

        def excitation(images: tf.Tensor) -> tf.Tensor:
            """Return what unit i answers to image i, shape (units,)."""
            answers = ops.cast(_output(_watch(model, images), layer, len(chosen)), "float32")
            return tf.gather(_over_positions(answers, positions), chosen, batch_dims=1)

        def penalty(images: tf.Tensor) -> tf.Tensor:
            return l2 * tf.reduce_sum(images**2) + tv * _total_variation(images)

        images = tf.constant(_start(start, x, best, bounds, seed))
        images, history = _climb(excitation, penalty, images, chosen, steps, learning_rate, bounds)
    return Maximised(images, history[-1], history, best, real[best, chosen])


def _climb(
    excitation: Callable,
    penalty: Callable,
    images: tf.Tensor,
    units: np.ndarray,
    steps: int,
    learning_rate: float,
    bounds: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the images at the top, and the units' excitation at the start and after each step."""
    over_sample = tuple(range(1, len(images.shape)))

    @tf.function(autograph=False)
    def look(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(images)
            excited, paid = excitation(images), penalty(images)
        slopes = (tape.gradient(value, images, unconnected_gradients="zero") for value in (excited, paid))
        return excited, *slopes

    excited, up, down = look(images)
    flat = ~np.any(up, axis=over_sample)
    if flat.any():
        raise ValueError(
            f"units {units[flat].tolist()} have no gradient at the start, so ascent cannot begin. Leave out units that "
            f"are dead on real inputs (unit_statistics(...).dead); begin the others at start='real'."
        )
    history = [excited.numpy()]
    for step in range(steps):
        slope = up - down
        length = tf.sqrt(tf.reduce_mean(slope**2, axis=over_sample, keepdims=True))
        move = learning_rate * (1 - step / steps) * tf.math.divide_no_nan(slope, length)
        images = tf.clip_by_value(images + move, *bounds)
        excited, up, down = look(images)
        history.append(excited.numpy())
    if not np.isfinite(history).all():
        raise ValueError("the units or their gradients became NaN or infinite on the way; try a smaller learning_rate")
    return images.numpy(), np.stack(history)


def _bare(layer: keras.Layer) -> AbstractContextManager[None]:
    """Take the activation off a dense or convolutional layer inside the ``with`` block, and nothing off others."""
    return without_activation(layer) if isinstance(layer, DENSE | CONVOLUTIONS | TRANSPOSED) else nullcontext()


def _start(
    start: str | np.ndarray, x: np.ndarray, best: np.ndarray, bounds: tuple[float, float], seed: int
) -> np.ndarray:
    """Return the images to begin with, one for each unit."""
    shape = (len(best), *x.shape[1:])
    if isinstance(start, str):
        if start not in ("noise", "real"):
            raise ValueError(f"unknown start {start!r}; the known ones are noise, real, or an array")
        noise = np.random.default_rng(check_seed(seed)).uniform(*bounds, shape)
        return (noise if start == "noise" else x[best]).astype("float32")
    images = np.asarray(start)
    if images.shape not in (shape, (1, *shape[1:])):
        raise ValueError(
            f"start has shape {images.shape}; give one input {(1, *shape[1:])}, or one for each unit {shape}"
        )
    images = check_samples(np.broadcast_to(images, shape), None, "start").astype("float32")
    _check_inside(images, bounds, "start")
    return images


def _total_variation(images: tf.Tensor) -> tf.Tensor:
    """Return the sum of absolute differences between neighbours, along each axis but the samples and the channels."""
    axes = range(1, len(images.shape) - 1)
    return sum((ops.sum(ops.abs(ops.diff(images, axis=axis))) for axis in axes), tf.constant(0.0))


# --- what all of them share ------------------------------------------------------------------------------------------


def _watch(model: Callable, batch: Any) -> list[LayerCall]:
    """Return the calls of the model's layers while it answers as outside training."""
    with recording() as calls:
        inference(model)(tf.convert_to_tensor(batch))
    return calls


def _array(output: Any) -> np.ndarray:
    """Return a tensor as an array: of half precision as float32, in which differences and means keep their digits."""
    half = keras.backend.standardize_dtype(output.dtype) in ("float16", "bfloat16")
    return np.asarray(ops.cast(output, "float32") if half else output)


def _numbered(names: list[str]) -> list[str]:
    """Return the names with those that repeat numbered: a, b#1, b#2."""
    total, seen, numbered = Counter(names), Counter[str](), []
    for name in names:
        seen[name] += 1
        numbered.append(f"{name}#{seen[name]}" if total[name] > 1 else name)
    return numbered


def _named(calls: list[LayerCall]) -> dict[str, LayerCall]:
    return dict(zip(_numbered([call.layer.name for call in calls]), calls, strict=True))


def _call(calls: list[LayerCall], layer: str | keras.Layer) -> LayerCall:
    named = _named(calls)
    return named[layer] if layer in named else find_call(calls, layer)


def _output(calls: list[LayerCall], layer: str | keras.Layer, n: int) -> Any:
    """Return what one layer returned for `n` samples."""
    call = _call(calls, layer)
    if not _has_rows(call.output, n):
        raise ValueError(f"layer {call.layer.name!r} does not return one tensor with a row for each sample")
    return call.output


def _has_rows(output: Any, n: int) -> bool:
    shape: tuple[Any, ...] = getattr(output, "shape", ())
    return len(shape) > 1 and shape[0] in (n, None)


def _over_positions(activations: Any, positions: str) -> Any:
    """Return one number for each sample and unit."""
    reductions = {"mean": ops.mean, "max": ops.max}
    if positions not in reductions:
        raise ValueError(f"unknown positions {positions!r}; the known ones are {', '.join(reductions)}")
    axes = tuple(range(1, len(activations.shape) - 1))
    return reductions[positions](activations, axis=axes) if axes else activations


def _check_units(units: int | Sequence[int], size: int) -> np.ndarray:
    """Return the units as an array of whole numbers, shape (k,), if there are such units."""
    chosen = np.atleast_1d(np.asarray(units))
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or chosen.min() < 0 or chosen.max() >= size:
        raise ValueError(
            f"there is no unit {units!r}; the layer has {size}, so give whole numbers from 0 to {size - 1}"
        )
    return chosen


def _check_inside(x: np.ndarray, bounds: Any, name: str) -> tuple[float, float]:
    """Return the bounds as numbers if one is above the other and `x` is between them."""
    try:
        low, high = (float(bound) for bound in bounds)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"bounds is {bounds!r}; give two finite numbers, the lower first, such as (0, 1)")
    if x.min() < low or x.max() > high:
        raise ValueError(f"{name} goes from {x.min():g} to {x.max():g}, outside the bounds {low:g} to {high:g}")
    return low, high
