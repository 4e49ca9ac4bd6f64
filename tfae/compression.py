"""Codes as files: quantiser, entropy coder, rate and distortion (chapter 13).

A code is a short description, but 32 floats are 128 bytes. Three steps make a file of it: divide by a step and round,
learn how often each whole number comes, and spend few bits on frequent ones. The receiver has the decoder network; all
else is in the bytes, and all bytes are counted.

>>> data = compress(autoencoder.encode(x), step=0.5)  # doctest: +SKIP
>>> x_hat = autoencoder.decode(decompress(data))  # doctest: +SKIP
>>> 8 * len(data) / len(x)  # bits per sample  # doctest: +SKIP
"""

import io
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from scipy.interpolate import PchipInterpolator
from scipy.special import gammaln

from tfae.checks import check_number, check_samples, check_size, check_table
from tfae.inference import check_finite

# --- the entropy coder -----------------------------------------------------------------------------------------------

_WORD, _BITS = 1 << 48, 40  # the interval holds up to 48 bits and is widened by a byte when 40 are left
_BYTES = 6  # of a word


class Frequencies:
    """How often each symbol came so far, plus one: the model that coder and decoder both learn as they go.

    Parameters
    ----------
    size : int
        Symbols are 0 to size - 1.
    """

    def __init__(self, size: int) -> None:
        self.counts = [1] * size
        self.total = size

    def interval(self, symbol: int) -> tuple[int, int]:
        """Return where the symbol's share of `total` begins, and how wide it is."""
        return sum(self.counts[:symbol]), self.counts[symbol]

    def symbol_at(self, position: int) -> int:
        """Return the symbol whose share `position` is in."""
        symbol = start = 0
        while start + self.counts[symbol] <= position:
            start += self.counts[symbol]
            symbol += 1
        return symbol

    def update(self, symbol: int) -> None:
        self.counts[symbol] += 1
        self.total += 1


def encode(symbols: Any, sizes: Sequence[int]) -> bytes:
    """Write whole numbers as bytes with a range coder [1]_: an interval is narrowed to each symbol's share in turn.

    Each column has its own `Frequencies`, which start equal and count what was seen. The length is within a few bytes
    of `ideal_bits`, whatever the symbols are.

    Parameters
    ----------
    symbols : array of int, shape (n, columns)
        From 0 to ``sizes[column] - 1``.
    sizes : sequence of int
        How many different symbols each column may hold.

    Raises
    ------
    ValueError
        If a symbol is out of range.

    References
    ----------
    .. [1] G. N. N. Martin, "Range encoding: an algorithm for removing redundancy from a digitised message", Video and
       Data Recording Conference, Southampton, 1979.
    """
    table = _check_symbols(symbols, sizes)
    models, data = [Frequencies(size) for size in sizes], bytearray()
    low, width = 0, _WORD
    for row in table.tolist():
        for symbol, model in zip(row, models, strict=True):
            start, share = model.interval(symbol)
            unit = width // model.total
            low, width = low + unit * start, unit * share
            model.update(symbol)
            if low >= _WORD:  # carry into the bytes already written
                low -= _WORD
                _add_one(data)
            while width <= 1 << _BITS:
                data.append(low >> _BITS)
                low, width = (low << 8) % _WORD, width << 8
    # Any number of the interval will do; the decoder reads zeros beyond the end, so we take the one with most of them.
    for bits in range(_BITS, -1, -8):
        last = -(-low >> bits) << bits
        if last < low + width:
            break
    if last >= _WORD:
        last -= _WORD
        _add_one(data)
    return bytes(data + last.to_bytes(_BYTES)).rstrip(b"\0")


