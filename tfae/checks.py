"""One readable error for each thing that can be wrong: what was given, what is accepted, what to do."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Shape = tuple[int | None, ...]
FLOAT32 = float(np.finfo("float32").max)


def check_size(value: Any, name: str) -> int:
    """Return `value` if it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
    return int(value)


def check_number(value: Any, name: str, low: float, high: float = math.inf, *, open_ends: bool = False) -> float:
    """Return `value` as a float if it lies in [low, high], or in (low, high) with `open_ends`."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not (low < value < high if open_ends else low <= value <= high):
        left, right = "()" if open_ends else "[]"
        raise ValueError(f"{name} is {value!r}; it must be a number in {left}{low:g}, {high:g}{right}")
    return float(value)


def check_seed(seed: Any) -> int:
    """Return `seed` if it is a whole number from 0 to 2³¹ - 1, the largest that all random generators take."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**31:
        raise ValueError(f"seed is {seed!r}; it must be a whole number from 0 to {2**31 - 1}")
    return int(seed)


def check_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return the shape of one sample as a tuple of whole numbers of at least 1."""
    sizes = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    if not sizes:
        raise ValueError("input_shape is empty; give the shape of one sample, such as (28, 28, 1) or 30")
    return tuple(check_size(size, "a size in input_shape") for size in sizes)


def check_samples(x: Any, shape: Shape | None, name: str = "x") -> np.ndarray:
    """Return samples as an array, checked.

    Parameters
    ----------
    x : array, tensor or DataFrame of numbers
    shape : tuple or None
        Of one sample; None in it, or for it, takes any size.
    name : str
        What the errors call it.

    Raises
    ------
    ValueError
        If it holds no numbers (columns of a frame are named), has another shape, is empty, or holds numbers that are
        NaN, infinite or become so in float32, in which networks compute.
    """
    x = _array(x, name)
    wanted = "(n, features) or (n, height, width, channels)" if shape is None else shape_text(("n", *shape))
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {x.dtype}; it must hold real numbers")
    if x.ndim < 2 or (shape is not None and not compatible(x.shape[1:], shape)):
        hint = ""
        if shape is not None and compatible(x.shape, shape):
            hint = f" For a single sample, give {name}[np.newaxis]."
        elif shape is not None and compatible((*x.shape[1:], 1), shape):
            hint = f" For grey images, give {name}[..., np.newaxis]."
        elif shape is not None and x.ndim > 1 and math.prod(x.shape[1:]) == math.prod(size or 0 for size in shape):
            hint = f" The number of values is right: give {name}.reshape({shape_text((-1, *shape))})."
        raise ValueError(f"{name} has shape {x.shape}; this model takes {wanted}.{hint}")
    if x.size == 0:
        raise ValueError(f"{name} is empty: its shape is {x.shape}. Give at least one sample.")
    if x.dtype.kind == "f":
        _check_finite(x, name)
    return x


def _check_finite(x: np.ndarray, name: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        if x.dtype.itemsize <= 4 and np.isfinite(x.sum()):  # NaN and infinity stay in a sum, which is quick to take
            return
    bad, fault = ~np.isfinite(x), "are NaN or infinite"
    if not bad.any() and x.dtype.itemsize > 4:
        bad, fault = np.abs(x) > FLOAT32, f"are beyond {FLOAT32:.3g}, the largest that float32 holds"
    if bad.any():
        places = np.argwhere(bad)
        first = tuple(int(i) for i in places[0])
        raise ValueError(
            f"{name} holds {len(places)} values that {fault}, the first at {first}; remove, replace or scale them"
        )


def _array(x: Any, name: str) -> np.ndarray:
    """Return `x` as an array; the columns of a frame that hold no plain numbers are named, and missing ones are NaN."""
    if not (hasattr(x, "columns") and hasattr(x, "dtypes")):
        return np.asarray(x)
    bad = [str(column) for column, dtype in zip(x.columns, x.dtypes, strict=True) if dtype.kind not in "biuf"]
    if bad:
        raise ValueError(
            f"the columns {', '.join(bad)} of {name} hold no numbers; encode them as numbers, for instance "
            f"one-hot with pandas.get_dummies({name})"
        )
    return x.to_numpy(dtype="float64", na_value=np.nan)


def check_inputs(model: Any, x: Any, name: str = "x") -> np.ndarray:
    """Return `x` as float32 if it holds samples that `model` takes, where Keras knows what it takes."""
    if isinstance(x, tuple):
        raise ValueError(
            f"{name} is a tuple, and this looks at one input; of a model with several, give a part that has one, such "
            f"as its encoder"
        )
    shape = getattr(model, "input_shape", None)
    return check_samples(x, tuple(shape[1:]) if isinstance(shape, tuple) else None, name).astype("float32")


def check_table(x: Any, name: str, what: str = "(n, columns)") -> np.ndarray:
    """Return `x` as float64, exact enough to compare distances, if it is a table of finite numbers."""
    x = np.asarray(x)
    if x.ndim != 2:
        raise ValueError(f"{name} has shape {x.shape}; it must be {what}: {name}.reshape(len({name}), -1)?")
    return check_samples(x, None, name).astype("float64")


def check_unit_range(x: np.ndarray) -> None:
    """Raise if `x` leaves [0, 1], where a binary cross-entropy has no meaning."""
    low, high = x.min(), x.max()
    if low < 0 or high > 1:
        raise ValueError(
            f"a binary cross-entropy needs targets in [0, 1]; these go from {low:g} to {high:g}. Divide 8-bit images "
            f"by 255, or train on 'mse'."
        )


def compatible(shape: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether two shapes agree, None standing for any size."""
    return len(shape) == len(other) and all(a is None or b is None or a == b for a, b in zip(shape, other, strict=True))


def shape_text(shape: Sequence[Any]) -> str:
    """Write a shape as Python does, with "any" for None."""
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"


def check_segments(segments: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return `segments` as an array if it numbers, from 0, the segment of each feature of a sample of `shape`."""
    segments = np.asarray(segments)
    if segments.shape != shape or segments.dtype.kind not in "iu":
        raise ValueError(
            f"segments has shape {segments.shape} and dtype {segments.dtype}; give one whole number for each feature "
            f"of a sample, shape {shape_text(shape)}"
        )
    there = np.unique(segments)
    if not np.array_equal(there, np.arange(len(there))):
        raise ValueError(f"segments must be numbered 0, 1, 2, ... without gaps; there are {there[:9]} ...")
    return segments
