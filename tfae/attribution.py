"""How much each input counts for an output, a code, an error: gradients and what is made of them (chapter 08)."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfae.checks import check_samples, check_size


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
    check_size(batch_size, "batch_size")
    x = _samples(model, x)
    outputs = model(tf.constant(x[:1]))
    if outputs.shape[0] != 1:
        raise ValueError(
            f"the model returns shape {tuple(outputs.shape)} for one sample; its first axis must be samples"
        )
    n_outputs = math.prod(outputs.shape[1:])
    answer = np.empty((len(x) * n_outputs, *x.shape[1:]), "float32")
    for start in range(0, len(answer), batch_size):
        sample, unit = np.divmod(np.arange(start, min(start + batch_size, len(answer))), n_outputs)
        batch = tf.constant(x[sample])
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(batch)
            asked = tf.gather(tf.reshape(model(batch), (-1, n_outputs)), unit, batch_dims=1)  # (batch_size,)
        gradient = tape.gradient(asked, batch)
        if gradient is None:
            raise ValueError("the outputs do not depend on x: there is nothing to differentiate")
        answer[start : start + batch_size] = gradient
    return answer.reshape(len(x), *outputs.shape[1:], *x.shape[1:])


def _samples(model: Any, x: Any) -> np.ndarray:
    """Return `x` as float32 if it holds samples that `model` takes, where Keras knows what it takes."""
    shape = getattr(model, "input_shape", None)
    return check_samples(x, tuple(shape[1:]) if isinstance(shape, tuple) else None).astype("float32")
