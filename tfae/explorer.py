"""A latent space to touch, in a notebook and in a page without a kernel (chapters 00, 05, 06 and 16).

The networks run in the reader's browser: `written` writes a Keras network down as a list of operations with its
weights, and explorer.js runs the list. The page itself says how far its drawings are from those of Keras.

>>> explorer = Explorer(autoencoder, data.load("strokes"))  # at the end of a cell: the explorer  # doctest: +SKIP
>>> explorer.save("page.html")  # opens from the disk, without a network or Python  # doctest: +SKIP
>>> autoencoder.decode(explorer.code)  # what is looked at now; it can be set, too  # doctest: +SKIP
"""

import base64
import gzip
import io
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import activations, layers
from PIL import Image
from scipy.spatial.distance import cdist

from tfae import plot
from tfae.adversarial import check_autoencoder
from tfae.anomaly import threshold
from tfae.checks import check_inputs, check_samples, check_size
from tfae.dictionary import SparseDictionary
from tfae.files import written_whole
from tfae.hooks import LayerCall, recording
from tfae.inference import in_batches
from tfae.layers import OfClass, TopK, TransposedDense
from tfae.models import ConditionalVariationalAutoencoder, VariationalAutoencoder

LARGEST = 3_000_000  # bytes of a page
TRAINING = 2000  # training codes that the fog is made of
LISTED = 24  # units that have a slider
ACTIVATIONS = (
    "elu", "exponential", "gelu", "hard_sigmoid", "log_sigmoid", "mish", "relu", "selu", "sigmoid", "silu", "softplus",
    "softsign", "tanh",
)  # fmt: skip


# --- a network, written down -----------------------------------------------------------------------------------------


class Arrays:
    """Arrays that travel beside JSON, as one compressed text; what they are stands in `table`."""

    def __init__(self, *, weights: str = "float32") -> None:
        self.weights, self._bytes = weights, bytearray()
        self.table: list[dict[str, Any]] = []

    def add(self, array: Any, *, dtype: str = "float32") -> dict[str, int]:
        """Keep `array` and return what stands for it."""
        array = np.ascontiguousarray(array, dtype)
        self._bytes += bytes(-len(self._bytes) % 8)  # JavaScript reads numbers at multiples of their size
        self.table.append({"dtype": dtype, "offset": len(self._bytes), "length": array.size})
        self._bytes += array.astype(array.dtype.newbyteorder("<")).tobytes()
        return {"array": len(self.table) - 1}

    def text(self) -> str:
        return base64.b64encode(gzip.compress(bytes(self._bytes), mtime=0)).decode()