def decode(data: bytes, n: int, sizes: Sequence[int]) -> np.ndarray:
    """Return the symbols that `encode` wrote, shape ``(n, columns)``.

    A range coder gives *some* symbols for any bytes. `decompress` checks that they are the ones that were written.
    """
    models, table = [Frequencies(size) for size in sizes], np.empty((n, len(sizes)), np.int64)
    inside, width, read = int.from_bytes(data[:_BYTES].ljust(_BYTES, b"\0")), _WORD, _BYTES
    for i in range(n):
        for j, model in enumerate(models):
            unit = width // model.total
            symbol = model.symbol_at(min(inside // unit, model.total - 1))
            start, share = model.interval(symbol)
            inside, width = inside - unit * start, unit * share
            model.update(symbol)
            table[i, j] = symbol
            while width <= 1 << _BITS:
                inside = inside << 8 | (data[read] if read < len(data) else 0)
                width, read = width << 8, read + 1
    return table


def ideal_bits(symbols: Any, sizes: Sequence[int]) -> float:
    r"""Return the bits that `encode` would need if bytes could be split: -log2 of the probability it gives the symbols.

    With counts :math:`n_s` of the m symbols of a column it is :math:`\log_2 (n + m - 1)! / ((m - 1)! \prod n_s!)`: the
    entropy of the column, and about :math:`\frac{m - 1}{2} \log_2 n` for learning its frequencies.
    """
    table, nats = _check_symbols(symbols, sizes), 0.0
    for column, size in zip(table.T, sizes, strict=True):
        counts = np.bincount(column, minlength=size)
        nats += gammaln(len(column) + size) - gammaln(size) - gammaln(counts + 1).sum()
    return float(nats / math.log(2))


def entropy_bits(symbols: Any) -> float:
    """Return n times the empirical entropy of each column, in bits: no coder that codes one symbol by one can use less.

    The frequencies themselves are not paid for, so a real file is longer.
    """
    total = 0.0
    for column in np.asarray(symbols).T:
        counts = np.unique(column, return_counts=True)[1]
        total -= np.sum(counts * np.log2(counts / len(column)))
    return float(total)


def _add_one(data: bytearray) -> None:
    place = len(data) - 1
    while data[place] == 255:
        data[place] = 0
        place -= 1
    data[place] += 1


def _check_symbols(symbols: Any, sizes: Sequence[int]) -> np.ndarray:
    table = np.asarray(symbols)
    if table.ndim != 2 or table.shape[1] != len(sizes) or table.dtype.kind not in "iu":
        raise ValueError(
            f"symbols have shape {table.shape} and dtype {table.dtype}; give whole numbers of shape (n, {len(sizes)}), "
            f"one column for each size"
        )
    if len(table) and ((table < 0).any() or (table.max(axis=0) >= np.asarray(sizes)).any()):
        raise ValueError("a symbol is below 0 or not below the size of its column")
    return table


# --- codes as bytes --------------------------------------------------------------------------------------------------

_MOST, _FARTHEST = 4096, 32767  # values of a code unit; steps from 0. Finer than that, nothing here needs.
_UNITS = 65_535  # their number takes two bytes


def quantise(z: Any, step: float) -> np.ndarray:
    """Return codes as whole numbers of steps, rounded: int64, in the shape of `z`.

    Raises
    ------
    ValueError
        If a code is not finite, or more than 32,767 steps from 0.
    """
    steps = np.rint(check_samples(z, None, "z") / check_number(step, "step", 0, open_ends=True))
    if np.abs(steps).max() > _FARTHEST:
        raise ValueError(
            f"with a step of {step:g} the codes go from {steps.min():g} to {steps.max():g} steps; at most {_FARTHEST} "
            f"can be written. Use a larger step, or subtract the mean."
        )
    return steps.astype(np.int64)


def compress(z: Any, step: float) -> bytes:
    """Write codes as bytes, each value rounded to a multiple of `step`.

    The bytes hold all that `decompress` needs: a checksum, the numbers of samples and units, the step, the smallest
    value and the number of values of each unit (4 bytes a unit), and the coded symbols.

    Parameters
    ----------
    z : array, shape (n, units)
    step : float
        Width of a quantisation step, above 0: the same for all units, as is best for the mean squared error of PCA
        coefficients at any but the lowest rates [1]_.

    Raises
    ------
    ValueError
        If `z` is not finite codes, has more than 65,535 units, or the step is so small that a unit takes more than
        4,096 values; also as in `quantise`.

    References
    ----------
    .. [1] H. Gish and J. N. Pierce, "Asymptotically efficient quantizing", IEEE Transactions on Information Theory
       14(5), 1968.
    """
    smallest, largest = float(np.finfo("float32").tiny), float(np.finfo("float32").max)
    step = float(np.float32(check_number(step, "step", smallest, largest)))  # as it is written
    z = check_table(z, "z", "(n, units)")
    if z.shape[1] > _UNITS:
        raise ValueError(f"z has {z.shape[1]} units; at most {_UNITS} can be written. Compress a shorter code.")
    table = quantise(z, step)
    lowest, sizes = table.min(axis=0), np.ptp(table, axis=0) + 1
    if sizes.max() > _MOST:
        raise ValueError(
            f"with a step of {step:g} a unit takes up to {sizes.max()} values; at most {_MOST} can be written. Use a "
            f"larger step."
        )
    n, units = table.shape
    head = struct.pack("<IHf", n, units, step) + lowest.astype("<i2").tobytes() + sizes.astype("<u2").tobytes()
    body = head + encode(table - lowest, sizes.tolist())
    return struct.pack("<I", zlib.crc32(body)) + body


def decompress(data: bytes) -> np.ndarray:
    """Return the rounded codes that `compress` wrote, float32 of shape ``(n, units)``.

    Raises
    ------
    ValueError
        If a byte is missing or wrong.
    """
    body = bytes(data[4:])
    if len(data) < 14 or struct.unpack("<I", data[:4]) != (zlib.crc32(body),):
        raise ValueError(f"these {len(data)} bytes are cut short, damaged, or were not made by compress")
    n, units, step = struct.unpack_from("<IHf", body)
    lowest = np.frombuffer(body, "<i2", units, 10).astype(np.int64)
    sizes = np.frombuffer(body, "<u2", units, 10 + 2 * units).tolist()
    return ((decode(body[10 + 4 * units :], n, sizes) + lowest) * step).astype("float32")


# --- rate and distortion ---------------------------------------------------------------------------------------------

_SHEET = 65_500  # pixels that a JPEG may have on a side


@dataclass(frozen=True)
class Rate:
    """What a file costs and what comes out of it.

    Attributes
    ----------
    setting : float
        The step or the quality it was made with.
    n_bytes : int
        Length of the file, everything included.
    bits_per_pixel : float
        8 times `n_bytes`, divided by the number of pixels. A pixel of images ``(n, height, width, channels)`` is all of
        its channels; of samples of any other shape it is one value.
    mse : float
        Mean squared error of the values of the images made from the file.
    """

    setting: float
    n_bytes: int
    bits_per_pixel: float
    mse: float

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in decibels, for values in [0, 1]: 10 dB is a tenth of the squared error.

        Infinity where nothing was lost.
        """
        return -10 * math.log10(self.mse) if self.mse else math.inf


def rates(encode: Callable, decode: Callable, x: Any, step_sizes: Sequence[float]) -> list[Rate]:
    """Compress `x` with each step, read the bytes again, and measure what was spent and what was lost.

    Parameters
    ----------
    encode, decode : callable
        Samples to codes ``(n, units)`` and back: ``autoencoder.encode`` and ``autoencoder.decode``, or those of a PCA.
        They are the receiver's knowledge and are not counted.
    x : array, shape (n, *sample)
        Held-out samples in [0, 1]; the decoded ones are clipped to it.
    step_sizes : sequence of float
        Widths of the quantiser, as `step` in `compress`.

    Raises
    ------
    ValueError
        If samples leave [0, 1], if `decode` does not return finite samples of their shape, or as in `compress`.
    """
    x = _check_images(x)
    z, found = encode(x), []
    for step in step_sizes:
        data = compress(z, step)
        decoded = check_finite(np.asarray(decode(decompress(data))), "decode")
        if len(decoded) != len(x) or decoded.size != x.size:
            raise ValueError(f"decode returns shape {decoded.shape} for samples of shape {x.shape}; the two must agree")
        found.append(_rate(step, data, x, decoded))
    return found


def jpeg_rates(x: Any, qualities: Sequence[int], *, columns: int = 20) -> list[Rate]:
    """Compress all images as one sheet of JPEG [1]_ for each quality.

    One sheet shares one header and one set of tables: image by image, JPEG would spend most of its bytes on these. Each
    image is padded to a multiple of 8 by repeating its edge, so that no block holds two images. Colours are kept at
    full resolution (4:4:4): at half of it, decoders mix those of neighbouring images.

    Parameters
    ----------
    x : array, shape (n, height, width), (n, height, width, 1) or (n, height, width, 3)
        Grey or RGB images in [0, 1].
    qualities : sequence of int
        From 1 to 95.
    columns : int
        Images side by side.

    Raises
    ------
    ValueError
        If `x` is not such images, a quality is not a whole number from 1 to 95, or the sheet would be larger than JPEG
        allows, 65,500 pixels a side.

    References
    ----------
    .. [1] G. K. Wallace, "The JPEG still picture compression standard", Communications of the ACM 34(4), 1991.
    """
    x = _check_images(x)
    if x.ndim not in (3, 4) or x.shape[3:] not in ((), (1,), (3,)):
        raise ValueError(
            f"x has shape {x.shape}; JPEG takes grey images, (n, height, width) or (n, height, width, 1), and RGB "
            f"images, (n, height, width, 3)"
        )
    for quality in qualities:
        if check_size(quality, "quality") > 95:
            raise ValueError(f"quality is {quality}; it must be a whole number from 1 to 95")
    n, height, width = x.shape[:3]
    colours = x.shape[3:] if x.shape[3:] == (3,) else ()
    columns = min(check_size(columns, "columns"), n)
    rows, down, right = -(-n // columns), -height % 8, -width % 8
    shape = rows * (height + down), columns * (width + right)
    if max(shape) > _SHEET:
        raise ValueError(
            f"{n} images, {columns} side by side, make a sheet of {shape[0]} x {shape[1]} pixels; JPEG takes {_SHEET} "
            f"a side. Give fewer images, or another number of columns."
        )
    padding = ((0, rows * columns - n), (0, down), (0, right), *((0, 0) for _ in colours))
    tiles = np.pad(x.reshape(n, height, width, *colours), padding, mode="edge")
    sheet = tiles.reshape(rows, columns, height + down, width + right, *colours).swapaxes(1, 2)
    pixels = np.rint(255 * sheet.reshape(*shape, *colours)).astype(np.uint8)
    found = []
    for quality in qualities:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "jpeg", quality=int(quality), subsampling="4:4:4", optimize=True)
        decoded = np.asarray(Image.open(file), "float32").reshape(sheet.shape) / 255
        images = decoded.swapaxes(1, 2).reshape(tiles.shape)[:n, :height, :width]
        found.append(_rate(quality, file.getvalue(), x, images))
    return found


def bd_rate(curve: Sequence[Rate], reference: Sequence[Rate]) -> float:
    """Return how many more bits a coder spends than another for the same quality: -0.2 is a fifth fewer [1]_.

    The mean, over all PSNR that both curves reach, of the difference of the logarithms of the bits, as a share. Between
    the points the curves are interpolated piecewise, by cubic polynomials that are monotone where the points are.

    Parameters
    ----------
    curve, reference : sequence of Rate
        Of the same images, as `rates` and `jpeg_rates` return them, in any order; two or more points each.

    Raises
    ------
    ValueError
        If a curve has fewer than two points of different PSNR, a point at which nothing was lost, or if the curves
        share no PSNR: then nothing can be compared.

    References
    ----------
    .. [1] G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", ITU-T VCEG-M33, 2001.
    """
    logs, ends = [], []
    for name, points in (("curve", curve), ("reference", reference)):
        psnr = np.array(sorted({point.psnr for point in points}))
        if len(psnr) < 2 or not np.isfinite(psnr).all():
            raise ValueError(
                f"{name} has points at {', '.join(f'{value:.1f}' for value in psnr) or 'no'} dB; give two or more of "
                f"different quality, each with a loss"
            )
        bits = [min(point.bits_per_pixel for point in points if point.psnr == value) for value in psnr]
        logs.append(PchipInterpolator(psnr, np.log(bits)))
        ends.append((psnr[0], psnr[-1]))
    low, high = max(first for first, _ in ends), min(last for _, last in ends)
    if low >= high:
        raise ValueError(
            f"curve goes from {ends[0][0]:.1f} to {ends[0][1]:.1f} dB, reference from {ends[1][0]:.1f} to "
            f"{ends[1][1]:.1f}: no quality that both reach. Add points between."
        )
    ours, theirs = (log.integrate(low, high) / (high - low) for log in logs)
    return float(np.expm1(ours - theirs))


def _rate(setting: float, data: bytes, x: np.ndarray, decoded: np.ndarray) -> Rate:
    mse = np.mean((np.clip(decoded.reshape(x.shape), 0, 1) - x) ** 2, dtype="float64")
    pixels = x.size // x.shape[3] if x.ndim == 4 else x.size
    return Rate(setting, len(data), 8 * len(data) / pixels, float(mse))


def _check_images(x: Any) -> np.ndarray:
    x = check_samples(x, None)
    if x.min() < 0 or x.max() > 1:
        raise ValueError(f"x goes from {x.min():g} to {x.max():g}; images lie in [0, 1]: divide 8-bit images by 255")
    return x
