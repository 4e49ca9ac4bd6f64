"""Data larger than memory: samples in files, read shuffled, checked and prefetched (chapter 15).

A directory holds a manifest and shards, files of a few megabytes. A shard is the plain bytes of its samples one after
the other, so that NumPy reads it too (``np.fromfile``). It is read whole: so shuffling costs no search in files, and
every byte can be compared with the checksums in the manifest before a model sees it.

>>> write("train", batches)  # doctest: +SKIP
>>> model.fit(read("train", batch_size=256), epochs=10)  # doctest: +SKIP
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfae.checks import check_samples, check_seed, check_size
from tfae.files import written_whole
from tfae.training import Resume

MANIFEST = "manifest.json"
_FORMAT = "tfae records 2"
_SHARD_BYTES, _BLOCKS = 4 << 20, 32  # of a shard, and the parts of it that have a checksum of their own
_DTYPES = ("uint8", "int8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64")


# --- writing ---------------------------------------------------------------------------------------------------------


def write(
    path: str | Path,
    batches: Iterable[Any],
    *,
    shard_size: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Write samples to a new directory, one shard in memory at a time.

    Parameters
    ----------
    path : str or Path
        The directory.
    batches : iterable
        Arrays of samples ``(n, ...)`` or tuples ``(x, y)`` of samples and what belongs to each, such as labels. All of
        the same shape and type, the numbers of samples may differ. A single array is ``[x]``, a single pair
        ``[(x, y)]``. Grey values are best given as uint8, a quarter of
        float32. The order matters little if neighbours are unlike: `read` mixes a few shards at a time.
    shard_size : int, optional
        Samples in a shard; as many as fill 4 MB, if not given.
    progress : callable, optional
        Called with a line of text every second or so, and at the end; ``print`` will do.

    Raises
    ------
    ValueError
        If there is no sample, if a batch is neither an array nor a tuple, if batches differ in shape or type, hold NaN,
        infinity, or in `x` a number that float32 cannot hold, or if `path` holds finished records.
    OSError
        If a file cannot be written. Shards appear whole or not at all and the manifest last: without it `read` refuses
        the directory.
    """
    path = Path(path)
    if isinstance(batches, tuple) or hasattr(batches, "dtype"):  # whose parts or rows would be taken for batches
        form = "[(x, y)]" if isinstance(batches, tuple) else "[x]"
        raise ValueError(f"batches is one {type(batches).__name__}; give several batches, or a list of one: {form}")
    if (path / MANIFEST).exists():
        raise ValueError(f"{path} holds records already; delete the directory, or give another")
    parts: list[dict[str, Any]] = []
    shards: list[dict[str, Any]] = []
    start = told = time.monotonic()
    for rows in _regrouped(_byte_rows(batches, parts), shard_size):
        if not shards:
            block = math.ceil(len(rows) / _BLOCKS)
        name = f"shard-{len(shards):06d}.bin"
        with written_whole(path / name) as temporary:
            rows.tofile(temporary)
        shards.append({"file": name, "samples": len(rows), "checksums": [mark.hex() for mark in _marks(rows, block)]})
        if progress and time.monotonic() - told > 1:
            told = time.monotonic()
            rate = sum(shard["samples"] for shard in shards) / (told - start)
            progress(f"{_summary(shards, rows.shape[1])} ({told - start:.0f} s, {rate:,.0f} samples a second)")
    if not shards:
        raise ValueError("batches holds no sample; give at least one array")
    manifest = {"format": _FORMAT, "parts": parts, "block": block, "shards": shards}
    with written_whole(path / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest | {"checksum": _checksum(manifest)}))
    if progress:
        progress(_summary(shards, rows.shape[1]))


def _summary(shards: list[dict[str, Any]], row_bytes: int) -> str:
    samples = sum(shard["samples"] for shard in shards)
    return f"{samples:,} samples in {len(shards):,} shards, {samples * row_bytes / 1e6:,.1f} MB"


