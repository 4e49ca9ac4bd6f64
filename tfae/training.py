"""Stop rules, progress, live explanations, interruption and resumption, the choice of the code size (chapter 03).

Training itself stays Keras: ``model.compile(...)``, ``model.fit(...)``. What is here are callbacks to give to ``fit``,
for any Keras model, and one experiment built on it.
"""

import hashlib
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold

from tfae.attribution import integrated_gradients
from tfae.checks import check_samples, check_seed, check_size
from tfae.distribute import is_chief
from tfae.files import written_whole
from tfae.internals import all_layers, start_at_epoch, strategy_of, traced_events
from tfae.models import Autoencoder
from tfae.replicas import numbers_of_replicas
from tfae.variational import VariationalAutoencoder

# --- when to stop ----------------------------------------------------------------------------------------------------


class StopAtLoss(keras.callbacks.Callback):
    """Stop at the end of the first epoch whose loss is at or below a threshold.

    Parameters
    ----------
    threshold : float
    monitor : str
        ``"loss"`` for the training loss, ``"val_loss"`` for the held-out one, or any logged metric.

    Raises
    ------
    ValueError
        If `threshold` is not a finite number, or, after the first epoch, if `monitor` was not logged.
    """

    def __init__(self, threshold: float, monitor: str = "loss") -> None:
        super().__init__()
        if not np.isfinite(threshold):
            raise ValueError(f"threshold is {threshold!r}; it must be a finite number")
        self.threshold, self.monitor = threshold, monitor

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if _logged(logs, self.monitor) <= self.threshold:
            self.model.stop_training = True


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Keras's early stopping, set up to be right when nothing is said.

    Three things differ: the best weights come back at the end, `patience` is 5, and a metric that is not logged, such
    as ``val_loss`` without ``validation_data``, raises instead of never stopping.

    Parameters
    ----------
    monitor, min_delta
        As in ``keras.callbacks.EarlyStopping``.
    patience : int
        Epochs without an improvement of `min_delta` before training stops; with 0 the first such epoch ends it.
    restore_best_weights, **options
        As in ``keras.callbacks.EarlyStopping``.

    Raises
    ------
    ValueError
        After the first epoch, if `monitor` was not logged.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 5,
        *,
        restore_best_weights: bool = True,
        **options: Any,
    ) -> None:
        if isinstance(patience, bool) or not isinstance(patience, int | np.integer) or patience < 0:
            raise ValueError(f"patience is {patience!r}; it must be a whole number of at least 0")
        super().__init__(
            monitor=monitor,
            min_delta=min_delta,
            patience=patience,
            restore_best_weights=restore_best_weights,
            **options,
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        _logged(logs, self.monitor)
        super().on_epoch_end(epoch, logs)


def _logged(logs: dict[str, float] | None, monitor: str) -> float:
    if not logs or monitor not in logs:
        hint = " Give fit a validation_data." if monitor.startswith("val_") else ""
        raise ValueError(f"no {monitor!r} is logged; there are {', '.join(logs or {}) or 'no metrics'}.{hint}")
    return logs[monitor]


# --- what changes during training ------------------------------------------------------------------------------------


class BetaAnnealing(keras.callbacks.Callback):
    """Raise a variational autoencoder's beta from 0 to its own value in even steps, one an epoch (chapter 05) [1]_.

    Parameters
    ----------
    epochs : int
        The full value is reached at the beginning of this epoch, counted from 0.

    Raises
    ------
    ValueError
        Before training, if the model has no beta, or is trained on an importance-weighted bound, which knows none.

    References
    ----------
    .. [1] S. R. Bowman et al., "Generating sentences from a continuous space", arXiv:1511.06349.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = check_size(epochs, "epochs")

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if not isinstance(self.model, VariationalAutoencoder):
            raise ValueError(
                f"a {type(self.model).__name__} has no beta; BetaAnnealing is for a models.VariationalAutoencoder"
            )
        self.model.anneal(0.0)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.model.anneal(min(1.0, epoch / self.epochs))

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self.model.anneal(1.0)


# --- seeing how far it is --------------------------------------------------------------------------------------------


class Progress(keras.callbacks.Callback):
    """One line that is rewritten after each epoch, in a notebook as in a terminal.

    Use it with ``fit(..., verbose=0)``. While training runs the line shows the time taken and left; the line that stays
    behind holds the last epoch's numbers and no time, so that a page run twice reads the same. Where the output is a
    file, only that last line is written.
    """

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._line = _Line()
        self._start, self._done, self._text = time.monotonic(), 0, ""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._done += 1  # fewer than epoch + 1 after a resumption
        total, taken = self.params["epochs"], time.monotonic() - self._start
        left = taken / self._done * (total - epoch - 1)
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in (logs or {}).items())
        self._text = f"epoch {epoch + 1}/{total}  {numbers}"
        self._line.write(f"{self._text}  ({taken:.0f} s taken, {left:.0f} s left)")

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._line.close(self._text or "nothing left to train")


class _Line:
    """A line of text that can be replaced."""

    def __init__(self) -> None:
        self._handle, self._width = None, 0
        ipython = sys.modules.get("IPython")
        if ipython and hasattr(ipython.get_ipython(), "kernel"):
            self._handle = ipython.display.display({"text/plain": ""}, raw=True, display_id=True)

    def write(self, text: str) -> None:
        if self._handle is not None:
            self._handle.update({"text/plain": text}, raw=True)
        elif sys.stdout.isatty():
            self._overwrite(text)

    def close(self, text: str) -> None:
        if self._handle is not None:
            self._handle.update({"text/plain": text}, raw=True)
        elif sys.stdout.isatty():
            self._overwrite(text + "\n")
        else:
            print(text)

    def _overwrite(self, text: str) -> None:
        sys.stdout.write("\r" + text.ljust(self._width))
        sys.stdout.flush()
        self._width = len(text)


# --- seeing what it learns -------------------------------------------------------------------------------------------

STRIP_COLUMNS, STRIP_CELL = 12, 64  # maps in a row at most; pixels of the longer side of a map, at least


class Explain(keras.callbacks.Callback):
    r"""Explain the same few samples again and again while a model trains: each epoch's maps, and how they move.

    A loss says how well the model does, and its maps say at what it looks. The model is asked as outside training, so
    what it learns is the same, to the last bit, with this callback and without.

    Parameters
    ----------
    targets : mapping of str to tfae.targets.Target or callable
        What is explained, by name: ``{"error": targets.reconstruction_error(model)}``, a logit, a code unit. A target
        of `tfae.targets` is compiled once and not again each epoch.
    probes : array, shape (n, *sample)
        Few samples, best held out.
    method : callable, optional
        ``method(target, probes)`` returns an `Attribution`, or an array with one map for each sample. Integrated
        gradients of 32 steps from zero if not given.
    every : int
        Epochs from one explanation to the next. The model as it is before the first epoch is always explained, and as
        it is after the last.
    path : str or Path, optional
        A PNG file, written anew each time: a row for each target and probe, a column for each moment, at most 12 of
        them evenly chosen. Red counts for the target, blue against it. Each map has its own scale.
    log_dir : str or Path, optional
        Where TensorBoard is to find the maps and the numbers. Writing them needs nothing else;
        ``keras.callbacks.TensorBoard``, which may write to the same, and looking at them need the package
        ``tensorboard``, which TensorFlow 2.21 does not bring: ``pip install tensorboard``.

    Attributes
    ----------
    history : dict of str to list of float
        ``"epoch"``, how many were done; ``"seconds"``, what this callback took; and for each target ``"… drift"``, the
        mean over the probes of :math:`\|b - a\| / (\|a\| + \|b\|)` from the map a before to the map b, 0 at the first;
        and where the method has one, ``"… gap"``, the largest completeness gap.
    maps : dict of str to list of ndarray, shape (n, *sample)
        The maps of each target, one array for each entry of ``history["epoch"]``.

    Raises
    ------
    ValueError
        If there is no target, the probes are not finite samples, or `every` is no whole number of at least 1. Before
        the first epoch, and in any later one, if a target or its derivative is NaN, or a method refuses the model.
    OSError
        If a file cannot be written.

    Notes
    -----
    A model that goes on training after an interruption, with `Resume`, begins a new history and a new strip here.

    Examples
    --------
    >>> live = Explain({"error": targets.reconstruction_error(model)}, x_val[:4], path="error.png")  # doctest: +SKIP
    >>> model.fit(x_train, epochs=10, callbacks=[live])  # doctest: +SKIP
    >>> live.history["error drift"]  # doctest: +SKIP
    """

    def __init__(
        self,
        targets: Mapping[str, Callable[[Any], Any]],
        probes: Any,
        method: Callable[[Any, np.ndarray], Any] | None = None,
        *,
        every: int = 1,
        path: str | Path | None = None,
        log_dir: str | Path | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(targets, Mapping) or not targets:
            raise ValueError(
                f'targets is {targets!r}; give what to explain by name, such as {{"error": '
                f"targets.reconstruction_error(model)}}"
            )
        self.targets, self.probes = dict(targets), check_samples(probes, None, "probes").astype("float32")
        self.method = method or partial(integrated_gradients, steps=32)
        self.every, self.path = check_size(every, "every"), None if path is None else Path(path)
        self._writer = None if log_dir is None else tf.summary.create_file_writer(str(log_dir))
        self.on_train_begin()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self.history: dict[str, list[float]] = {}
        self.maps: dict[str, list[np.ndarray]] = {name: [] for name in self.targets}

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if not self.history:
            self._explain(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if (epoch + 1) % self.every == 0 or epoch + 1 == self.params["epochs"]:
            self._explain(epoch + 1)

    def _explain(self, epoch: int) -> None:
        began, numbers = time.perf_counter(), dict[str, float]()
        for name, target in self.targets.items():
            explained = self.method(target, self.probes)
            now = np.asarray(getattr(explained, "values", explained))
            if len(now) != len(self.probes):
                raise ValueError(
                    f"the method returns shape {now.shape} for {len(self.probes)} probes; it must map each"
                )
            before = self.maps[name][-1] if self.maps[name] else now
            self.maps[name].append(now)
            numbers[f"{name} drift"] = _drift(before, now)
            gap = getattr(explained, "completeness_gap", None)
            if gap is not None:
                numbers[f"{name} gap"] = float(gap.max())
        if is_chief():
            if self._writer is not None:
                self._log(self._writer, epoch, numbers)
            if self.path is not None:
                epochs = [*map(int, self.history.get("epoch", [])), epoch]
                with written_whole(self.path) as temporary:
                    _strip(self.probes, self.maps, epochs).save(temporary, "PNG")
        numbers = {"epoch": epoch, **numbers, "seconds": time.perf_counter() - began}
        for name, value in numbers.items():
            self.history.setdefault(name, []).append(value)

    def _log(self, writer: Any, epoch: int, numbers: dict[str, float]) -> None:
        value = tf.compat.v1.Summary.Value  # what TensorBoard reads; tf.summary.image needs TensorBoard to write it
        values = [value(tag=name, simple_value=number) for name, number in numbers.items()]
        for name, maps in self.maps.items():
            pictures = np.concatenate([_picture(part, "RdBu_r") for part in maps[-1]], axis=1)
            png = tf.io.encode_png(pictures).numpy()
            height, width, _ = pictures.shape
            image = tf.compat.v1.Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
            values.append(value(tag=f"{name} maps", image=image))
        summary = tf.compat.v1.Summary(value=values)
        with writer.as_default(), tf.summary.record_if(True):
            tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=epoch)
        writer.flush()


def _drift(before: np.ndarray, now: np.ndarray) -> float:
    a, b = (np.linalg.norm(maps.reshape(len(maps), -1), axis=1) for maps in (before, now))
    distance = np.linalg.norm((now - before).reshape(len(now), -1), axis=1)
    return float(np.mean(np.divide(distance, a + b, out=np.zeros_like(distance), where=a + b > 0)))


def _strip(samples: np.ndarray, maps: dict[str, list[np.ndarray]], epochs: Sequence[int]) -> Image.Image:
    """Return a picture of maps: a row for each target and sample, a column for each epoch, and the samples before."""
    chosen = np.unique(np.linspace(0, len(epochs) - 1, min(len(epochs), STRIP_COLUMNS)).round().astype(int))
    rows = [
        [_picture(sample, "gray_r"), *(_picture(maps[name][j][i], "RdBu_r") for j in chosen)]
        for name in maps
        for i, sample in enumerate(samples)
    ]
    font, gap = ImageFont.load_default(13), 6
    names = [name for name in maps for _ in samples]
    left, top = int(max(map(font.getlength, names))) + 2 * gap, 13 + 2 * gap
    height, width = np.max([picture.shape[:2] for row in rows for picture in row], axis=0) + gap
    strip = Image.new("RGB", (left + width * len(rows[0]), top + height * len(rows)), "white")
    draw = ImageDraw.Draw(strip)
    for column, text in enumerate(["probe", *(f"epoch {epochs[j]}" if j == 0 else str(epochs[j]) for j in chosen)]):
        draw.text((left + width * column, gap), text, "black", font)
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        if i % len(samples) == 0:
            draw.text((gap, top + height * i), name, "black", font)
        for column, picture in enumerate(row):
            strip.paste(Image.fromarray(picture), (left + width * column, top + height * i))
    return strip


def _picture(values: np.ndarray, colours: str) -> np.ndarray:
    """Return one map, or one sample, in colours of its own scale: uint8, (height, width, 3).

    Channels of an image are summed; a series has a row for each channel, and a table one row.
    """
    flat = values.sum(axis=-1) if values.ndim > 2 else np.atleast_2d(values.T) if values.ndim < 2 else values.T
    flat = np.asarray(flat, "float64").reshape(len(flat), -1)
    low, high = (flat.min(), flat.max()) if colours == "gray_r" else (-np.abs(flat).max(), np.abs(flat).max())
    shades = matplotlib.colormaps[colours](0.5 + (flat - (low + high) / 2) / (high - low or 1.0), bytes=True)[..., :3]
    times = max(1, -(-STRIP_CELL // max(flat.shape)))
    tall = max(1, round(STRIP_CELL / 4 / (times * len(flat))))  # of a table, a band and not a line
    return np.ascontiguousarray(shades.repeat(times * tall, axis=0).repeat(times, axis=1))


# --- interruption and resumption -------------------------------------------------------------------------------------


class Resume(keras.callbacks.Callback):
    """Make a run of ``fit`` that can be killed at any time and started again to the same end.

    After each epoch everything that the run depends on goes into one file, written whole or not at all: weights,
    optimiser state, the state of random layers, the losses so far. Calling ``fit`` again with the same arguments goes
    on after the last finished epoch. What is left is the order of the samples, which must not start over: `batches`
    shuffles them by the seed and the number of the epoch.

    It is the same under a strategy of `tfae.distribute`: the chief writes, all workers read, and a run may go on with
    another number of replicas.

    Parameters
    ----------
    path : str or Path
        The checkpoint file, ``"runs/dense.npz"``. Delete it to start from the beginning. Several workers need it on
        storage that all of them share.
    seed : int
        Fixes the order of the samples.

    Attributes
    ----------
    history : dict of str to list of float
        The logs of all epochs, those before an interruption included.

    Raises
    ------
    ValueError
        Before training, if the checkpoint is of another model, loss or optimiser, or was made from other samples, batch
        size or seed: the message says in what it differs. Also if the workers do not find the same checkpoint.
    OSError
        If the checkpoint cannot be read or written.

    Notes
    -----
    Other callbacks with a memory, such as early stopping, begin counting again after a resumption.

    Examples
    --------
    >>> run = Resume("runs/dense.npz", seed=0)
    >>> batches = run.batches(x_train, batch_size=128)  # doctest: +SKIP
    >>> model.fit(batches, epochs=10, shuffle=False, callbacks=[run])  # doctest: +SKIP
    """

    def __init__(self, path: str | Path, *, seed: int = 0) -> None:
        super().__init__()
        self.path, self.seed = Path(path), check_seed(seed)
        self.history: dict[str, list[float]] = {}
        self._epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._data: dict[str, Any] = {}

    def reads(self, **data: Any) -> tf.Variable:
        """Say what the run reads, and get the number of its epoch: all that the order of the samples may depend on.

        Parameters
        ----------
        **data
            Whatever another run's checkpoint could differ in: number of samples, batch size, a digest.

        Returns
        -------
        tf.Variable
            To be read within a ``tf.data`` pipeline.
        """
        self._data = {**data, "seed": self.seed}
        return self._epoch

    def batches(self, x: Any, y: Any = None, sample_weight: Any = None, *, batch_size: int = 32) -> tf.data.Dataset:
        """Return the samples in batches whose order depends on the seed and the epoch alone.

        Parameters
        ----------
        x : array, shape (n, *sample)
        y : array, shape (n, ...), optional
            Targets or labels.
        sample_weight : array, shape (n,), optional
            Without `y` the target is `x`.
        batch_size : int

        Returns
        -------
        tf.data.Dataset
            Of batches of `x`, of ``(x, y)`` or of ``(x, y, sample_weight)``.

        Raises
        ------
        ValueError
            If `x` is empty or not finite, or the others are not as many.
        """
        x = check_samples(x, None)
        if sample_weight is not None and y is None:
            y = x
        parts = {"x": x, "y": y, "sample_weight": sample_weight}
        given = {name: np.asarray(part) for name, part in parts.items() if part is not None}
        for name, part in given.items():
            if len(part) != len(x):
                raise ValueError(f"x holds {len(x)} samples and {name} holds {len(part)}; they must be as many")
        n, batch_size = len(x), check_size(batch_size, "batch_size")
        arrays = tuple(map(tf.constant, given.values()))
        epoch = self.reads(samples=n, batch_size=batch_size, digest=_digest(*given.values()))

        def shuffled(_: Any) -> tf.data.Dataset:
            seed = tf.stack([tf.constant(self.seed, tf.int64), epoch.read_value()])
            order = tf.random.experimental.stateless_shuffle(tf.range(n), seed)
            return tf.data.Dataset.range(0, n, batch_size).map(lambda i: order[i : i + batch_size])

        def gather(rows: Any) -> Any:
            samples = tuple(tf.gather(array, rows) for array in arrays)
            return samples if len(samples) > 1 else samples[0]

        dataset = tf.data.Dataset.range(1).flat_map(shuffled).map(gather, num_parallel_calls=tf.data.AUTOTUNE)
        steps = -(-n // batch_size)
        return dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(tf.data.AUTOTUNE)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if not self._data:
            raise ValueError("give fit the samples as Resume.batches(x, y, batch_size), so that their order can resume")
        self.history = {}
        self._plan = {"data": self._data} | _describe(self.model)
        done = self._restore() if self.path.exists() else 0
        start_at_epoch(self.model, done or None)
        epochs = numbers_of_replicas(done, strategy_of(self.model))
        if len(set(epochs)) > 1:
            raise ValueError(
                f"the workers have finished {epochs} epochs: they do not read the same {self.path}. Put it on storage "
                f"that all workers share."
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch.assign(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        about = {
            "epochs": epoch + 1,
            "history": self.history,
            "plan": self._plan,
            "learning rate": _learning_rate(self.model),
        }
        arrays = {f"v{i:04d}": variable.numpy() for i, variable in enumerate(self._state())}
        if is_chief():  # the others have helped to read what is summed over the workers
            with written_whole(self.path) as temporary, open(temporary, "wb") as file:
                np.savez(file, about=json.dumps(about), **arrays)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        start_at_epoch(self.model, None)  # a later fit of this model, without Resume, begins at its own epoch 0

    def _state(self) -> list[Any]:
        """All that training changes: weights, seeds of random layers, the optimiser's moments and step."""
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        return [*self.model.variables, *self.model.optimizer.variables]

    def _restore(self) -> int:
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                about = json.loads(str(archive["about"]))
                about["plan"].keys()
                arrays = [archive[key] for key in sorted(archive.files) if key != "about"]
        except Exception as error:
            raise OSError(
                f"{self.path} is not a checkpoint that can be read: {error}. Delete it to start over."
            ) from error
        state = self._state()
        for what, now in self._plan.items():
            before = about["plan"].get(what)
            if before != now and not (what == "learning rate" and now == about["learning rate"]):
                raise ValueError(
                    f"{self.path} holds a run with another {what}: {_difference(before, now)}. Delete it, or give this "
                    f"run its own file."
                )
        if [array.shape for array in arrays] != [tuple(variable.shape) for variable in state]:
            raise ValueError(f"{self.path} holds a run of another model. Delete it, or give this run its own file.")
        for variable, array in zip(state, arrays, strict=True):
            variable.assign(array)
        self._plan = about["plan"]
        self.history = about["history"]
        return about["epochs"]


def _digest(*arrays: np.ndarray) -> str:
    """Return a few letters that other arrays would not have."""
    found = hashlib.blake2b(digest_size=8)
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _describe(model: keras.Model) -> dict[str, Any]:
    """Return what a run depends on besides its data, as JSON will give it back; names and seeds play no part."""
    losses = [part for part in keras.tree.flatten(getattr(model, "loss", None)) if part is not None]
    losses = [keras.losses.get(part) if isinstance(part, str) else part for part in losses]
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # within one that scales losses
    description = {
        "model": [[type(layer).__name__, _settings(layer)] for layer in all_layers(model)],
        "loss": [[getattr(part, "__name__", type(part).__name__), _settings(part)] for part in losses],
        "optimizer": [type(optimizer).__name__, _settings(model.optimizer)],
        "learning rate": _learning_rate(model),
    }
    return json.loads(json.dumps(description))


def _learning_rate(model: keras.Model) -> Any:
    """Return the learning rate, or the settings of its schedule."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    rate = optimizer.get_config().get("learning_rate")
    return rate if isinstance(rate, float | int) else _plain(rate)


def _settings(part: Any) -> dict[str, Any]:
    try:
        return _plain(part.get_config())
    except (AttributeError, NotImplementedError):  # a function, or a subclass that says nothing of itself
        return {}


def _plain(config: Any) -> dict[str, Any]:
    """Return the numbers and words of a configuration, nested ones too, but for names, seeds and learning rates."""
    plain: dict[str, Any] = {}
    for key, value in (config or {}).items():
        if key in ("name", "seed", "learning_rate", "layers") or key.endswith("initializer"):
            continue
        if isinstance(value, dict):
            plain[key] = _plain(value)
        elif value is None or isinstance(value, str | int | float):
            plain[key] = value
        elif isinstance(value, list | tuple) and all(isinstance(part, int | float) for part in value):
            plain[key] = list(value)
    return plain


def _difference(before: Any, now: Any) -> str:
    """Say where two descriptions differ first."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in now:
            if before.get(key) != now[key]:
                return f"{key} {_difference(before.get(key), now[key])}"
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for one, other in zip(before, now, strict=True):
            if one != other:
                return _difference(one, other)
    return f"{before!r} there, {now!r} here"


# --- training again --------------------------------------------------------------------------------------------------


def restartable(build: Callable[[int], keras.Model], *, x: Any = None) -> Callable[..., keras.Model]:
    """Return a function that trains one model again and again, each time as if it were new (chapters 03 to 13).

    TensorFlow traces a new model before its first step, which takes seconds. This function puts the initial weights of
    a new model into one that is traced already.

    Parameters
    ----------
    build : callable
        ``build(seed)`` returns a new, compiled model.
    x : array, shape (n, *sample), optional
        Samples for models that get their weights at the first call.

    Returns
    -------
    callable
        ``restart(seed, *, learning_rate=None)`` returns the model with the initial weights of ``build(seed)``, a fresh
        optimiser, and ``keras.utils.set_random_seed(seed)``, which orders the samples. What ``fit`` then does equals,
        to the last bit, what it does to a model that was built after ``keras.utils.set_random_seed(seed)``. It is the
        *same* model each time: take what you need of it before you restart it.

    Raises
    ------
    ValueError
        If a model is not compiled, or has no weights yet and `x` is not given.

    Examples
    --------
    >>> restart = restartable(build)  # doctest: +SKIP
    >>> for seed in range(5):  # doctest: +SKIP
    ...     model = restart(seed)
    ...     model.fit(x_train, epochs=10, verbose=0)
    ...     errors.append(model.reconstruction_error(x_val).mean())
    """

    def built(seed: int) -> keras.Model:
        keras.utils.set_random_seed(check_seed(seed))
        model = build(seed)
        if not getattr(model, "compiled", False):
            raise ValueError(f"build returned {model!r}, which is not compiled; call its compile before returning it")
        if x is not None:
            model(x[:1])
        if not model.variables or not model.built:
            raise ValueError("build returned a model without weights yet; give x, samples to call it with")
        return model

    kept: list[Any] = []  # the model, and its optimiser's first values

    def restart(seed: int, *, learning_rate: float | None = None) -> keras.Model:
        fresh = built(seed)
        if not kept:
            fresh.optimizer.build(fresh.trainable_variables)
            kept.extend([fresh, [variable.numpy() for variable in fresh.optimizer.variables]])
        model, beginning = kept
        for variable, value in zip(model.variables, fresh.variables, strict=True):
            variable.assign(value)
        for variable, value in zip(model.optimizer.variables, beginning, strict=True):
            variable.assign(value)
        if learning_rate is not None:
            model.optimizer.learning_rate = learning_rate
        model.stop_training = False
        return model

    return restart


class PeakMemory:
    """How much the memory of this process grows, at most, inside a ``with`` block (chapter 15).

    Attributes
    ----------
    growth : int
        Bytes, looked at a hundred times a second. Memory that an earlier block gave back is taken again unseen.

    Raises
    ------
    ImportError
        If psutil, which reads the memory, is not installed.

    Examples
    --------
    >>> with PeakMemory() as memory:
    ...     model.fit(dataset)  # doctest: +SKIP
    >>> memory.growth / 1e6  # doctest: +SKIP
    """

    def __init__(self) -> None:
        import psutil

        self._process, self.growth = psutil.Process(), 0

    def __enter__(self) -> "PeakMemory":
        self.growth, self._before, self._over = 0, self._process.memory_info().rss, threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self.growth = max(self.growth, self._process.memory_info().rss - self._before)

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._watcher.join()
        self.growth = max(self.growth, self._process.memory_info().rss - self._before)


class Profile:
    """Where the time inside a ``with`` block goes, as TensorFlow's profiler sees it (chapter 15).

    Each moment belongs to one part, so the parts add up to the whole: *arithmetic* while an operation computes; else
    *input* while a batch is made or awaited; else *dispatch* while a compiled function runs and no operation of it
    computes; else *Python*. Where there is a GPU, an operation computes while the GPU does.

    Attributes
    ----------
    seconds : dict of str to float
        Of each part. Writing an event down takes time too, so a profile is longer than the work without it.

    Examples
    --------
    >>> with Profile() as profile:
    ...     model.fit(dataset)  # doctest: +SKIP
    >>> profile.seconds["Python"] / sum(profile.seconds.values())  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __enter__(self) -> "Profile":
        self._folder = tempfile.TemporaryDirectory()
        tf.profiler.experimental.start(self._folder.name)
        self._block = tf.profiler.experimental.Trace(self._BLOCK)
        self._block.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._block.__exit__(*raised)
        with self._folder:
            tf.profiler.experimental.stop(save=not any(raised))
            if not any(raised):
                self.seconds = self._partition(traced_events(self._folder.name))

    _BLOCK = "tfae.training.Profile"
    _AROUND = ("ExecutorState::Process", "ExecutorDoneCallback", "ThunkExecutor::Execute")  # choose what computes next
    _INSTRUCTION = re.compile(r"(?!while|conditional|call)[\w-]+\.\d+")  # of XLA, in the calling thread if there is one

    @classmethod
    def _partition(cls, events: Iterable[tuple[str, str, str, int, int]]) -> dict[str, float]:
        spans: dict[str, list[tuple[int, int]]] = {"GPU": [], "arithmetic": [], "input": [], "dispatch": []}
        for device, thread, name, start, end in events:
            computes = thread.startswith(("tf_Compute", "tf_numa")) and not name.startswith(cls._AROUND)
            if name == cls._BLOCK:
                whole = start, end
            elif device.startswith("/device:GPU"):
                spans["GPU"].append((start, end))
            elif thread.startswith("tf_data") or "IteratorGetNext" in name:
                spans["input"].append((start, end))
            elif computes or cls._INSTRUCTION.fullmatch(name):
                spans["arithmetic"].append((start, end))
            elif name.startswith("TFE_Py_ExecuteCancelable"):
                spans["dispatch"].append((start, end))
        on_gpu = spans.pop("GPU")
        spans["arithmetic"] = on_gpu or spans["arithmetic"]
        times = np.unique(np.clip([whole, *(span for kind in spans.values() for span in kind)], *whole))
        left, seconds = np.diff(times) / 1e12, {}
        for part, kind in spans.items():
            changes = np.zeros(len(times), int)
            for place, change in zip(np.reshape(kind, (-1, 2)).T, (1, -1), strict=True):
                np.add.at(changes, np.searchsorted(times, np.clip(place, *whole)), change)
            going_on = np.cumsum(changes)[:-1] > 0
            seconds[part] = float(left[going_on].sum())
            left[going_on] = 0
        return seconds | {"Python": float(left.sum())}


# --- choosing the code size ------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class CodeSizeChoice:
    """Held-out errors by code size, and the size they suggest.

    Attributes
    ----------
    code_sizes : tuple of int
    errors, pca_errors : ndarray, shape (sizes, folds)
        Mean squared error per feature on each held-out fold, of the autoencoder and of PCA with as many components.
    chosen : int
        The smallest size whose mean error is within one standard error of the best.
    """

    code_sizes: tuple[int, ...]
    errors: np.ndarray
    pca_errors: np.ndarray
    chosen: int

    def __repr__(self) -> str:
        lines = ["code size   autoencoder        PCA      (mean held-out MSE ± standard error)"]
        for size, errors, pca_errors in zip(self.code_sizes, self.errors, self.pca_errors, strict=True):
            mark = "  <- chosen" if size == self.chosen else ""
            mean, spread, pca = errors.mean(), _standard_error(errors), pca_errors.mean()
            lines.append(f"{size:9d}   {mean:.4f} ± {spread:.4f}   {pca:.4f}{mark}")
        return "\n".join(lines)


def choose_code_size(
    build: Callable[[int], Autoencoder],
    x: np.ndarray,
    code_sizes: Sequence[int],
    *,
    folds: int = 3,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    **fit: Any,
) -> CodeSizeChoice:
    """Choose the code size by cross-validation, with PCA beside it (chapter 03).

    Each size is trained `folds` times, each time without one fold, which is then reconstructed. A larger code almost
    never does worse on held-out data, so the smallest error says little; the choice is the smallest code that is not
    measurably worse than the best (the one-standard-error rule [1]_).

    Parameters
    ----------
    build : callable
        ``build(code_size)`` returns a new, compiled autoencoder.
    x : ndarray, shape (n, ...)
        Training samples. Never pass test samples: a choice is training.
    code_sizes : sequence of int
    folds : int
        At least 2.
    seed : int
        Fixes the folds, the initial weights that ``build`` draws without a seed of its own, and the sample order.
    progress : callable, optional
        Called with a line of text before each of the ``len(code_sizes) * folds`` trainings; ``print`` will do.
    **fit
        Goes to ``fit``: ``epochs=10, batch_size=128``.

    Returns
    -------
    CodeSizeChoice

    Raises
    ------
    ValueError
        If `code_sizes` is empty or holds anything but whole numbers of at least 1, if `x` has fewer samples than
        folds, holds NaN, or a code size exceeds what PCA can fit on a fold.

    References
    ----------
    .. [1] T. Hastie, R. Tibshirani and J. Friedman, "The Elements of Statistical Learning", 2nd ed., section 7.10.
    """
    x = check_samples(x, None)
    sizes = tuple(sorted({check_size(size, "a size in code_sizes") for size in code_sizes}))
    if not sizes:
        raise ValueError("code_sizes is empty; give the sizes to compare, such as (2, 8, 32)")
    if check_size(folds, "folds") < 2 or folds > len(x):
        raise ValueError(f"folds is {folds}; it must be between 2 and the number of samples, {len(x)}")
    if not callable(build):
        raise ValueError(f"build is {build!r}; it must be a function of the code size that returns a compiled model")
    flat = x.reshape(len(x), -1)
    splits = list(KFold(folds, shuffle=True, random_state=check_seed(seed)).split(x))
    largest = min(flat.shape[1], min(len(train) for train, _ in splits))
    if sizes[-1] > largest:
        raise ValueError(f"the code size {sizes[-1]} is larger than {largest}, the most that a fold of x can fit")

    errors = np.empty((len(sizes), folds))
    pca_errors = np.empty_like(errors)
    for j, (train, held_out) in enumerate(splits):
        pca = PCA(sizes[-1], random_state=seed).fit(flat[train])
        centred = flat[held_out] - pca.mean_
        for i, size in enumerate(sizes):
            axes = pca.components_[:size]
            pca_errors[i, j] = np.mean((centred - centred @ axes.T @ axes) ** 2)
    for i, size in enumerate(sizes):
        restart = restartable(partial(_of_size, build, size), x=x)
        for j, (train, held_out) in enumerate(splits):
            if progress:
                progress(f"code size {size}, fold {j + 1}/{folds}")
            model = restart(seed + j)
            model.fit(x[train], **({"verbose": 0} | fit))
            errors[i, j] = model.reconstruction_error(x[held_out]).mean()
    return CodeSizeChoice(sizes, errors, pca_errors, _smallest_within_one_standard_error(sizes, errors))


def _of_size(build: Callable[[int], Autoencoder], size: int, seed: int) -> Autoencoder:
    """Build a model whose initial weights, where they have no seed of their own, follow the global one."""
    return build(size)


def _smallest_within_one_standard_error(sizes: Sequence[int], errors: np.ndarray) -> int:
    best = int(errors.mean(axis=1).argmin())
    limit = errors[best].mean() + _standard_error(errors[best])
    return next(size for size, row in zip(sizes, errors, strict=True) if row.mean() <= limit)


def _standard_error(errors: np.ndarray) -> float:
    return float(errors.std(ddof=1) / np.sqrt(len(errors)))
