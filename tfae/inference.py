"""Ask a network about many samples: as it answers outside training, a batch at a time, and never with NaN.

Every analysis of this package asks through these functions, so that all of them run a network in the same way and say
the same when an answer is no number.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfae.checks import Shape, check_size


def inference(network: Callable) -> Callable:
    """Return `network` as it runs outside training: a layer, or a callable that takes ``training``, is told so.

    Without the word a subclassed layer follows its own default, and some authors write ``training=True``.
    """
    if isinstance(network, keras.Layer) or _takes_training(network):
        return lambda x: network(x, training=False)
    return network


def in_batches(function: Callable, x: Any, batch_size: int) -> np.ndarray:
    """Return what `function` answers for `x`, asked `batch_size` samples at a time.

    Half precision, in which networks may compute, comes as float32: NumPy would add up means in it.

    Parameters
    ----------
    function : callable
        Maps a batch to an array or tensor whose first axis is samples.
    x : array, tuple of arrays, or tf.data.Dataset
        Of a dataset the batches are its own, and of its pairs ``(x, y)`` the first part is asked about.
    batch_size : int

    Raises
    ------
    ValueError
        If `batch_size` is not a whole number of at least 1, or a dataset holds no batch.
    """
    parts = [_at_least_float32(np.asarray(function(batch))) for batch in batches(x, batch_size)]
    if not parts:
        raise ValueError("the dataset holds no batch; give at least one sample")
    return np.concatenate(parts)


def numbers(function: Callable, x: Any, batch_size: int, name: str | None = None) -> np.ndarray:
    """Return one finite number for each sample of `x`, shape ``(n,)``, in float32 at least.

    Parameters
    ----------
    function : callable
        Maps a batch of n samples to n numbers, shape ``(n,)`` or ``(n, 1)``.
    x, batch_size
        As in `in_batches`.
    name : str, optional
        What the errors call the function; its own name if not given.

    Raises
    ------
    ValueError
        If it returns something else than one number for each sample, or NaN or infinity.
    """
    name = name or name_of(function)

    def checked(batch: Any) -> np.ndarray:
        n, answer = len(keras.tree.flatten(batch)[0]), function(batch)
        outputs = keras.tree.flatten(answer)
        if isinstance(answer, dict | list | tuple) and any(np.ndim(output) for output in outputs):
            raise ValueError(
                f"{name} returns a {type(answer).__name__} of {len(outputs)} outputs; it must return one number for "
                f"each sample, shape ({n},). Pick one: lambda x: model(x)[0][:, 3]."
            )
        values = np.asarray(answer)
        if values.shape not in ((n,), (n, 1)):
            raise ValueError(
                f"{name} returns shape {values.shape} for {n} samples; it must return one number for each, shape "
                f"({n},). Pick one output: lambda x: model(x)[:, 3], or targets.output(model, 3)."
            )
        return values.reshape(n)

    return check_finite(in_batches(checked, x, batch_size), name)


def check_finite(values: np.ndarray, name: str) -> np.ndarray:
    """Return `values` if all of them are finite; `name` says whose answers they are."""
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise ValueError(
            f"{name} returns NaN or infinity: {bad} of {values.size} values. Look at its weights and at the range of "
            f"the samples it is given."
        )
    return values


def batches(x: Any, batch_size: int) -> Iterator[Any]:
    """Go through the samples of an array, of each array of a tuple, or of a dataset, in batches."""
    check_size(batch_size, "batch_size")
    if isinstance(x, tf.data.Dataset):
        yield from (batch[0] if isinstance(batch, tuple) else batch for batch in x)
        return
    for start in range(0, len(keras.tree.flatten(x)[0]), batch_size):
        rows = slice(start, start + batch_size)
        yield keras.tree.map_structure(lambda part, rows=rows: part[rows], x)


def sample_shape(part: Any) -> Shape | None:
    """Return the shape of one sample that a layer takes, or None where Keras cannot know it (yet)."""
    shape = getattr(part, "input_shape", None)
    if shape is None and isinstance(part, keras.Layer):
        shape = (part.get_build_config() or {}).get("input_shape")
    if not isinstance(shape, tuple | list) or not all(size is None or isinstance(size, int) for size in shape):
        return None  # unknown, or of several inputs
    return tuple(shape[1:])


def name_of(function: Any) -> str:
    """Return what messages and tables call a target, a model or a function."""
    return str(getattr(function, "name", None) or getattr(function, "__name__", type(function).__name__))


def _at_least_float32(values: np.ndarray) -> np.ndarray:
    half = values.dtype in (np.float16, tf.bfloat16.as_numpy_dtype)
    return values.astype("float32") if half else values


def _takes_training(network: Any) -> bool:
    try:
        return "training" in inspect.signature(network).parameters
    except (TypeError, ValueError):  # some built-in functions have no signature
        return False