def _byte_rows(batches: Iterable[Any], parts: list[dict[str, Any]]) -> Iterator[np.ndarray]:
    """Yield each batch as uint8 of shape (n, bytes of a sample); the first one fills in what `parts` a sample has."""
    for number, batch in enumerate(batches):
        if isinstance(batch, list):
            raise ValueError(f"batch {number} is a list; give an array of samples, or a tuple (x, y)")
        arrays = [np.asarray(array) for array in (batch if isinstance(batch, tuple) else (batch,))]
        check_samples(arrays[0], None, f"batch {number}")
        for name, array in zip("xy", arrays, strict=False):
            if array.dtype.name not in _DTYPES:
                raise ValueError(f"{name} of batch {number} has dtype {array.dtype}; it must be one of {_DTYPES}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"{name} of batch {number} holds NaN or infinity; remove or replace it")
        if len(arrays) > 2 or len({len(array) for array in arrays}) != 1:
            shapes = " and ".join(str(array.shape) for array in arrays)
            raise ValueError(f"batch {number} has shapes {shapes}; give x or (x, y), with as many rows in both")
        found = [{"shape": list(array.shape[1:]), "dtype": array.dtype.name} for array in arrays]
        if not parts:
            parts.extend(found)
        if parts != found:
            raise ValueError(f"batch {number} holds {found}, the batches before it {parts}; they must be alike")
        little = [np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for array in arrays]
        yield np.concatenate([array.reshape(len(array), -1).view("uint8") for array in little], axis=1)


def _regrouped(batches: Iterator[np.ndarray], size: int | None) -> Iterator[np.ndarray]:
    """Yield the rows of the batches again, `size` at a time."""
    size = None if size is None else check_size(size, "shard_size")
    waiting: list[np.ndarray] = []
    for rows in batches:
        size = size or max(1, _SHARD_BYTES // rows.shape[1])
        waiting.append(rows)
        if sum(map(len, waiting)) >= size:
            joined = np.concatenate(waiting)
            whole = len(joined) // size * size
            yield from np.split(joined[:whole], whole // size)
            waiting = [joined[whole:].copy()]
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)


def _checksum(manifest: dict[str, Any]) -> str:
    """Return the SHA-256 of what a manifest says: a wrong shape or type would make other numbers of the same bytes."""
    said = {name: value for name, value in manifest.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _marks(rows: np.ndarray, block: int) -> list[bytes]:
    """Return the 64-bit checksum of each block of rows; a short last block counts as filled up with zeros."""
    blocks = math.ceil(len(rows) / block)
    filled = np.pad(rows, [(0, blocks * block - len(rows)), (0, 0)])
    return [mark.tobytes() for mark in tf.fingerprint(filled.reshape(blocks, block * rows.shape[1])).numpy()]


# --- what was written ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Damage:
    """Samples that are not on disk as they were written.

    Attributes
    ----------
    file : Path
    offset : int
        The byte at which they begin.
    samples : int
        How many are lost: all that share a checksum.
    reason : str
    """

    file: Path
    offset: int
    samples: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, byte {self.offset:,}: {self.samples:,} samples {self.reason}"


def verify(path: str | Path, *, progress: Callable[[str], None] | None = None) -> list[Damage]:
    """Read everything once and return what is damaged: an empty list, if all is as it was written.

    Parameters
    ----------
    path : str or Path
    progress : callable, optional
        Called with a line of text every second or so; ``print`` will do.

    Returns
    -------
    list of Damage
        `read` takes it as `leave_out`, to go on with what is intact.

    Raises
    ------
    OSError
        If the manifest is missing, cannot be read or was changed.
    """
    manifest = _Manifest(path)
    found, told = [], time.monotonic()
    for shard, file in enumerate(manifest.files):
        found += manifest.cut_off(shard)
        rows = np.fromfile(file, "uint8") if file.exists() else np.empty(0, "uint8")
        rows = rows[: len(rows) // manifest.row_bytes * manifest.row_bytes].reshape(-1, manifest.row_bytes)
        marks = _marks(rows[: manifest.samples[shard]], manifest.block)
        for (first, n), mark, wanted in zip(manifest.blocks(shard), marks, manifest.marks[shard], strict=False):
            if mark != wanted and first + n <= len(rows):
                found.append(Damage(file, first * manifest.row_bytes, n, "are not what was written"))
        if progress and time.monotonic() - told > 1:
            told = time.monotonic()
            progress(f"{shard + 1:,} of {len(manifest.files):,} shards read, {len(found):,} damaged places")
    return found


class _Manifest:
    """What `write` noted about a directory."""

    def __init__(self, path: str | Path) -> None:
        file = Path(path) / MANIFEST
        try:
            about = json.loads(file.read_text())
            if about["format"] != _FORMAT:
                raise ValueError(
                    f"its format is {about['format']!r}; this version reads {_FORMAT!r}. Write them again."
                )
            if about["checksum"] != _checksum(about):
                raise ValueError("it was changed after it was written. Write the records again.")
            self.parts, self.block = about["parts"], int(about["block"])
            self.files = [Path(path) / shard["file"] for shard in about["shards"]]
            self.samples = [int(shard["samples"]) for shard in about["shards"]]
            self.marks = [[bytes.fromhex(mark) for mark in shard["checksums"]] for shard in about["shards"]]
            self.row_bytes = sum(_bytes(part) for part in self.parts)
        except FileNotFoundError as error:
            raise OSError(f"{path} holds no {MANIFEST}: no records, or their writing was not finished") from error
        except (ValueError, KeyError, TypeError) as error:
            reason = error if isinstance(error, ValueError) else repr(error)
            raise OSError(f"{file} is not a manifest that can be read: {reason}") from error

    def blocks(self, shard: int) -> list[tuple[int, int]]:
        """Return the first row and the number of rows of each block of a shard."""
        n = self.samples[shard]
        return [(first, min(self.block, n - first)) for first in range(0, n, self.block)]

    def cut_off(self, shard: int) -> list[Damage]:
        """Return the blocks that the file is too short for, which its size tells without reading."""
        file = self.files[shard]
        size, reason = 0, "are missing, with the file"
        if file.exists():
            size, reason = file.stat().st_size, "are cut off: the file is truncated"
        width = self.row_bytes
        return [Damage(file, i * width, n, reason) for i, n in self.blocks(shard) if (i + n) * width > size]


def _bytes(part: dict[str, Any]) -> int:
    return math.prod(part["shape"]) * np.dtype(part["dtype"]).itemsize


# --- reading ---------------------------------------------------------------------------------------------------------


def read(
    path: str | Path,
    batch_size: int,
    *,
    seed: int | None = 0,
    run: Resume | None = None,
    pool: int = 8,
    leave_out: Sequence[Damage] = (),
) -> tf.data.Dataset:
    """Return the samples in batches, for ``fit``; memory is bounded by a few times `pool` shards.

    In each epoch the shards come in a new random order. `pool` of them are in memory together, and their samples are
    shuffled. Reading goes on while the model trains.

    Parameters
    ----------
    path : str or Path
    batch_size : int
        The last batch of an epoch may be smaller.
    seed : int or None
        Fixes the order of each pass over the dataset; None keeps the order of writing. Under a strategy Keras looks at
        the first batch before it trains, which is a pass: give `run` to compare trainings on different devices.
    run : tfae.training.Resume, optional
        Its seed and the number of the epoch fix the order, so that a run that was cut off goes on with the samples it
        would have seen: ``model.fit(read(..., run=run), shuffle=False, callbacks=[run])``.
    pool : int
        Shards mixed at a time. More mix better and need more memory.
    leave_out : sequence of Damage
        What `verify` found: the samples to do without.

    Returns
    -------
    tf.data.Dataset
        Of `x`, or of pairs of `x` and `y`; its number of batches is known. An `x` of uint8 comes as float32 divided by
        255, an `x` of floats as float32, all else as it was written.

    Raises
    ------
    ValueError
        If an argument is out of range, or if nothing is left to read.
    OSError
        If the manifest cannot be read or was changed, or a shard is missing or truncated. The message names file and
        byte.
    tf.errors.InvalidArgumentError
        While iterating, if bytes are not those that were written. The message names file and byte.

    Notes
    -----
    Under ``tf.distribute`` give `batch_size` for all workers together and the same arguments on each. Every worker
    reads all files, on a local or a shared disk, in the same order, and trains on its own rows of each batch, so that
    the samples of a step are those of a single machine.
    """
    manifest = _Manifest(path)
    batch_size, pool = check_size(batch_size, "batch_size"), check_size(pool, "pool")
    keep = _intact(manifest, leave_out)  # (shards, blocks)
    samples = sum(
        n for shard, kept in enumerate(keep) for (_, n), k in zip(manifest.blocks(shard), kept, strict=False) if k
    )
    if not samples:
        raise ValueError("nothing is left to read: leave_out names all samples")
    if run is not None:
        seed = run.seed
        epoch = run.reads(samples=samples, batch_size=batch_size, pool=pool)
    seed = None if seed is None else check_seed(seed)

    decoded = _decoder(manifest)

    def rows_of(epoch: Any) -> tf.data.Dataset:
        """Return the bytes of the samples of one epoch, in their order, many at a time."""
        key = tf.stack([tf.constant(seed or 0, tf.int64), epoch])
        order = tf.constant(np.flatnonzero(keep.any(axis=1)))
        if seed is not None:
            order = tf.random.experimental.stateless_shuffle(order, key)
        shards = tf.data.Dataset.from_tensor_slices(order).map(_reader(manifest, keep), num_parallel_calls=2)
        if seed is None:
            return shards

        def shuffled(number: Any, rows: Any) -> Any:
            key_of_pool = tf.random.experimental.stateless_fold_in(key, number)
            return tf.gather(rows, tf.random.experimental.stateless_shuffle(tf.range(tf.shape(rows)[0]), key_of_pool))

        size = math.ceil(pool * manifest.samples[0] / batch_size) * batch_size  # so that a pool ends as a batch ends
        return shards.rebatch(size).prefetch(1).enumerate().map(shuffled)

    if run is None:
        epochs = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).take(1)
    else:
        epochs = tf.data.Dataset.range(1).map(lambda _: epoch.read_value())
    rows, options = epochs.flat_map(rows_of), tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA

    def batches_of(size: int) -> tf.data.Dataset:
        batches = rows.rebatch(size).map(decoded, num_parallel_calls=2)
        batches = batches.apply(tf.data.experimental.assert_cardinality(math.ceil(samples / size)))
        return batches.prefetch(tf.data.AUTOTUNE).with_options(options)

    dataset = batches_of(batch_size)
    dataset.in_blocks = lambda steps: (batches_of(steps * batch_size), batch_size)  # for tfae.internals.Stream
    return dataset


def _intact(manifest: _Manifest, leave_out: Sequence[Damage]) -> np.ndarray:
    """Return which blocks to read, shape (shards, blocks); raise if others are cut off."""
    keep = np.ones((len(manifest.files), max(map(len, manifest.marks))), bool)
    numbers = {file: shard for shard, file in enumerate(manifest.files)}
    for damage in leave_out:
        if damage.file not in numbers:
            raise ValueError(f"leave_out names {damage.file}, which is not of these records; give what verify returned")
        keep[numbers[damage.file], damage.offset // manifest.row_bytes // manifest.block] = False
    for shard in range(len(manifest.files)):
        for damage in manifest.cut_off(shard):
            if keep[shard, damage.offset // manifest.row_bytes // manifest.block]:
                raise OSError(f"{damage}. {_ADVICE}")
    return keep


_ADVICE = "Write these records again, or go on without: read(path, ..., leave_out=verify(path))"


def _reader(manifest: _Manifest, keep: np.ndarray) -> Callable[[Any], Any]:
    """Return a function from the number of a shard to its rows that are kept, uint8 of shape (rows, row_bytes)."""
    files, samples = tf.constant([str(file) for file in manifest.files]), tf.constant(manifest.samples, tf.int64)
    marks = np.zeros((*keep.shape, 8), "uint8")
    for shard, of_shard in enumerate(manifest.marks):
        marks[shard, : len(of_shard)] = [list(mark) for mark in of_shard]
    marks, kept, width = tf.constant(marks), tf.constant(keep), manifest.block * manifest.row_bytes

    def rows_of(shard: Any) -> Any:
        n = samples[shard]
        blocks = (n - 1) // manifest.block + 1
        content = tf.io.decode_raw(tf.io.read_file(files[shard]), tf.uint8)[: n * manifest.row_bytes]
        size = tf.size(content, tf.int64)  # of a file that was cut off less than it should be
        whole, rest = content[: size // width * width], content[size // width * width :]
        parts = whole, tf.pad(rest, [[0, blocks * width - size]])
        found = [tf.fingerprint(tf.reshape(part, [-1, width])) for part in parts]
        right = tf.reduce_all(tf.concat(found, 0) == marks[shard][:blocks], axis=1)
        wrong = tf.where(~right & kept[shard][:blocks])[:, 0]
        place = tf.strings.as_string(tf.reduce_min(wrong) * width)
        says = tf.strings.join([files[shard], ", byte ", place, ": the samples are not what was written. ", _ADVICE])
        with tf.control_dependencies([tf.debugging.Assert(tf.size(wrong) == 0, [says])]):
            if keep.all():
                return tf.reshape(content, [-1, manifest.row_bytes])
            rows = tf.reshape(tf.concat(parts, 0), [-1, manifest.row_bytes])[:n]
            return tf.boolean_mask(rows, tf.repeat(kept[shard], manifest.block)[:n])

    return rows_of


def _decoder(manifest: _Manifest) -> Callable[[Any], Any]:
    """Return a function from rows of bytes to x, or to the pair of x and y."""
    sizes = [_bytes(part) for part in manifest.parts]

    def arrays_of(rows: Any) -> Any:
        arrays = []
        for part, field in zip(manifest.parts, tf.split(rows, sizes, axis=1), strict=True):
            dtype = tf.as_dtype(part["dtype"])
            values = field if dtype == tf.uint8 else tf.bitcast(tf.reshape(field, [-1, dtype.size]), dtype)
            arrays.append(tf.reshape(values, [-1, *part["shape"]]))
        if arrays[0].dtype == tf.uint8:
            arrays[0] = tf.cast(arrays[0], tf.float32) / 255
        elif arrays[0].dtype.is_floating:
            arrays[0] = tf.cast(arrays[0], tf.float32)
        return tuple(arrays) if len(arrays) > 1 else arrays[0]

    return arrays_of