class Writer:
    """Writes what a function does with a sample as operations of explorer.js."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.operations: list[dict[str, Any]] = []

    def weights(self, values: Any) -> dict[str, int]:
        return self.arrays.add(np.asarray(values, "float32"), dtype=self.arrays.weights)

    def add(self, kind: str, inputs: list[int], shape: Any, **settings: Any) -> int:
        """Add an operation and return the number of its value; the input is value 0."""
        shape = [int(length) for length in shape]
        self.operations.append({"kind": kind, "inputs": inputs, "shape": shape} | settings)
        return len(self.operations)

    def follow(self, function: Callable, shape: tuple[int, ...], *, start: int = 0) -> int:
        """Write down what `function` does with value `start`, of `shape`, and return the number of its output."""
        x = tf.zeros((1, *shape))
        with recording() as calls:
            output = function(x)
        numbers = {id(x): start}

        def number(tensor: Any) -> int:
            if id(tensor) not in numbers:
                call = _maker(tensor, calls)
                taken = [number(part) for part in keras.tree.flatten((call.inputs, list(call.options.values())))
                         if tf.is_tensor(part)]  # fmt: skip
                numbers[id(tensor)] = WRITERS[_kind(call.layer)](self, call, taken)
            return numbers[id(tensor)]

        return number(output)


def written(function: Callable, shape: tuple[int, ...], arrays: Arrays) -> dict[str, Any]:
    """Return a network as explorer.js runs it.

    Parameters
    ----------
    function : callable or keras.Layer
        Maps a tensor of samples to a tensor, by Keras layers alone: of any form of model.
    shape : tuple of int
        Of one sample.
    arrays : Arrays
        Takes the weights.

    Raises
    ------
    ValueError
        If a layer is none that explorer.js has, or is used in a way that it has not; the message names it.
    """
    writer = Writer(arrays)
    output = writer.follow(function, shape)
    return {"shape": list(shape), "operations": writer.operations, "output": output}


def _features(dictionary: SparseDictionary, arrays: Arrays) -> dict[str, Any]:
    """Return how strongly the features of a dictionary fire for a code, written down."""
    writer, (features, units) = Writer(arrays), dictionary.decoder.kernel.shape
    shift = -np.asarray(dictionary.centre) / float(dictionary.scale)
    scale = np.full(units, 1 / float(dictionary.scale))
    value = writer.add("affine", [0], (units,), scale=arrays.add(scale), shift=arrays.add(shift))
    kernel, bias = (writer.weights(part) for part in (dictionary.encoder.kernel, dictionary.encoder.bias))
    value = writer.add("dense", [value], (features,), kernel=kernel, bias=bias)
    value = writer.add("activate", [value], (features,), name="relu")
    if dictionary.activation == "topk":
        value = writer.add("top_k", [value], (features,), k=dictionary.k)
    elif dictionary.activation != "relu":
        threshold = np.broadcast_to(np.asarray(dictionary.threshold), (features,))
        value = writer.add("above", [value], (features,), threshold=arrays.add(threshold))
    return {"shape": [units], "operations": writer.operations, "output": value}


def _maker(tensor: Any, calls: list[LayerCall]) -> LayerCall:
    """Return the call that made a tensor: the outermost that can be written down, as an activation may be a layer."""
    made = [call for call in calls if call.output is tensor and not any(part is tensor for part in call.inputs)]
    known = [call for call in made if _kind(call.layer)]
    if known:
        return known[-1]
    if not made:
        raise ValueError(
            "the network computes something outside of its layers, which a page cannot run; compute it in layers of "
            "Keras, or give a decoder and an encoder made of them"
        )
    layer = made[0].layer
    whole = made[0].is_leaf or type(layer).__module__.startswith("keras.")  # one of Keras's own
    inside = "" if whole else ", which computes something outside of the layers that it calls,"
    raise ValueError(
        f"layer {layer.name!r} ({type(layer).__name__}){inside} cannot run in a page; the explorer runs "
        f"{', '.join(sorted(kind.__name__ for kind in WRITERS))}, and what does nothing outside training"
    )


def _kind(layer: Any) -> Any:
    """Return which of the known layers this is; a subclass is one if it computes as that does."""
    return next((kind for kind in WRITERS if isinstance(layer, kind) and type(layer).call is kind.call), None)


def _refuse(layer: Any, what: str) -> None:
    raise ValueError(f"layer {layer.name!r} ({type(layer).__name__}) has {what}, which the explorer cannot run")


def _activated(writer: Writer, layer: Any, activation: Any, value: int, shape: Any) -> int:
    """Add an activation, given as Keras's function or as a layer."""
    name = getattr(activation, "__name__", "")
    if isinstance(activation, keras.Layer):
        return writer.follow(activation, tuple(shape), start=value)
    if activation in (None, activations.linear):
        return value
    if activation is activations.softmax:
        return writer.add("softmax", [value], shape)
    if activation is activations.relu6:
        return writer.add("activate", [value], shape, name="relu", settings={"most": 6})
    if activation is activations.leaky_relu:
        return writer.add("activate", [value], shape, name="relu", settings={"slope": 0.2})
    if name not in ACTIVATIONS or getattr(activations, name) is not activation:
        _refuse(layer, f"the activation {name or activation!r}")
    return writer.add("activate", [value], shape, name=name)


def _sizes(call: LayerCall) -> tuple[list[int], list[int]]:
    """Return the shapes of a layer's input and output, those of a series as of an image that is one column wide."""
    shapes = [list(tensor.shape[1:]) for tensor in (call.inputs[0], call.output)]
    return tuple([*shape[:1], 1, *shape[1:]] if len(shape) == 2 else shape for shape in shapes)  # type: ignore


def _pair(value: Any, rank: int = 2, one: int = 1) -> list[int]:
    """Return a setting of a layer for height and width."""
    pair = [value] * rank if isinstance(value, int) else list(value)
    return pair if len(pair) == 2 else [*pair, one]


def _as_image(write: Callable) -> Callable:
    """Let a writer for images write series too."""

    def wrapped(writer: Writer, call: LayerCall, inputs: list[int]) -> int:
        layer, (given, made) = call.layer, _sizes(call)
        if getattr(layer, "data_format", "channels_last") != "channels_last":
            _refuse(layer, "its channels first")
        value = write(writer, layer, writer.add("reshape", inputs, given), given, made)
        return writer.add("reshape", [value], call.output.shape[1:])

    return wrapped


