"""The autoencoder: two Keras models joined at a code (chapters 01 to 03).

`tfae.models` has what each constraint adds to it and builders for both parts; `tfae.variational` makes the code a
distribution.
"""

import inspect
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tfae.checks import Shape, check_samples, check_unit_range, compatible, shape_text
from tfae.inference import in_batches, sample_shape
from tfae.internals import aggregated, mask_of, record_input_shape, within_fit
from tfae.loop import Trainer, is_evaluating
from tfae.losses import at_least_float32


@keras.saving.register_keras_serializable("tfae")
class Autoencoder(Trainer):
    """A decoder after an encoder, trained to return its input.

    It is an ordinary Keras model: ``compile``, ``fit``, ``evaluate``, callbacks and ``save`` are Keras's own. Only the
    target is different: where no `y` is given, it is the input.

    Parameters
    ----------
    encoder : keras.Layer
        Maps inputs ``(n, *input_shape)`` to codes ``(n, *code_shape)``. Any layer or model: functional, Sequential
        (built or not), nested or subclassed.
    decoder : keras.Layer
        Maps codes back to ``(n, *input_shape)``.

    Raises
    ------
    ValueError
        If a part is not a Keras layer; if the decoder returns another shape than the encoder takes; and, before any
        training step, if the data given to ``fit``, ``evaluate`` or ``train_on_batch`` are empty, of the wrong shape,
        not finite, or outside [0, 1] while the loss is a binary cross-entropy. Arrays are looked at whole, datasets and
        generators at their first batch; shapes are held to in every batch.

    Notes
    -----
    Chapter 01 introduces the model, chapter 02 what it minimises, chapter 03 how it is trained. A step of training runs
    every layer once. ``sample_weight`` weighs the samples with or without a `y`.
    """

    def __init__(self, encoder: keras.Layer, decoder: keras.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, part in (("encoder", encoder), ("decoder", decoder)):
            if not isinstance(part, keras.Layer):
                raise ValueError(f"the {name} must be a Keras layer or model, not {type(part).__name__}: {part!r}")
        self.encoder = encoder
        self.decoder = decoder
        self.built = encoder.built and decoder.built  # else Keras builds all of it at the first call
        self._left = _Left()
        if self.built and hasattr(self, "input_shape"):
            record_input_shape(self, self.input_shape)

    # What the model is.

    def code(self, x: Any, training: bool | None = None) -> Any:
        """Return the tensor of codes that the decoder gets for the tensor `x`."""
        return self.encoder(x, training=training)

    def decoded(self, z: Any, training: bool | None = None) -> Any:
        """Return the tensor that the decoder makes of the tensor of codes `z`."""
        return self.decoder(z, training=training)

    def decoded_for(self, z: Any, x: Any, training: bool | None = None) -> Any:
        """Return the tensor that the decoder makes of codes `z` of the samples `x`: here of the codes alone.

        A decoder that sees more than the code, a class or a part of the sample, is a subclass with this method. The
        codes may be several of each sample: all first ones, in the order of `x`, then all second ones.
        """
        return self.decoded(z, training=training)

    def constrained(self, z: Any) -> Any:
        """Return the tensor of codes that this model could have made, in place of free codes `z`: here `z` itself."""
        return z

    def code_and_penalty(self, x: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Return the codes of the tensor `x`, and what their batch adds to the loss: here nothing.

        A constraint of your own is a subclass with this method: it computes both from one pass.
        """
        return self.code(x, training=training), None

    def penalty(self, x: Any) -> Any:
        """Return what the batch `x` adds to the loss outside training: None here, in the variants their constraint."""
        return self.code_and_penalty(x, training=False)[1]

    def call(self, x: Any, training: bool | None = None) -> Any:
        if training or is_evaluating():
            z, self._left.for_loss = self.code_and_penalty(x, training=training)
        else:
            z, self._left.for_loss = self.code(x, training=training), None
        reconstruction = self.decoded_for(z, x, training)
        self._check_reconstruction(reconstruction, x)
        return reconstruction

    # The target is the input where no other is given.

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        target = self._target(x, y, y_pred)
        if self.runs_xla_on_cpu and _is_mean_of_squares(self.loss, y_pred, sample_weight):
            target, y_pred = _in_short_rows(target, y_pred)
        loss = super().compute_loss(x, target, y_pred, _of_samples(sample_weight, y_pred), training)
        penalty, self._left.for_loss = self._left.for_loss, None
        if penalty is None and type(self).code_and_penalty is not Autoencoder.code_and_penalty:
            penalty = self.code_and_penalty(x, training=training)[1]  # the call before this was one of inference
        if penalty is None:
            return loss
        return loss + ops.cast(aggregated(self, penalty), loss.dtype)  # of a float64 model: Keras's loss is float32

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        return super().compute_metrics(x, x if y is None else y, y_pred, _of_samples(sample_weight, y_pred))

    def _target(self, x: Any, y: Any, y_pred: Any) -> Any:
        """Return what the reconstruction is compared with: Keras would stretch another shape over it."""
        target = x if y is None else y
        if not compatible(target.shape[1:], y_pred.shape[1:]):
            raise ValueError(
                f"y has samples of shape {shape_text(target.shape[1:])} and the reconstruction has "
                f"{shape_text(y_pred.shape[1:])}. The target of an autoencoder has the shape of its input: give x "
                f"alone, or pairs of x and a clean x; labels are no target."
            )
        return target

    # Keras's fit and evaluate, after one look at the data.

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        options = _by_name(keras.Model.fit, args, kwargs)
        self._check_class_weight(options.get("class_weight"))
        x, y = self._looked_at(x, y, options.get("sample_weight"))
        if options.get("validation_data") is not None:
            held_out = options["validation_data"]
            given = held_out if isinstance(held_out, tuple | list) else (held_out,)
            x_held_out, y_held_out, weight = keras.utils.unpack_x_y_sample_weight(tuple(given))
            x_held_out, y_held_out = self._looked_at(x_held_out, y_held_out, weight)
            single = y_held_out is None and weight is None
            options["validation_data"] = x_held_out if single else (x_held_out, y_held_out, weight)
        return super().fit(x, y, **options)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        options = _by_name(keras.Model.evaluate, args, kwargs)
        if not within_fit(options):  # which has looked already
            x, y = self._looked_at(x, y, options.get("sample_weight"))
        return super().evaluate(x, y, **options)

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, **kwargs: Any
    ) -> Any:
        self._check_class_weight(class_weight)
        x, y = self._looked_at(x, y, sample_weight)
        return super().train_on_batch(x, y, sample_weight, class_weight, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, *args: Any, **kwargs: Any) -> Any:
        x, y = self._looked_at(x, y, sample_weight)
        return super().test_on_batch(x, y, sample_weight, *args, **kwargs)

    # Answers.

    def encode(self, x: Any, *, batch_size: int = 1024) -> np.ndarray:
        """Return the codes of `x`, shape ``(n, *code_shape)``.

        Parameters
        ----------
        x : array, shape (n, *sample), or tf.data.Dataset of batches
            Of pairs ``(x, y)`` in a dataset, the first part.
        batch_size : int
            Samples computed at once, which bounds the memory; a dataset keeps its own batches.

        Raises
        ------
        ValueError
            If the samples are of the wrong shape, empty or not finite.
        """
        return in_batches(lambda batch: self.code(batch, training=False), self._samples(x), batch_size)

    def decode(self, z: Any, *, batch_size: int = 1024) -> np.ndarray:
        """Return the decoder's outputs for the codes `z`, shape ``(n, *input_shape)``; `batch_size` as in `encode`."""
        z = check_samples(z, sample_shape(self.decoder), "z")
        return in_batches(lambda batch: self.decoded(batch, training=False), z, batch_size)

    def reconstruct(self, x: Any, *, batch_size: int = 1024) -> np.ndarray:
        """Return what the model makes of `x`, in the same shape; parameters and errors as in `encode`."""
        return in_batches(lambda batch: self(batch, training=False), self._samples(x), batch_size)

    def reconstruction_error(self, x: Any, *, batch_size: int = 1024) -> np.ndarray:
        """Return the squared error of each sample, averaged over its features as in Keras's ``mse``; shape ``(n,)``.

        Multiply by the number of features for the squared distance. The squares are float32, whatever the network
        computes in. Parameters and errors are those of `encode`.
        """

        def error(batch: Any) -> Any:
            reconstruction = at_least_float32(self(batch, training=False))
            squares = ops.square(reconstruction - ops.cast(keras.tree.flatten(batch)[0], reconstruction.dtype))
            return ops.mean(squares, axis=tuple(range(1, len(squares.shape))))

        return in_batches(error, self._samples(x), batch_size)

    # Saving.

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of a batch of samples, ``(None, *sample)``, where it is known."""
        shape = self._sample_shape()
        if shape is None:
            raise AttributeError("the encoder has not seen a sample yet, so its input shape is unknown")
        return (None, *shape)

    def export(self, filepath: str | Path, *args: Any, **options: Any) -> Any:
        """Export for inference, as ``keras.Model.export``: the shape of the samples is known where the encoder's is."""
        if not args and options.get("input_signature") is None and self._sample_shape():
            options["input_signature"] = self._signature()
            self(
                keras.tree.map_structure(lambda spec: np.zeros((1, *spec.shape[1:]), spec.dtype), self._signature()[0])
            )
        return super().export(filepath, *args, **options)

    def _signature(self) -> list[Any]:
        return [keras.InputSpec(shape=self.input_shape, dtype=self.input_dtype)]

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return super().get_config() | {"encoder": serialize(self.encoder), "decoder": serialize(self.decoder)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Autoencoder":
        deserialize = keras.saving.deserialize_keras_object
        parts = {name: deserialize(config[name]) for name in ("encoder", "decoder") if name in config}
        return cls(**(config | parts))

    # The look at the data.

    def _sample_shape(self) -> Shape | None:
        """Shape of one sample: from the encoder, else from the first data this model saw, else unknown yet."""
        seen = (self.get_build_config() or {}).get("input_shape")
        return sample_shape(self.encoder) or (tuple(seen[1:]) if seen else None)

    def _samples(self, x: Any) -> Any:
        """Return what the model is called with, checked."""
        if isinstance(x, tf.data.Dataset):
            return x.map(lambda *batch: batch[0])
        return check_samples(x, self._sample_shape())

    def _looked_at(self, x: Any, y: Any, sample_weight: Any = None) -> tuple[Any, Any]:
        """Check arrays whole, and the first batch of anything else; return the same data."""
        if _is_array(x):
            self._check_batch(x, y)
            return x, x if y is None and sample_weight is not None else y  # Keras drops the weights of no target
        first, x = _first_batch(x)
        if first is not None:
            self._check_batch(*keras.utils.unpack_x_y_sample_weight(first)[:2])
        return x, y

    def _check_batch(self, x: Any, y: Any) -> None:
        """Raise if this model cannot be trained on samples `x` and targets `y`."""
        x = check_samples(x, self._sample_shape())
        if y is not None:
            if np.shape(y) != x.shape:
                raise ValueError(
                    f"y has shape {np.shape(y)} and x has shape {x.shape}. The target of an autoencoder has the shape "
                    f"of its input: call fit(x), or fit(x, clean_x)."
                )
            check_samples(y, x.shape[1:], "y")
        target = x if y is None else np.asarray(y)
        if self._reads_probabilities():
            check_unit_range(target)
        elif _last_activation(self.decoder) is keras.activations.sigmoid:
            low, high = target[:1000].min(), target[:1000].max()  # enough for a warning
            if low < -0.5 or high > 1.5:
                warnings.warn(
                    f"the decoder ends with a sigmoid, whose outputs lie between 0 and 1, and the samples go from "
                    f"{low:g} to {high:g}: it cannot reach them. Take output_activation='linear'.",
                    stacklevel=5,
                )

    def _reads_probabilities(self) -> bool:
        """Whether the loss has no meaning for targets outside [0, 1]."""
        return _is_cross_entropy(getattr(self, "loss", None))

    def _check_class_weight(self, class_weight: Any) -> None:
        """Raise if classes are weighed: Keras looks for them in y."""
        if class_weight is not None:
            raise ValueError(
                "class_weight is given, and the target of an autoencoder is no class; give sample_weight, one number "
                "for each sample, such as np.where(labels == 1, 5.0, 1.0)"
            )

    def _check_reconstruction(self, reconstruction: Any, x: Any) -> None:
        if not compatible(reconstruction.shape[1:], x.shape[1:]):
            raise ValueError(
                f"the decoder returns samples of shape {shape_text(reconstruction.shape[1:])} for inputs of shape "
                f"{shape_text(x.shape[1:])}; the two must be equal. For images and Dense layers, begin the "
                f"encoder with Flatten() and end the decoder with Dense({math.prod(d or 1 for d in x.shape[1:])}) and "
                f"Reshape({shape_text(x.shape[1:])})."
            )


class _Left(threading.local):
    """What a forward pass leaves for the loss of its step; replicas run on threads of their own."""

    for_loss: Any = None


def _of_samples(weight: Any, y_pred: Any) -> Any:
    """Give the weights of samples as many axes as their errors have: Keras would lay them along the last."""
    if weight is None or not _is_of_samples(weight):
        return weight
    return ops.reshape(weight, (-1, *[1] * (len(y_pred.shape) - 2)))


def _is_of_samples(weight: Any) -> bool:
    return tuple(weight.shape[1:]) in ((), (1,))


def _is_mean_of_squares(loss: Any, y_pred: Any, weight: Any) -> bool:
    """Whether the loss is a plain mean over all that is squared, so that the order of features plays no part in it."""
    loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    squares = loss is keras.losses.mean_squared_error or type(loss) is keras.losses.MeanSquaredError
    mean = getattr(loss, "reduction", "sum_over_batch_size") == "sum_over_batch_size"
    return squares and mean and (weight is None or _is_of_samples(weight)) and mask_of(y_pred) is None


def _in_short_rows(target: Any, y_pred: Any, length: int = 8) -> tuple[Any, Any]:
    """Lay samples in rows of `length`, where their features can be divided so.

    XLA on a processor adds up a long row, or single numbers, one after another, and several short rows at once.
    """
    sample = y_pred.shape[1:]
    if None in sample or math.prod(sample) % length:
        return target, y_pred
    shape = -1, math.prod(sample) // length, length
    return ops.reshape(target, shape), ops.reshape(y_pred, shape)


def _is_cross_entropy(loss: Any) -> bool:
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    return loss is keras.losses.binary_crossentropy or isinstance(loss, keras.losses.BinaryCrossentropy)


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape")


def _first_batch(x: Any) -> tuple[Any, Any]:
    """Return the first batch of a dataset or generator, if arrays can hold it, and the data from the start."""
    if isinstance(x, tf.data.Dataset):
        first = next(iter(x.take(1)), None)
        if first is None:
            raise ValueError("the dataset holds no batch; give at least one sample")
    elif isinstance(x, keras.utils.PyDataset):
        first = x[0]
    elif inspect.isgenerator(x):
        first = next(x)
        x = _again(first, x)
    else:
        return None, x
    dense = all(hasattr(part, "__array__") for part in keras.tree.flatten(first) if part is not None)
    arrays = keras.tree.map_structure(lambda part: None if part is None else np.asarray(part), first) if dense else None
    return arrays, x


def _again(first: Any, rest: Iterator) -> Iterator:
    yield first
    yield from rest


def _by_name(method: Callable, positional: tuple, named: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments after x and y by their names."""
    names = list(inspect.signature(method).parameters)[3:]
    return dict(zip(names, positional, strict=False)) | named


def _last_activation(part: keras.Layer) -> Callable | None:
    """Return the activation that a Sequential or functional model ends with, apart from changes of shape."""
    stack = [part]
    while isinstance(stack[-1], keras.Model):
        inner = [layer for layer in stack[-1].layers if not isinstance(layer, layers.Reshape | layers.Flatten)]
        if not inner:
            return None
        stack.append(inner[-1])
    return getattr(stack[-1], "activation", None)
