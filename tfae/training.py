"""Stop rules, progress, interruption and resumption, and the choice of the code size (chapter 03).

Training itself stays Keras: ``model.compile(...)``, ``model.fit(...)``. What is here are callbacks to give to ``fit``,
for any Keras model, and one experiment built on it.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold

from tfae.checks import check_samples, check_seed, check_size
from tfae.distribute import is_chief
from tfae.files import written_whole
from tfae.internals import start_at_epoch, strategy_of
from tfae.models import Autoencoder
from tfae.replicas import numbers_of_replicas

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
    patience : int
        Epochs without an improvement of `min_delta` before training stops.
    monitor, min_delta, restore_best_weights, **options
        As in ``keras.callbacks.EarlyStopping``.

    Raises
    ------
    ValueError
        After the first epoch, if `monitor` was not logged.
    """

    def __init__(
        self,
        patience: int = 5,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        restore_best_weights: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            monitor=monitor,
            patience=check_size(patience, "patience"),
            min_delta=min_delta,
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

    References
    ----------
    .. [1] S. R. Bowman et al., "Generating sentences from a continuous space", arXiv:1511.06349.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = check_size(epochs, "epochs")

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._full = float(self.model.beta.numpy())

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.model.beta.assign(self._full * min(1.0, epoch / self.epochs))

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self.model.beta.assign(self._full)


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
        Before training, if the checkpoint is of another model or was made from other data, batch size or seed, or if
        the workers do not find the same one.
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

    def __init__(self, path: str | Path, seed: int = 0) -> None:
        super().__init__()
        self.path, self.seed = Path(path), check_seed(seed)
        self.history: dict[str, list[float]] = {}
        self._epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._data: dict[str, Any] = {}

    def batches(self, x: np.ndarray, y: np.ndarray | None = None, batch_size: int = 32) -> tf.data.Dataset:
        """Return `x`, or pairs of `x` and `y`, in batches whose order depends on the seed and the epoch alone."""
        x = check_samples(x, None)
        if y is not None and len(y) != len(x):
            raise ValueError(f"x holds {len(x)} samples and y holds {len(y)}; they must be as many")
        n, batch_size = len(x), check_size(batch_size, "batch_size")
        self._data = {"samples": n, "batch_size": batch_size, "seed": self.seed}
        arrays = (tf.constant(x),) if y is None else (tf.constant(x), tf.constant(y))

        def shuffled(_: Any) -> tf.data.Dataset:
            seed = tf.stack([tf.constant(self.seed, tf.int64), self._epoch.read_value()])
            order = tf.random.experimental.stateless_shuffle(tf.range(n), seed)
            return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

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
        about = {"epochs": epoch + 1, "history": self.history, "data": self._data}
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
                arrays = [archive[key] for key in sorted(archive.files) if key != "about"]
        except Exception as error:
            raise OSError(
                f"{self.path} is not a checkpoint that can be read: {error}. Delete it to start over."
            ) from error
        state = self._state()
        if [array.shape for array in arrays] != [tuple(variable.shape) for variable in state]:
            raise ValueError(f"{self.path} holds a run of another model. Delete it, or give this run its own file.")
        if about["data"] != self._data:
            raise ValueError(
                f"{self.path} holds a run on {about['data']}, this one has {self._data}. Delete it, or give this run "
                f"its own file."
            )
        for variable, array in zip(state, arrays, strict=True):
            variable.assign(array)
        self.history = about["history"]
        return about["epochs"]


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
        restart = _restartable(build, size, x[:1])
        for j, (train, held_out) in enumerate(splits):
            if progress:
                progress(f"code size {size}, fold {j + 1}/{folds}")
            keras.utils.set_random_seed(seed + j)
            model = restart()
            model.fit(x[train], verbose=0, **fit)
            errors[i, j] = model.reconstruction_error(x[held_out]).mean()
    return CodeSizeChoice(sizes, errors, pca_errors, _smallest_within_one_standard_error(sizes, errors))


def _restartable(build: Callable[[int], Autoencoder], size: int, x: np.ndarray) -> Callable[[], Autoencoder]:
    """Return a function that gives one model new weights and a fresh optimiser: Keras traces it once, not each time."""
    model = build(size)
    model.reconstruct(x)  # an unbuilt model has no weights yet
    model.optimizer.build(model.trainable_variables)
    fresh_optimizer = [variable.numpy() for variable in model.optimizer.variables]

    def restart() -> Autoencoder:
        other = build(size)
        other.reconstruct(x)
        for variable, new in zip(model.variables, other.variables, strict=True):
            variable.assign(new)
        for variable, value in zip(model.optimizer.variables, fresh_optimizer, strict=True):
            variable.assign(value)
        return model

    return restart


def _smallest_within_one_standard_error(sizes: Sequence[int], errors: np.ndarray) -> int:
    best = int(errors.mean(axis=1).argmin())
    limit = errors[best].mean() + _standard_error(errors[best])
    return next(size for size, row in zip(sizes, errors, strict=True) if row.mean() <= limit)


def _standard_error(errors: np.ndarray) -> float:
    return float(errors.std(ddof=1) / np.sqrt(len(errors)))
