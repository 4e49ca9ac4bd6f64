"""Autoencoders: two Keras models joined at a code (chapters 01 to 03).

>>> autoencoder = dense_autoencoder((28, 28, 1), code_size=32, seed=0)
>>> autoencoder.compile("adam", "mse")
>>> history = autoencoder.fit(x_train, epochs=10)  # doctest: +SKIP
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any

import keras
import numpy as np
from keras import layers

from tfae.checks import (
    Shape,
    check_samples,
    check_seed,
    check_shape,
    check_size,
    check_unit_range,
    compatible,
    shape_text,
)


@keras.saving.register_keras_serializable("tfae")
class Autoencoder(keras.Model):
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
        training step, if the data given to ``fit`` or ``evaluate`` are empty, of the wrong shape, not finite, or
        outside [0, 1] while the loss is a binary cross-entropy.

    Notes
    -----
    Chapter 01 introduces the model, chapter 02 what it minimises, chapter 03 how it is trained.
    """

    def __init__(self, encoder: keras.Layer, decoder: keras.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, part in (("encoder", encoder), ("decoder", decoder)):
            if not isinstance(part, keras.Layer):
                raise ValueError(f"the {name} must be a Keras layer or model, not {type(part).__name__}: {part!r}")
        self.encoder = encoder
        self.decoder = decoder
        self.built = encoder.built and decoder.built  # else Keras builds all of it at the first call

    def call(self, x: Any, training: bool | None = None) -> Any:
        reconstruction = self.decoder(self.encoder(x, training=training), training=training)
        if not compatible(reconstruction.shape[1:], x.shape[1:]):
            raise ValueError(
                f"the decoder returns samples of shape {shape_text(reconstruction.shape[1:])} for inputs of shape "
                f"{shape_text(x.shape[1:])}; the two must be equal. For images and Dense layers, begin the "
                f"encoder with Flatten() and end the decoder with Dense({math.prod(d or 1 for d in x.shape[1:])}) and "
                f"Reshape({shape_text(x.shape[1:])})."
            )
        return reconstruction

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        return super().compute_loss(x, x if y is None else y, y_pred, sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        return super().compute_metrics(x, x if y is None else y, y_pred, sample_weight)

    # Keras's fit and evaluate, after one look at the data.

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        self._check_targets(x, y)
        validation = kwargs.get("validation_data")
        if validation is not None:
            self._check_targets(*(validation[:2] if isinstance(validation, tuple) else (validation, None)))
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        self._check_targets(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def encode(self, x: Any, batch_size: int = 1024) -> np.ndarray:
        """Return the codes of `x`, shape ``(n, *code_shape)``, computed `batch_size` samples at a time."""
        return _in_batches(self.encoder, check_samples(x, self._sample_shape()), batch_size)

    def decode(self, z: Any, batch_size: int = 1024) -> np.ndarray:
        """Return the decoder's outputs for the codes `z`, shape ``(n, *input_shape)``."""
        return _in_batches(self.decoder, check_samples(z, _input_shape(self.decoder), "z"), batch_size)

    def reconstruct(self, x: Any, batch_size: int = 1024) -> np.ndarray:
        """Return what the model makes of `x`, in the same shape."""
        return _in_batches(self, check_samples(x, self._sample_shape()), batch_size)

    def reconstruction_error(self, x: Any, batch_size: int = 1024) -> np.ndarray:
        """Return the squared error of each sample, averaged over its features as in Keras's ``mse``; shape ``(n,)``.

        Multiply by the number of features for the squared distance. Memory is bounded by `batch_size`, not by `x`.
        """

        def error(batch: np.ndarray) -> Any:
            squares = keras.ops.square(self(batch) - batch)
            return keras.ops.mean(squares, axis=tuple(range(1, batch.ndim)))

        return _in_batches(error, check_samples(x, self._sample_shape()), batch_size)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return super().get_config() | {"encoder": serialize(self.encoder), "decoder": serialize(self.decoder)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Autoencoder":
        deserialize = keras.saving.deserialize_keras_object
        parts = {name: deserialize(config[name]) for name in ("encoder", "decoder")}
        return cls(**(config | parts))

    def _sample_shape(self) -> Shape | None:
        """Shape of one sample: from the encoder, else from the first data this model saw, else unknown yet."""
        seen = (self.get_build_config() or {}).get("input_shape")
        return _input_shape(self.encoder) or (tuple(seen[1:]) if seen else None)

    def _check_targets(self, x: Any, y: Any) -> None:
        if not _is_array(x):
            return  # a tf.data.Dataset or a generator is read batch by batch, and Keras checks its shapes
        x = check_samples(x, self._sample_shape())
        if y is not None and np.shape(y) != x.shape:
            raise ValueError(
                f"y has shape {np.shape(y)} and x has shape {x.shape}. The target of an autoencoder has the shape of "
                f"its input: call fit(x), or fit(x, clean_x)."
            )
        if _is_cross_entropy(getattr(self, "loss", None)):
            check_unit_range(x if y is None else np.asarray(y))


# --- builders --------------------------------------------------------------------------------------------------------


def linear_autoencoder(input_shape: int | Sequence[int], code_size: int, *, seed: int | None = None) -> Autoencoder:
    """Build an autoencoder of one linear layer each way, the network whose optimum is PCA (chapter 02).

    Parameters
    ----------
    input_shape : int or tuple of int
        Shape of one sample, ``(28, 28, 1)`` or ``30``.
    code_size : int
        Number of code units.
    seed : int, optional
        Fixes the initial weights. Without it they follow ``keras.utils.set_random_seed``.

    References
    ----------
    .. [1] P. Baldi and K. Hornik, "Neural networks and principal component analysis", Neural Networks 2, 1989.
    """
    return dense_autoencoder(input_shape, code_size, hidden=(), output_activation="linear", seed=seed)


def dense_autoencoder(
    input_shape: int | Sequence[int],
    code_size: int,
    hidden: Sequence[int] = (128, 64),
    *,
    activation: str | Callable = "relu",
    output_activation: str | Callable = "sigmoid",
    seed: int | None = None,
) -> Autoencoder:
    """Build an autoencoder of dense layers, Sequential on both sides of a linear code (chapters 00 to 03).

    Parameters
    ----------
    input_shape : int or tuple of int
        Shape of one sample; images are flattened on the way in and put back into shape on the way out.
    code_size : int
        Number of code units.
    hidden : sequence of int
        Widths of the encoder's hidden layers; the decoder has the same in reverse.
    activation, output_activation : str or callable
        Of the hidden layers, and of the output: ``"sigmoid"`` keeps it in [0, 1], ``"linear"`` suits
        standardised tables.
    seed : int, optional
        Fixes the initial weights. Without it they follow ``keras.utils.set_random_seed``.

    Raises
    ------
    ValueError
        If a size is not a whole number of at least 1, or an activation is unknown to Keras.
    """
    shape, code_size = check_shape(input_shape), check_size(code_size, "code_size")
    widths = [check_size(width, "a width in hidden") for width in hidden]
    initializer = _initializers(seed)

    encoder = keras.Sequential(
        [
            keras.Input(shape),
            layers.Flatten(),
            *(_dense(width, activation, initializer) for width in widths),
            _dense(code_size, "linear", initializer, name="code"),
        ],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            keras.Input((code_size,)),
            *(_dense(width, activation, initializer) for width in reversed(widths)),
            _dense(math.prod(shape), output_activation, initializer, name="reconstruction"),
            layers.Reshape(shape),
        ],
        name="decoder",
    )
    return Autoencoder(encoder, decoder)


def conv_autoencoder(
    input_shape: Sequence[int],
    code_size: int,
    filters: Sequence[int] = (16, 32),
    *,
    activation: str | Callable = "relu",
    output_activation: str | Callable = "sigmoid",
    seed: int | None = None,
) -> Autoencoder:
    """Build a convolutional autoencoder for images (chapter 04).

    Each of the encoder's convolutions halves height and width; the decoder's transposed convolutions double them.

    Parameters
    ----------
    input_shape : tuple of int
        Height, width and channels; height and width must be divisible by ``2 ** len(filters)``.
    code_size : int
        Number of code units, between the two dense layers in the middle.
    filters : sequence of int
        Channels after each convolution of the encoder; the decoder has the same in reverse.
    activation, output_activation, seed
        As in `dense_autoencoder`.

    Raises
    ------
    ValueError
        If the shape is not that of an image or not divisible, a size is not a whole number of at least 1, or an
        activation is unknown to Keras.
    """
    shape, code_size = check_shape(input_shape), check_size(code_size, "code_size")
    channels = [check_size(count, "a count in filters") for count in filters]
    halvings = 2 ** len(channels)
    if not channels:
        raise ValueError("filters is empty; give at least one convolution, or use dense_autoencoder")
    if len(shape) != 3 or shape[0] % halvings or shape[1] % halvings:
        raise ValueError(
            f"input_shape is {shape}; a convolutional autoencoder with filters={tuple(filters)} takes "
            f"(height, width, channels) with height and width divisible by {halvings}. Pad the images or use fewer "
            f"filters."
        )
    initializer = _initializers(seed)
    grid = (shape[0] // halvings, shape[1] // halvings, channels[-1])

    def conv(layer: type[keras.Layer], count: int, activation: str | Callable) -> keras.Layer:
        kernel = {"kernel_size": 3, "strides": 2, "padding": "same", "kernel_initializer": next(initializer)}
        return layer(count, activation=_activation(activation), **kernel)

    encoder = keras.Sequential(
        [
            keras.Input(shape),
            *(conv(layers.Conv2D, count, activation) for count in channels),
            layers.Flatten(),
            _dense(code_size, "linear", initializer, name="code"),
        ],
        name="encoder",
    )
    decoder = keras.Sequential(
        [
            keras.Input((code_size,)),
            _dense(math.prod(grid), activation, initializer),
            layers.Reshape(grid),
            *(conv(layers.Conv2DTranspose, count, activation) for count in reversed(channels[:-1])),
            conv(layers.Conv2DTranspose, shape[2], output_activation),
        ],
        name="decoder",
    )
    return Autoencoder(encoder, decoder)


def _dense(
    units: int, activation: str | Callable, initializer: Iterator[keras.Initializer], name: str | None = None
) -> layers.Dense:
    return layers.Dense(units, _activation(activation), kernel_initializer=next(initializer), name=name)


def _initializers(seed: int | None) -> Iterator[keras.Initializer]:
    """Give each layer a seed of its own: one seed for all would start layers of equal shape with equal weights."""
    if seed is None:
        return (keras.initializers.GlorotUniform() for _ in repeat(None))
    generator = np.random.default_rng(check_seed(seed))
    return (keras.initializers.GlorotUniform(int(generator.integers(2**31))) for _ in repeat(None))


def _activation(activation: str | Callable) -> Callable:
    try:
        return keras.activations.get(activation)
    except ValueError as error:
        known = sorted(name for name in dir(keras.activations) if name.islower() and not name.startswith("_"))
        known = [name for name in known if name not in ("get", "serialize", "deserialize")]
        raise ValueError(f"unknown activation {activation!r}; the known ones are {', '.join(known)}") from error


# --- small things the models share -----------------------------------------------------------------------------------


def _is_cross_entropy(loss: Any) -> bool:
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    return loss is keras.losses.binary_crossentropy or isinstance(loss, keras.losses.BinaryCrossentropy)


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape")


def _input_shape(part: keras.Layer) -> Shape | None:
    """Shape of one sample that `part` takes, or None where Keras cannot know it yet."""
    shape = getattr(part, "input_shape", None)
    return tuple(shape[1:]) if isinstance(shape, tuple) and shape and not isinstance(shape[0], tuple) else None


def _in_batches(function: Callable, x: np.ndarray, batch_size: int) -> np.ndarray:
    check_size(batch_size, "batch_size")
    starts = range(0, len(x), batch_size)
    return np.concatenate([np.asarray(function(x[start : start + batch_size])) for start in starts])