def _dense(writer: Writer, call: LayerCall, inputs: list[int]) -> int:
    layer, shape = call.layer, call.output.shape[1:]
    bias = None if layer.bias is None else writer.weights(layer.bias)
    value = writer.add("dense", inputs, shape, kernel=writer.weights(layer.kernel), bias=bias)
    return _activated(writer, layer, layer.activation, value, shape)


@_as_image
def _conv(writer: Writer, layer: Any, value: int, given: list[int], made: list[int]) -> int:
    kernel = np.asarray(layer.kernel)
    kernel = kernel[:, np.newaxis] if kernel.ndim == 3 else kernel
    bias = None if layer.bias is None else writer.weights(layer.bias)
    window, strides, dilation = kernel.shape[:2], _pair(layer.strides), _pair(layer.dilation_rate)
    transposed = isinstance(layer, layers.Conv1DTranspose | layers.Conv2DTranspose)
    if transposed and (layer.output_padding is not None or max(dilation) > 1):
        _refuse(layer, "an output padding or a dilation")
    before = _padding(layer.padding, made if transposed else given, window, strides, dilation)
    places = {"window": window, "strides": strides, "dilation": dilation, "before": before}
    if transposed:
        kernel = np.swapaxes(kernel, 2, 3)
        value = writer.add("conv_transpose", [value], made, kernel=writer.weights(kernel), bias=bias, **places)
    else:
        places["groups"] = layer.groups
        value = writer.add("conv", [value], made, kernel=writer.weights(kernel), bias=bias, **places)
    return _activated(writer, layer, layer.activation, value, made)


def _padding(kind: str, given: list[int], window: Any, strides: Any, dilation: Any = (1, 1)) -> list[int]:
    """Return how many empty places stand above and to the left of what a window goes over."""
    reach = [(size - 1) * gap for size, gap in zip(window, dilation, strict=True)]
    if kind == "causal":
        return [reach[0], 0]
    steps = [math.ceil(length / stride) - 1 for length, stride in zip(given, strides, strict=False)]
    ends = [step * stride + far + 1 for step, stride, far in zip(steps, strides, reach, strict=True)]
    return [max(end - length, 0) // 2 if kind == "same" else 0 for end, length in zip(ends, given, strict=False)]


@_as_image
def _pool(writer: Writer, layer: Any, value: int, given: list[int], made: list[int]) -> int:
    window, strides = _pair(layer.pool_size, 1), _pair(layer.strides, 1)
    before, mean = _padding(layer.padding, given, window, strides), "Average" in type(layer).__name__
    return writer.add("pool", [value], made, window=window, strides=strides, before=before, mean=mean)


def _pool_all(writer: Writer, call: LayerCall, inputs: list[int]) -> int:
    if call.layer.data_format != "channels_last":
        _refuse(call.layer, "its channels first")
    given, _ = _sizes(call)
    window, mean = given[:2], "Average" in type(call.layer).__name__
    value = writer.add("reshape", inputs, given)
    made, places = [1, 1, given[2]], {"window": window, "strides": window, "before": [0, 0]}
    value = writer.add("pool", [value], made, mean=mean, **places)
    return writer.add("reshape", [value], call.output.shape[1:])


@_as_image
def _upsample(writer: Writer, layer: Any, value: int, given: list[int], made: list[int]) -> int:
    if getattr(layer, "interpolation", "nearest") != "nearest":
        _refuse(layer, f"the interpolation {layer.interpolation!r}")
    return writer.add("upsample", [value], made, factors=[made[0] // given[0], made[1] // given[1]])


@_as_image
def _pad(writer: Writer, layer: Any, value: int, given: list[int], made: list[int]) -> int:
    cropping = hasattr(layer, "cropping")
    sides = layer.cropping if cropping else layer.padding  # ((top, bottom), (left, right)), or (begin, end)
    sides = (sides, (0, 0)) if isinstance(sides[0], int) else sides
    return writer.add("pad", [value], made, before=[-side[0] if cropping else side[0] for side in sides])


def _reshape(writer: Writer, call: LayerCall, inputs: list[int]) -> int:
    return writer.add("reshape", inputs, call.output.shape[1:])


def _affine(writer: Writer, call: LayerCall, inputs: list[int]) -> int:
    """Write down a layer that multiplies and adds, by a number for each channel."""
    layer, shape = call.layer, call.output.shape[1:]
    if isinstance(layer, layers.Rescaling):
        scale, shift = layer.scale, layer.offset
    else:
        if isinstance(layer, layers.BatchNormalization):
            scale, shift = layer.gamma, layer.beta
            mean, spread = layer.moving_mean, np.sqrt(np.asarray(layer.moving_variance, "float64") + layer.epsilon)
        else:
            scale, shift, mean = 1.0, 0.0, layer.mean
            spread = np.maximum(np.sqrt(np.asarray(layer.variance, "float64")), keras.backend.epsilon())
        if getattr(layer, "invert", False) or layer.axis not in (-1, len(shape), (-1,), (len(shape),)):
            _refuse(layer, f"the axis {layer.axis}, which is not the last, or runs backwards")
        scale = (1.0 if scale is None else np.asarray(scale, "float64")) / spread
        shift = (0.0 if shift is None else np.asarray(shift, "float64")) - np.asarray(mean, "float64") * scale
    each = [np.broadcast_to(np.ravel(np.asarray(values)), shape[-1:]) for values in (scale, shift)]
    return writer.add("affine", inputs, shape, scale=writer.arrays.add(each[0]), shift=writer.arrays.add(each[1]))


def _layer_norm(writer: Writer, call: LayerCall, inputs: list[int]) -> int:
    layer, shape = call.layer, call.output.shape[1:]
    axis = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if axis not in ([-1], [len(shape)]) or getattr(layer, "rms_scaling", False):
        _refuse(layer, f"the axis {layer.axis}, which is not the last, or a scale without a mean")
    scale = np.ones(shape[-1]) if layer.gamma is None else layer.gamma
    shift = np.zeros(shape[-1]) if layer.beta is None else layer.beta
    settings = {"scale": writer.arrays.add(scale), "shift": writer.arrays.add(shift), "epsilon": layer.epsilon}
    return writer.add("layer_norm", inputs, shape, **settings)


def _activation(writer: Writer, call: LayerCall, inputs: list[int]) -> int:
    layer, shape, (value,) = call.layer, call.output.shape[1:], inputs
    if isinstance(layer, layers.Activation):
        return _activated(writer, layer, layer.activation, value, shape)
    if isinstance(layer, layers.Softmax):
        if layer.axis not in (-1, len(shape)):
            _refuse(layer, f"the axis {layer.axis}, which is not the last")
        return writer.add("softmax", inputs, shape)
    if isinstance(layer, layers.PReLU):
        return writer.add("prelu", inputs, shape, alpha=writer.weights(np.broadcast_to(layer.alpha, shape)))
    if isinstance(layer, layers.ELU):
        return writer.add("activate", inputs, shape, name="elu", settings={"alpha": float(layer.alpha)})
    settings = {"slope": float(layer.negative_slope)}
    if isinstance(layer, layers.ReLU):
        most = None if layer.max_value is None else float(layer.max_value)
        settings |= {"most": most, "threshold": float(layer.threshold)}  # type: ignore[dict-item]
    return writer.add("activate", inputs, shape, name="relu", settings=settings)


def _merge(writer: Writer, call: LayerCall, inputs: list[int]) -> int:
    layer, shape = call.layer, call.output.shape[1:]
    if any(tuple(part.shape[1:]) != tuple(shape) for part in keras.tree.flatten(call.inputs)):
        _refuse(layer, "inputs of different shapes")
    name = type(layer).__name__.lower()
    if name == "average":
        return writer.add("merge", inputs, shape, name="add", weight=1 / len(inputs))
    return writer.add("merge", inputs, shape, name=name)


def _concatenate(writer: Writer, call: LayerCall, inputs: list[int]) -> int:
    shape = call.output.shape[1:]
    return writer.add("concatenate", inputs, shape, axis=(call.layer.axis % (len(shape) + 1)) - 1)


def _top_k(writer: Writer, call: LayerCall, inputs: list[int]) -> int:
    return writer.add("top_k", inputs, call.output.shape[1:], k=call.layer.k)


def _transposed(writer: Writer, call: LayerCall, inputs: list[int]) -> int:
    layer, (value,) = call.layer, inputs
    functions = [layer.activation, *(dense.activation for dense in layer.dense[:-1])]
    for dense, bias, function in reversed(list(zip(layer.dense, layer.biases, functions, strict=True))):
        kernel, shape = writer.weights(np.transpose(dense.kernel)), bias.shape
        value = writer.add("dense", [value], shape, kernel=kernel, bias=writer.weights(bias))
        value = _activated(writer, layer, function, value, shape)
    return value


def _of_class(writer: Writer, call: LayerCall, inputs: list[int]) -> int:
    layer, units = call.layer, call.inputs[0].shape[-1]
    constant = writer.arrays.add(np.eye(layer.n_classes)[layer.label])
    joined = writer.add("append", inputs, (units + layer.n_classes,), constant=constant)
    return writer.follow(lambda z: layer.decoder(z, training=False), (units + layer.n_classes,), start=joined)


WRITERS: dict[Any, Callable[[Writer, LayerCall, list[int]], int]] = {
    layers.Dense: _dense,
    layers.Conv1DTranspose: _conv, layers.Conv2DTranspose: _conv, layers.Conv1D: _conv, layers.Conv2D: _conv,
    layers.MaxPooling1D: _pool, layers.MaxPooling2D: _pool,
    layers.AveragePooling1D: _pool, layers.AveragePooling2D: _pool,
    layers.GlobalMaxPooling1D: _pool_all, layers.GlobalMaxPooling2D: _pool_all,
    layers.GlobalAveragePooling1D: _pool_all, layers.GlobalAveragePooling2D: _pool_all,
    layers.UpSampling1D: _upsample, layers.UpSampling2D: _upsample,
    layers.ZeroPadding1D: _pad, layers.ZeroPadding2D: _pad, layers.Cropping1D: _pad, layers.Cropping2D: _pad,
    layers.Flatten: _reshape, layers.Reshape: _reshape,
    layers.BatchNormalization: _affine, layers.Normalization: _affine, layers.Rescaling: _affine,
    layers.LayerNormalization: _layer_norm,
    layers.Activation: _activation, layers.ReLU: _activation, layers.LeakyReLU: _activation, layers.ELU: _activation,
    layers.PReLU: _activation, layers.Softmax: _activation,
    layers.Add: _merge, layers.Subtract: _merge, layers.Multiply: _merge, layers.Average: _merge,
    layers.Maximum: _merge, layers.Minimum: _merge, layers.Concatenate: _concatenate,
    TopK: _top_k, TransposedDense: _transposed, OfClass: _of_class,
}  # fmt: skip


# --- the explorer ----------------------------------------------------------------------------------------------------


class Explorer:
    """A plane of codes with held-out images on it, and what the decoder draws at the place that is touched.

    At the end of a notebook's cell it is shown, through ``anywidget``; `save` and `html` need none. The page says how
    far its drawings are from Keras's, and where no training image has a code.

    Parameters
    ----------
    autoencoder : tfae.models.Autoencoder
        With a flat code, of layers that Keras has; of a conditional one, ``for_class(label)``.
    dataset : tfae.data.Dataset, mapping or array
        Of a data set or a mapping ``x_test`` is shown; ``x_train``, ``y_test``, ``class_names``, ``factors_test`` and
        ``factor_names`` are used where it has them. An array is ``x_test`` alone.
    n_points : int
        Held-out samples on the plane, evenly taken from `dataset`; images in [0, 1] in 256 levels of grey, or of each
        colour.
    dictionary : tfae.dictionary.SparseDictionary, optional
        Of the code: its features can be switched off and on (chapter 16).
    false_alarm_share : float
        Share of held-out samples whose reconstruction error is above the threshold that is shown
        (`tfae.anomaly.threshold`).

    Raises
    ------
    ValueError
        If a layer cannot run in a browser (the message names it), if the autoencoder has no flat code, or the samples
        are too few or not what it takes.

    Attributes
    ----------
    rows : ndarray of int, shape (n_points,)
        Which rows of ``x_test`` are shown.
    x, z : ndarray, shapes (n_points, *sample) and (n_points, units)
        These samples and their codes.
    threshold : float
        The reconstruction error above which there is an alarm.
    """

    def __init__(
        self,
        autoencoder: Any,
        dataset: Any,
        *,
        n_points: int = 1000,
        dictionary: SparseDictionary | None = None,
        false_alarm_share: float = 0.05,
    ) -> None:
        check_autoencoder(autoencoder)
        if isinstance(autoencoder, ConditionalVariationalAutoencoder):
            raise ValueError("a conditional autoencoder draws one class at a time: give autoencoder.for_class(3)")
        given = _named(dataset)
        x = check_inputs(autoencoder.encoder, given["x_test"], "x_test")
        self.autoencoder, self.name = autoencoder, str(given.get("name", "data"))
        self.rows = np.unique(np.linspace(0, len(x) - 1, min(check_size(n_points, "n_points"), len(x))).astype(int))
        errors = autoencoder.reconstruction_error(x)
        self.threshold = threshold(errors, false_alarm_share=false_alarm_share).value
        self._errors, self._in_bytes = errors[self.rows], bool(x.min() >= 0 and x.max() <= 1)
        self.x = np.round(x[self.rows] * 255).astype("float32") / 255 if self._in_bytes else x[self.rows]
        self.z = autoencoder.encode(self.x)
        if self.z.ndim != 2 or self.z.shape[1] < 2:
            raise ValueError(f"a code has shape {self.z.shape[1:]}; the explorer takes flat codes of 2 units or more")
        self.dictionary = dictionary
        if dictionary is not None and (not dictionary.built or dictionary.directions.shape[1] != self.z.shape[1]):
            raise ValueError(
                f"the dictionary is not one of codes of {self.z.shape[1]} units: fit it to autoencoder.encode(x_train)"
            )
        self._colourings = list(_colourings(given, self.rows, len(x)))
        train = given.get("x_train")
        if train is None:
            self._codes = self.z
        else:
            train = check_samples(train, x.shape[1:], "x_train")
            self._codes = autoencoder.encode(train[:: -(-len(train) // TRAINING)].astype("float32"))
        self._content = self._written("float32")
        self._state: dict[str, Any] = {"code": self.z[0].tolist(), "selected": int(self.rows[0])}

    # What is looked at.

    @cached_property
    def widget(self) -> Any:
        """The ``anywidget.AnyWidget`` with the traits ``code`` and ``selected``, which can be observed.

        Raises
        ------
        ImportError
            If anywidget is not installed.
        """
        try:
            import anywidget
            import traitlets
        except ImportError as error:
            raise ImportError(
                "in a notebook the explorer needs anywidget: pip install anywidget. A page needs nothing: "
                "explorer.save('page.html')"
            ) from error

        class ExplorerWidget(anywidget.AnyWidget):
            _esm, _css = _source("explorer.js"), _source("explorer.css")
            content = traitlets.Dict().tag(sync=True)
            code = traitlets.List(traitlets.Float()).tag(sync=True)
            selected = traitlets.Int(None, allow_none=True).tag(sync=True)

        return ExplorerWidget(content=self._content, **self._state)

    def _get(self, name: str) -> Any:
        return getattr(self.widget, name) if "widget" in self.__dict__ else self._state[name]

    def _set(self, **state: Any) -> None:
        self._state |= state
        if "widget" in self.__dict__:
            with self.widget.hold_sync():
                for name, value in state.items():
                    setattr(self.widget, name, value)

    @property
    def code(self) -> np.ndarray:
        """The code at the cursor, shape ``(1, units)``; it can be set."""
        return np.array([self._get("code")], "float32")

    @code.setter
    def code(self, z: Any) -> None:
        z = check_samples(z, self.z.shape[1:], "code")
        if len(z) != 1:
            raise ValueError(f"code has shape {z.shape}; the cursor is at one code, shape (1, {self.z.shape[1]})")
        self._set(selected=None, code=[float(value) for value in z[0]])

    @property
    def selected(self) -> int | None:
        """The row of ``x_test`` whose image and code are looked at, one of `rows`; None off the images."""
        return self._get("selected")

    @selected.setter
    def selected(self, row: int) -> None:
        if row not in self.rows:
            raise ValueError(f"row {row} of x_test is not on the plane; `explorer.rows` has those that are")
        (place,) = np.flatnonzero(self.rows == row)
        self._set(code=self.z[place].tolist(), selected=int(row))

    # Where it is shown.

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        shown, metadata = self.widget._repr_mimebundle_(**options)
        picture = base64.b64encode(self.picture()).decode()  # for paper, and where no widget runs
        return {**shown, "image/png": picture, "text/plain": repr(self)}, metadata

    def __repr__(self) -> str:
        return f"Explorer of {self.z.shape[1]} units, {len(self.x)} held-out samples of {self.name!r}"

    def picture(self) -> bytes:
        """Return a PNG of the plane and the drawing at the cursor."""
        z, directions = self._plane()
        points, cursor = ((codes - z.mean(axis=0)) @ directions[:2].T for codes in (z, self.code))
        labels = next((shown["values"] for shown in self._colourings if shown["names"]), np.zeros(len(z), int))
        with plt.rc_context(plot.STYLE | {"font.size": 9}):
            figure, (left, right) = plt.subplots(1, 2, figsize=(6, 3), dpi=100, width_ratios=(1.4, 1))
            for i, label in enumerate(np.unique(labels)):
                style = {"color": plot.COLOURS[i % 10], "marker": plot.MARKERS[i % 10], "linewidths": 0}
                left.scatter(*points[labels == label].T, s=7, **style)
            left.plot(*cursor.T, "o", ms=12, mfc="none", mec="black", mew=2)
            left.set(title="held-out codes", xticks=[], yticks=[])
            drawn = self.autoencoder.decode(self.code)[0]
            shape = _image_shape(drawn.shape)
            if shape:
                right.imshow(np.clip(drawn.reshape(shape).squeeze(), 0, 1), vmin=0, vmax=1)
                right.axis("off")
            else:
                right.plot(drawn.ravel())
            right.set_title("drawn there")
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=100)
            plt.close(figure)
        small = io.BytesIO()
        Image.open(buffer).convert("RGB").quantize(64).save(small, "png", optimize=True)
        return small.getvalue()

    def fragment(self) -> str:
        """Return the explorer as HTML for the midst of any page: it loads nothing, and no kernel is needed."""
        content = self._content
        if len(json.dumps(content)) > LARGEST - 100_000:  # the rest of a page
            content = self._written("float16")
            size = len(json.dumps(content))
            if size > LARGEST - 100_000:
                raise ValueError(
                    f"the explorer takes {size / 1e6:.1f} MB even with weights in half precision, and may take "
                    f"{LARGEST / 1e6:.0f}; give fewer points (n_points={len(self.x) // 2}) or a smaller network"
                )
            warnings.warn(
                "the weights are written in half precision, to keep the page below 3 MB; it says how far its drawings "
                "are from Keras's",
                stacklevel=3,
            )
        state = {"esm": _source("explorer.js"), "content": content}
        state |= {"code": self._get("code"), "selected": self._get("selected")}
        picture = base64.b64encode(self.picture()).decode()
        text = json.dumps(state, allow_nan=False).replace("<", "\\u003c")
        return HOST.format(css=_source("explorer.css"), picture=picture, name=escape(self.name), state=text)

    def html(self) -> str:
        """Return a whole page, which opens from the disk; `fragment` is its midst."""
        return PAGE.format(name=escape(self.name), fragment=self.fragment())

    def save(self, path: str | Path) -> None:
        """Write the page, below 3 MB, whole or not at all.

        Raises
        ------
        ValueError
            If it would be larger even with weights in half precision, of which a warning tells.
        OSError
            If the file cannot be written.
        """
        page = self.html()
        with written_whole(path) as file:
            file.write_text(page, encoding="utf-8")

    # What explorer.js gets.

    def _plane(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the held-out codes and two directions: the code's own if it has two units, else the main ones."""
        z = self.z.astype("float64")
        return z, np.eye(2) if z.shape[1] == 2 else np.linalg.svd(z - z.mean(axis=0), full_matrices=False)[2][:4]

    def _written(self, precision: str) -> dict[str, Any]:
        """Return all that is shown, as JSON."""
        autoencoder, arrays = self.autoencoder, Arrays(weights=precision)
        variational = isinstance(autoencoder, VariationalAutoencoder)
        code = autoencoder.encoder if variational else autoencoder.code
        z, directions = self._plane()
        gaps = cdist(z, self._codes)
        if self._codes is self.z:
            np.fill_diagonal(gaps, np.inf)  # a code is not its own neighbour
        encoder = written(lambda x: code(x, training=False), self.x.shape[1:], arrays)
        decoder = written(lambda codes: autoencoder.decoded(codes, training=False), z.shape[1:], arrays)
        images, dtype = (np.round(self.x * 255), "uint8") if self._in_bytes else (self.x, "float32")
        return {
            "name": self.name,
            "shape": _image_shape(self.x.shape[1:]),
            "encoder": encoder,
            "decoder": decoder,
            "variational": variational,
            "precision": precision,
            "images": arrays.add(images, dtype=dtype),
            "range": [0.0, 1.0] if self._in_bytes else [float(self.x.min()), float(self.x.max())],
            "inBytes": self._in_bytes,
            "rows": arrays.add(self.rows, dtype="int32"),
            "points": arrays.add(z),
            "training": arrays.add(self._codes),
            "radius": float(np.quantile(gaps.min(axis=1), 0.95)),
            "threshold": float(self.threshold),
            "alarms": float(np.mean(self._errors > self.threshold)),
            "directions": [arrays.add(direction) for direction in directions] if z.shape[1] > 2 else [],
            "centre": arrays.add(z.mean(axis=0)),
            "listed": sorted(np.argsort(-z.std(axis=0))[:LISTED].tolist()),
            "colourings": [c | {"values": arrays.add(c["values"])} for c in self._colourings],
            "dictionary": self._dictionary(arrays),
            "check": [arrays.add(in_batches(lambda x: code(x, training=False), self.x[:1], 1)),
                      arrays.add(autoencoder.decode(self.z[:1]))],
            "palette": plot.COLOURS,
            "ramp": [tuple(int(255 * part) for part in plt.get_cmap("cividis")(i / 8)[:3]) for i in range(9)],
            "arrays": arrays.table,
            "data": arrays.text(),
        }  # fmt: skip

    def _dictionary(self, arrays: Arrays) -> dict[str, Any] | None:
        if self.dictionary is None:
            return None
        directions = self.dictionary.directions * float(self.dictionary.scale)
        strongest = self.dictionary.encode(self._codes).max(axis=0)
        return {"network": _features(self.dictionary, arrays), "directions": arrays.add(directions),
                "strongest": arrays.add(strongest)}  # fmt: skip


def _named(dataset: Any) -> dict[str, Any]:
    """Return a data set, a mapping or an array of held-out samples as a mapping."""
    if isinstance(dataset, Mapping):
        given = dict(dataset)
    elif hasattr(dataset, "x_test"):
        given = {name: value for name, value in vars(dataset).items() if value is not None}
    else:
        given = {"x_test": dataset}
    if "x_test" not in given:
        raise ValueError(f"the mapping has {', '.join(map(str, given)) or 'nothing'}; it must have 'x_test'")
    return given


def _colourings(given: dict[str, Any], rows: np.ndarray, n: int) -> Iterator[dict[str, Any]]:
    """Yield what the points can be coloured by: classes, and each factor that is not the class again."""
    labels = given.get("y_test")
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (n,) or labels.dtype.kind not in "iu":
            raise ValueError(f"y_test has shape {labels.shape} and dtype {labels.dtype}; give {n} whole numbers")
        kinds, values = np.unique(labels, return_inverse=True)
        names = given.get("class_names") or ()
        known = [str(names[kind]) if 0 <= kind < len(names) else str(kind) for kind in kinds]
        yield {"name": "class", "values": values[rows], "names": known}
    factors = np.asarray(given.get("factors_test", np.zeros((n, 0))))
    for name, values in zip(given.get("factor_names", ()), factors.T, strict=False):
        if labels is None or not np.array_equal(values, labels):
            yield {"name": str(name), "values": values[rows], "names": None}


def _image_shape(shape: tuple[int, ...]) -> list[int] | None:
    """Return (height, width, channels) of what is drawn as an image; all else is drawn as a curve."""
    if len(shape) == 3 and shape[2] in (1, 3):
        return list(shape)
    return [*shape, 1] if len(shape) == 2 and shape[1] > 3 else None


def _source(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


HOST = """<div class="tfae-explorer-host">
<style>
{css}
@media not print {{ .tfae-explorer-host[data-ready] > img {{ display: none; }} }}
@media print {{ .tfae-explorer-host > div {{ display: none; }} }}
</style>
<img src="data:image/png;base64,{picture}" alt="Held-out codes of {name}, and what is drawn at one of them">
<div></div>
<script type="application/json">{state}</script>
<script>
(() => {{
  const host = document.currentScript.parentElement, listeners = {{}};
  const state = JSON.parse(host.querySelector("script[type='application/json']").textContent);
  const model = {{
    get: (name) => state[name],
    set(name, value) {{
      if (state[name] === value) return;
      state[name] = value;
      for (const listener of listeners["change:" + name] || []) listener();
    }},
    on(event, listener) {{ (listeners[event] ||= []).push(listener); }},
    off(event, listener) {{ listeners[event] = (listeners[event] || []).filter((other) => other !== listener); }},
    save_changes() {{}},
  }};
  const url = URL.createObjectURL(new Blob([state.esm], {{ type: "text/javascript" }}));
  import(url).then(({{ default: widget }}) => {{
    host.model = model;
    return widget.render({{ model, el: host.querySelector("div") }});
  }}).then(() => host.setAttribute("data-ready", ""));
}})();
</script>
</div>"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Latent space of {name}</title>
<style>
:root {{ color-scheme: light dark; background: light-dark(#ffffff, #121417); }}
body {{ margin: 0 auto; padding: 20px; max-width: 1280px; background: inherit; }}
</style>
</head>
<body><main>
{fragment}
</main></body>
</html>
"""
